"""The backward pass of a function with a rule of its own, as a trace."""

from typing import Any

import jax

from fnn.function import internals


def backwards(eqn: Any) -> Any:
    """Trace the backward pass of one operation of a trace.

    Args:
        eqn: the operation.

    Returns:
        a closed jaxpr of its operands and the cotangents of its floating results, which returns the
        cotangents of its floating operands; None where it has none that can be traced.
    """
    floats = [k for k, v in enumerate(eqn.invars) if internals.differentiable(v.aval)]
    results = [k for k, v in enumerate(eqn.outvars) if internals.differentiable(v.aval)]

    def pull(*values: Any) -> Any:
        operands, dys = list(values[: len(eqn.invars)]), values[len(eqn.invars) :]

        def forward(*own: Any) -> list[Any]:
            for k, value in zip(floats, own, strict=True):
                operands[k] = value
            outs = internals.bind(eqn, operands)
            return [outs[k] for k in results]

        return jax.vjp(forward, *(operands[k] for k in floats))[1](list(dys))

    own = [v.aval for v in eqn.invars] + [eqn.outvars[k].aval for k in results]
    try:
        return jax.make_jaxpr(pull)(*(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in own))
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return None  # an operand that is no array, or a rule that is none of reverse mode
