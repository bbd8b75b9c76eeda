"""What cannot be checked is turned away in a sentence that says what would be right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjpcheck import Verdict, gradient, pair

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@jax.custom_vjp
def double(x):
    return 2 * x


double.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))


def says(kind, *words):
    return pytest.raises(kind, match=".*".join(words))


def test_no_function():
    with says(TypeError, "expected a function to check, got int"):
        gradient(3, X)  # pyright: ignore[reportArgumentType]


def test_integers_returned():
    with says(TypeError, "expected .* to return floating-point values", "int32"):
        gradient(lambda x: jnp.argmax(x), X)


def test_integers_given():
    with says(TypeError, "expected a floating-point argument", "index: int32"):
        gradient(lambda index: index * 1.0, np.arange(3, dtype=np.int32))


def test_a_string_given():
    with says(TypeError, "expected arrays as arguments, got mode of type str", "close over it"):
        gradient(lambda x, mode: x, X, "same")


def test_a_string_returned():
    with says(TypeError, "expected .* to return arrays"):
        gradient(lambda x: "y", X)


def test_keyword_arguments_needed():
    def scaled(x, *, by):
        return x * by

    with says(TypeError, "scaled needs arguments", "close over", "lambda x: scaled"):
        gradient(scaled, X)


def test_too_many_arguments():
    with says(TypeError, "takes other arguments than it was given"):
        gradient(lambda x: x, X, X)


def test_a_plain_function_that_jax_cannot_differentiate():
    def search(x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 100, lambda y: y * 2, x)

    with says(TypeError, "search has no derivative to check", "jax.custom_vjp", "vjpcheck.pair"):
        gradient(search, jnp.abs(X) + 1)
    with says(TypeError, "has no derivative to check"):
        gradient(lambda x: np.sin(np.asarray(x)), X)


def test_a_rule_around_a_callback_is_measured():
    @jax.custom_vjp
    def sine(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, dy: (jnp.cos(x) * dy,))
    assert gradient(sine, X).verdict is not Verdict.FAIL


def test_nothing_to_differentiate_by():
    with says(ValueError, "expected arguments with elements"):
        gradient(double, np.zeros((0, 3), np.float32))


def test_a_reference_of_another_kind():
    with says(TypeError, "expected a function to check, got int"):
        gradient(double, X, reference=3)  # pyright: ignore[reportArgumentType]
    report = gradient(double, X, reference=lambda x: 2 * x.sum())
    assert report.mistake == "forward differs"


def test_infinite_inputs_raise_nothing():
    assert gradient(double, np.full((2, 3), np.inf, np.float32)).verdict is not Verdict.FAIL


def test_randomness():
    with says(ValueError, "another function each time", "pass the randomness in"):
        gradient(lambda x: x * np.random.standard_normal(), X)


def test_a_custom_vjp_without_rules():
    with says(TypeError, "expected a custom_vjp function with its rules", "defvjp"):
        gradient(jax.custom_vjp(lambda x: x), X)


def test_options():
    with says(ValueError, "expected level to be one of 'quick', 'standard', 'deep', got 'fast'"):
        gradient(double, X, level="fast")  # pyright: ignore[reportArgumentType]
    with says(ValueError, "expected transforms to be one of"):
        gradient(double, X, transforms=("pmap",))
    with says(ValueError, "expected wrt to number some of the 1 arguments"):
        gradient(double, X, wrt=1)
    with says(TypeError, "expected key to be an int or a random key"):
        gradient(double, X, key="k")


def test_a_function_that_raises():
    def fussy(x):
        raise RuntimeError("no weights today")

    with says(ValueError, "fussy raises RuntimeError on these arguments: no weights today"):
        gradient(fussy, X)


def test_a_function_that_prints_is_checked_and_told_so(capsys):
    @jax.custom_vjp
    def loud(x):
        print("hello")
        return 2 * x

    loud.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))
    report = gradient(loud, X, level="quick")
    assert report.verdict is Verdict.PASS
    assert "loud prints" in report.notes[0]
    assert capsys.readouterr().out.startswith("hello")


def test_a_function_that_cannot_be_differentiated_is_measured():
    def forward(x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 100, lambda y: y * 2, x), x

    report = pair(forward, lambda x, dy: (dy * 0 - 1.0,), jnp.abs(X) + 1)
    assert report.verdict is Verdict.FAIL
    assert "finite differences" in report.checks


def test_a_pair_that_is_no_pair():
    with says(ValueError, "expected forward to give \\(out, residuals\\)"):
        pair(lambda x: x, lambda r, dy: (dy,), X)


def test_keys_may_be_given_in_every_form():
    for key in (3, jax.random.key(3), jax.random.PRNGKey(3)):
        assert gradient(double, X, level="quick", key=key).verdict is Verdict.PASS
