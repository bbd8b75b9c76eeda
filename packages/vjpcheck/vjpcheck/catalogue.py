"""Every mistake that has a name: how plain it is, and what it means. docs/mistakes.md is printed from it."""

from enum import StrEnum


class Kind(StrEnum):
    """A mistake by its name, which is its value.

    Of the mistakes that explain as much, the one of the least `cost` is named. About 1 costs what is done to
    a whole cotangent, and seen at once; 2 a slip that is made every day: a sign, a sum, a transpose, a mask;
    3 a path that is left out, or a factor on it; 4 another value or formula, of which many would fit. Where a
    mistake of the same name is found in a less telling way, `less` of its own is added there. 0 is what is
    not searched for, but seen: in the rules as they are written, or over a range of inputs.
    """

    cost: float
    meaning: str

    def __new__(cls, name: str, cost: float, meaning: str) -> "Kind":  # noqa: D102
        kind = str.__new__(cls, name)
        kind._value_, kind.cost, kind.meaning = name, cost, meaning
        return kind

    __repr__ = str.__repr__  # as the text that it is

    # fmt: off
    # of the rules as they are written
    MISSING_GRADIENT = ("missing gradient", 0.0,
        "A rule returns None for an argument that has a gradient. JAX takes None for zeros.")
    GRADIENT_FOR_INTEGERS = ("gradient for integers", 0.0,
        "An integer argument gets a cotangent. Its own is None, or zeros of `float0`.")
    WRONG_TREE = ("wrong tree", 0.0,
        "The cotangents are not one for each argument, each a tree like its argument.")
    WRONG_SHAPE = ("wrong shape", 0.0,
        "A cotangent has another shape than its argument. Sum it over what was broadcast.")
    WRONG_DTYPE = ("wrong dtype", 0.0,
        "A cotangent has another dtype than its argument. Cast it back at the end of the rule.")
    BROADCAST_NOT_SUMMED = ("broadcast not summed", 2.0,
        "What is repeated on the way forward is to be summed on the way back.")
    RULE_RAISES = ("rule raises", 0.0,
        "A rule raises where the function runs.")
    NOT_TRACEABLE = ("not traceable", 0.0,
        "A rule looks at values, so that `jit`, `vmap` and `scan` cannot run it.")
    LEAKED_TRACER = ("leaked tracer", 0.0,
        "A rule uses a traced value from outside. Hand it over in the residuals.")
    RESIDUAL_CHANGED = ("residual changed", 0.0,
        "A rule writes into a residual. A second cotangent then meets another one.")
    NOT_REPEATABLE = ("not repeatable", 0.0,
        "The same inputs give another gradient on a second run: a rule keeps state.")
    FORWARD_DIFFERS = ("forward differs", 0.0,
        "The forward rule does not return what the function itself returns.")
    LOW_PRECISION = ("low precision", 0.0,
        "The formula is right in float64, and rounds worse here than autodiff does.")
    NOT_FINITE = ("not finite", 0.0,
        "The gradient overflows or is NaN where the right one is finite.")
    # of the incoming cotangent
    COTANGENT_IGNORED = ("cotangent ignored", 1.0,
        "Ones stand where the cotangent should: a loss may be scaled, or averaged.")
    FIRST_ELEMENT_OF_THE_COTANGENT = ("first element of the cotangent", 1.0,
        "One element of the cotangent is used for all, as if they were equal.")
    COTANGENT_AVERAGED = ("cotangent averaged", 1.6,
        "The mean or the sum of the cotangent stands for each of its elements.")
    COTANGENT_CLIPPED = ("cotangent clipped", 1.2,
        "The gradient is right for small cotangents and stays behind for large ones.")
    COTANGENT_NOT_LINEAR = ("cotangent not linear", 1.5,
        "The gradient does not grow in proportion to the cotangent.")
    COTANGENTS_SWAPPED = ("cotangents swapped", 1.5,
        "The cotangent of one output is used for another.")
    COTANGENT_FOR_A_VALUE = ("cotangent for a value", 3.9,
        "A cotangent stands in a product where a value of the forward pass should.")
    RULE_OF_THE_OTHER_OPERAND = ("rule of the other operand", 3.9,
        "The cotangent of one operand is made by the rule of the other one.")
    FUNCTION_FOR_ITS_DERIVATIVE = ("function for its derivative", 3.3,
        "The cotangent is put into the function, not times its derivative.")
    STATE_FOR_A_GRADIENT = ("state for a gradient", 2.0,
        "The value itself is returned as its cotangent. Leave it out by `wrt=`.")
    # of one gradient as a whole
    ZERO_GRADIENT = ("zero gradient", 1.0,
        "The gradient is zero where the right one is not.")
    SIGN = ("sign", 2.0,
        "The gradient, or one path of it, has the opposite sign.")
    FACTOR = ("factor", 2.95,
        "The gradient, or one path of it, is off by a factor that is no size of any axis.")
    MEAN_FOR_SUM = ("mean for sum", 2.7,
        "It is divided by the size of an axis, as if the function took a mean there.")
    SUM_FOR_MEAN = ("sum for mean", 2.7,
        "The division by the size of an axis is left out, which the function has.")
    MEAN_OVER_THE_WRONG_AXIS = ("mean over the wrong axis", 2.6,
        "A sum or a mean runs over other axes than those of the forward pass.")
    SUMMED_TOO_FAR = ("summed too far", 2.6,
        "It is summed over an axis along which its elements differ.")
    CONSTANT_LEFT_OUT = ("constant left out", 2.9,
        "A constant factor of the forward pass is not in its derivative.")
    CONSTANT_APPLIED_TWICE = ("constant applied twice", 2.9,
        "A constant factor of the forward pass is in the derivative twice.")
    CONSTANT_ADDED = ("constant added", 2.0,
        "A constant is added to the gradient, whatever the cotangent.")
    REGULARISER_ADDED = ("regulariser added", 2.0,
        "A multiple of the param is added to the gradient, whatever the cotangent.")
    LEAVES_SWAPPED = ("leaves swapped", 1.5,
        "The gradients of two arguments are exchanged.")
    PARTS_EXCHANGED = ("parts exchanged", 2.5,
        "The parts of one array, such as the gates of a cell, get each other's cotangents.")
    TRANSPOSE_MISSING = ("transpose missing", 2.0,
        "A matrix, or the way that axes were moved, is not transposed on the way back.")
    ORDER_REVERSED = ("order reversed", 2.0,
        "It runs forwards where it should run backwards, or the reverse.")
    ORDER_OF_ELEMENTS = ("order of elements", 2.5,
        "The right numbers are at other places.")
    ROWS_DROPPED = ("rows dropped", 2.8,
        "Some rows get no gradient, such as those that do not fill a tile.")
    ROWS_SHIFTED = ("rows shifted", 2.6,
        "What belongs to one row or index goes to its neighbour.")
    # of a path or an operation
    TERM_DROPPED = ("term dropped", 3.0,
        "One of several paths from an argument to the output is left out.")
    DERIVATIVE_MISSING = ("derivative missing", 2.4,
        "A path lacks the factor that an operation on it has as its derivative.")
    DERIVATIVE_AT_THE_OUTPUT = ("derivative at the output", 2.4,
        "A derivative is taken at a function's output, not at its input.")
    ANOTHER_FORMULA = ("another formula", 3.3,
        "The derivative of an operation is that of a similar one, or has a power too many.")
    ANOTHER_VALUE = ("another value", 2.6,
        "A product reads another value than the forward pass had there.")
    DIAGONAL_ONLY = ("diagonal only", 2.5,
        "Only the diagonal of a Jacobian is used, as if each output hung on one input.")
    WEIGHTS_UPDATED_EARLY = ("weights updated early", 2.3,
        "The cotangent passes weights that its step had updated already.")
    LABEL_SMOOTHING_LEFT_OUT = ("label smoothing left out", 2.9,
        "The derivative of a smoothed loss is that of the loss without smoothing.")
    # of choices, indices and windows
    MASK_IGNORED = ("mask ignored", 2.5,
        "What the forward pass masks, or does not choose, gets a cotangent.")
    MASK_INVERTED = ("mask inverted", 2.5,
        "The cotangent goes where the mask is off.")
    MASK_DRAWN_AGAIN = ("mask drawn again", 3.4,
        "A random mask is drawn anew on the way back, with another result.")
    TIES_COUNTED_TWICE = ("ties counted twice", 2.6,
        "Each of several equal maxima gets the whole cotangent.")
    SCATTER_OVERWRITES = ("scatter overwrites", 2.0,
        "Cotangents that fall on one place overwrite one another where they should add up.")
    SCATTER_AVERAGES = ("scatter averages", 2.0,
        "Cotangents that fall on one place are averaged where they should add up.")
    WINDOWS_SHIFTED = ("windows shifted", 2.6,
        "Windows lie one place beside those of the forward pass.")
    STRIDES_IGNORED = ("strides ignored", 2.6,
        "The windows lie side by side, as if the stride were one.")
    # of spectra
    SPECTRUM_NOT_CONJUGATED = ("spectrum not conjugated", 2.3,
        "A product of complex numbers is pulled back without a conjugate.")
    HALF_OF_THE_SPECTRUM = ("half of the spectrum", 2.5,
        "The frequencies that a real transform leaves out are counted wrongly.")
    # of a range of inputs: nothing plainer explains it
    WRONG_AT_ZERO = ("wrong at zero", 0.0,
        "It is right at the inputs given, and wrong where some are zero.")
    WRONG_AT_SMALL_INPUTS = ("wrong at small inputs", 0.0,
        "It is right at the inputs given, and wrong at small ones.")
    WRONG_AT_LARGE_INPUTS = ("wrong at large inputs", 0.0,
        "It is right at the inputs given, and wrong at large ones.")
    WRONG_AT_LARGE_OR_SMALL_INPUTS = ("wrong at large or small inputs", 0.0,
        "It is right at the inputs given, not where sizes differ widely.")
    # fmt: on


MISTAKES: dict[str, str] = {kind.value: kind.meaning for kind in Kind}
