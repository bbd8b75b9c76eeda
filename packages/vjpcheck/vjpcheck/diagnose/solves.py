"""The mistakes that linear algebra invites: a system that is not transposed, a spectrum not conjugated."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Back, Fault, is_square
from vjpcheck.interpret import Operation, evaluate
from vjpcheck.jaxprs import opened


def solved(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of solving a linear system, by any method or a triangular one.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    out = operation.equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    square = len(out) > 1 and out[-1] == out[-2] > 1
    texts = ["the system is solved as on the way forward, not transposed"]
    texts += ["the solution is not transposed", "neither the system nor the solution is transposed"] * square
    for words, (plain, turned) in zip(texts, ((True, False), (False, True), (True, True)), strict=False):
        rule = lambda b, p=plain, t=turned: _of_system(b, p, t)  # noqa: E731
        yield Fault(Kind.TRANSPOSE_MISSING, words, rule, less=0.3)
    for i in floating:
        if is_square(inputs[i]):
            words = f"the cotangent of operand {i} is not transposed"
            rule = lambda b, i=i: {i: jnp.swapaxes(b.right[i], -1, -2)}  # noqa: E731
            yield Fault(Kind.TRANSPOSE_MISSING, words, rule, less=0.4)


def _of_system(b: Back, plain: bool, turned: bool) -> dict[int, Any]:
    """Return the cotangents of the right-hand side and of what the system is made of."""
    params, last = b.operation.equation.params, len(b.inputs) - 1
    x, y = b.outputs[0], b.inputs[last]
    db = b.operation.run(*b.inputs[:-1], b.dy)[0] if plain else b.right[last]
    if "const_lengths" in params:
        n = params["const_lengths"].matvec
        constants = [i for i in range(n) if b.right[i] is not None]
        body, known = opened(params["jaxprs"].matvec)

        def product(some: Any, x: Any) -> Any:
            full = list(b.inputs[:n])
            for i, c in zip(constants, some, strict=True):
                full[i] = c
            return evaluate(body, known, [*full, x])[0]
    else:
        constants = [0]

        def product(some: Any, x: Any) -> Any:
            a = (jnp.tril if params["lower"] else jnp.triu)(some[0], -1 if params["unit_diagonal"] else 0)
            a = a + jnp.eye(a.shape[-1]) if params["unit_diagonal"] else a
            a = jnp.swapaxes(a, -1, -2) if params["transpose_a"] else a
            return a @ x if params["left_side"] else x @ a

    x = jnp.swapaxes(x, -1, -2) if turned else x
    (found,) = jax.vjp(lambda some: product(some, x), [b.inputs[i] for i in constants])[1](-db)
    return {**dict(zip(constants, found, strict=True)), last: db.astype(y.dtype)}


def factored(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return those of a decomposition: the cotangent of its matrix is transposed.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if 0 in floating and is_square(inputs[0]):
        text = "the matrix is not transposed in its cotangent"
        yield Fault(Kind.TRANSPOSE_MISSING, text, lambda b: {0: jnp.swapaxes(b.right[0], -1, -2)}, less=0.3)


def conjugated(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return those of a product of complex numbers: the other factor is, or is not, conjugated.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if operation.equation.primitive.name not in ("mul", "dot_general") or len(inputs) != 2:
        return
    for i in floating:
        if jnp.issubdtype(inputs[1 - i].dtype, jnp.complexfloating):
            text = f"operand {1 - i} is not conjugated"
            rule = lambda b, i=i: {i: b.pull(b.dy, **{f"at{1 - i}": jnp.conj(b.inputs[1 - i])})[i]}  # noqa: E731
            yield Fault(Kind.SPECTRUM_NOT_CONJUGATED, text, rule)


def transformed(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of a Fourier transform, whose transpose has the other sign, or other weights.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    kind, lengths = operation.equation.params["fft_type"].name, operation.equation.params["fft_lengths"]
    if kind != "IRFFT":
        text = "the spectrum's cotangent is not conjugated"
        yield Fault(Kind.SPECTRUM_NOT_CONJUGATED, text, lambda b: {0: b.pull(jnp.conj(b.dy))[0]})
    if kind != "RFFT":
        text = "the cotangent of its input is not conjugated"
        yield Fault(Kind.SPECTRUM_NOT_CONJUGATED, text, lambda b: {0: jnp.conj(b.right[0])})
    if kind in ("RFFT", "IRFFT"):
        bins = np.arange(lengths[-1] // 2 + 1)
        inner = np.where((bins > 0) & (2 * bins < lengths[-1]), 2.0, 1.0)
        if kind == "RFFT":
            text = "each inner frequency of the half spectrum is counted twice"
            yield Fault(Kind.HALF_OF_THE_SPECTRUM, text, lambda b: {0: b.pull(b.dy * inner)[0]})
        else:
            text = "each inner frequency of the half spectrum is counted once"
            yield Fault(Kind.HALF_OF_THE_SPECTRUM, text, lambda b: {0: b.right[0] / inner})
