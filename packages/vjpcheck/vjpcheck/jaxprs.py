"""All that the checker knows of JAX beyond its public names: how an equation is bound, what it holds, who
wrote it, and what a function with a rule of its own is made of.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "composite": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # the primitives that only run a jaxpr, and where they keep it

RULED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")  # those that have a rule of their own


def bind(equation: Any, inputs: Sequence[Any], **changed: Any) -> list[Any]:
    """Run one equation on other inputs, a call of any kind as a whole.

    Args:
        equation: the equation of a jaxpr.
        inputs: a value for each of its operands.
        changed: parameters of the primitive to replace, by name.

    Returns:
        a list of its outputs.
    """
    params = equation.primitive.get_bind_params(equation.params | changed)
    outputs = equation.primitive.bind(*inputs, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def held(equation: Any) -> Iterator[Jaxpr]:
    """Return the jaxprs that an equation holds: bodies, branches, kernels, how a reduction combines two."""
    for value in equation.params.values():
        for inner in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(inner, "jaxpr", inner)
            if isinstance(inner, Jaxpr):
                yield inner


def every(jaxpr: Any) -> Iterator[Any]:
    """Return the equations of a jaxpr and of all that it holds."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in held(equation):
            yield from every(inner)


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """Return a jaxpr and its constants, closed or not."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def platform_branch(equation: Any) -> int | None:
    """Return the branch that runs on this machine of a conditional over platforms; None for any other."""
    platforms = equation.params.get("branches_platforms")
    if platforms is None:
        return None
    here = jax.default_backend()
    names = {"gpu": ("gpu", "cuda", "rocm")}.get(here, (here,))
    default = next((n for n, p in enumerate(platforms) if p is None), None)
    return next((n for n, p in enumerate(platforms) if p and set(p) & set(names)), default)


def frames(equation: Any) -> list[tuple[str, int]]:
    """Return the file and line of every frame that an equation was written in, the innermost first."""
    traceback = getattr(equation.source_info, "traceback", None)
    found = getattr(traceback, "frames", None) or ()
    return [(f.file_name, getattr(f, "start_line", 0) or f.line_num) for f in found]


def instructions(equation: Any) -> list[tuple[str, int]]:
    """Return the file and instruction of every frame: these tell two calls on one line apart."""
    traceback = getattr(equation.source_info, "traceback", None)
    if traceback is None:
        return []
    return [(code.co_filename, at) for code, at in zip(*traceback.raw_frames(), strict=True)]


def rules(f: Any) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
    """Return the forward and backward rule of a `custom_vjp` function; None where there are none."""
    if not isinstance(f, jax.custom_vjp) or f.symbolic_zeros:
        return None, None
    return getattr(f, "fwd", None), getattr(f, "bwd", None)


def lacks_rule(f: Any) -> bool:
    """Whether `f` is a `custom_jvp` function that was never given a rule."""
    return isinstance(f, jax.custom_jvp) and getattr(f, "jvp", None) is None


def fixed_positions(f: Any) -> tuple[int, ...]:
    """Return the `nondiff_argnums` of a function with a rule of its own, none for any other."""
    return tuple(f.nondiff_argnums) if isinstance(f, jax.custom_vjp | jax.custom_jvp) else ()


def primal(f: Any) -> Callable[..., Any]:
    """Return a function with a rule of its own without the rule, any other as it is."""
    return f.fun if isinstance(f, jax.custom_vjp | jax.custom_jvp) else f
