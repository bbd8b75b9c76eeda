"""`vjpcheck module:function "f32[6,5], f32[5,4], i32[6]<4"`: a check without a test suite.

Each argument is a dtype and a shape: f32[6,5] is drawn from the normal distribution, i32[6]<4 from the
integers 0 to 3, bool[6] by tossing a coin. A word after it names where the values lie: f32[6]:positive,
f32[6]:unit (0 to 1) and f32[6]:sorted (rising along the last axis). `module` may be a path, as in
`layers/dense.py:dense`. The exit status is 0 for PASS, 1 for FAIL, 2 for a command line that does not read
as one, 3 where nothing could be checked, and 4 for INCONCLUSIVE. `python -m vjpcheck` is the same command.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.checker import gradient
from vjpcheck.report import Verdict

_DTYPES = {
    "f16": jnp.float16, "bf16": jnp.bfloat16, "f32": jnp.float32, "f64": jnp.float64,
    "i8": jnp.int8, "i32": jnp.int32, "i64": jnp.int64, "u32": jnp.uint32, "bool": jnp.bool_,
    "c64": jnp.complex64, "c128": jnp.complex128,
}  # fmt: skip
_WIDE = ("f64", "i64", "c128")
_DOMAINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    "positive": lambda x: np.exp(0.5 * x),
    "unit": lambda x: 1 / (1 + np.exp(-x)),
    "sorted": lambda x: np.sort(x, -1) if x.ndim else x,
}
_ARGUMENT = re.compile(r"\s*(\w+)\[([\d,\s]*)\](?:<(\d+))?(?::(\w+))?\s*(?:,|$)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status, which the docstring of the module lists."""
    parser = argparse.ArgumentParser(prog="vjpcheck", description="Check a hand-written gradient.")
    parser.add_argument("function", help="module:function or path.py:function")
    parser.add_argument("arguments", help='their dtypes and shapes: "f32[6,5], i32[6]<4, f32[3]:positive"')
    parser.add_argument("--level", choices=("quick", "standard", "deep"), default="standard")
    parser.add_argument(
        "--transforms", default="", help="comma-separated: jit, vmap, scan, checkpoint, devices"
    )
    parser.add_argument("--surrogate", help="the function whose gradient the backward is meant to give")
    parser.add_argument("--reference", help="a function with the right values and the right gradient")
    parser.add_argument("--seconds", type=float, help="start no further part of the check after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(argv)
    transforms = tuple(filter(None, (t.strip() for t in given.transforms.split(","))))
    others: dict[str, Any] = {name: getattr(given, name) for name in ("surrogate", "reference")}
    wide = any(name in _WIDE for name in re.findall(r"\w+", given.arguments))
    try:
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            args = arguments(given.arguments, given.seed)
            others = {name: load(f) for name, f in others.items() if f}
            report = gradient(
                load(given.function), *args, level=given.level, transforms=transforms, key=given.seed,
                seconds=given.seconds, **others,
            )  # fmt: skip
    except (TypeError, ValueError) as error:
        print(f"vjpcheck: {error}", file=sys.stderr)
        return 3
    print(json.dumps(report.to_json(), indent=1) if given.json else report)
    return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 4}[report.verdict]


def arguments(text: str, seed: int = 0) -> list[Any]:
    """Draw the arrays that a text describes.

    Args:
        text: the dtypes, shapes and domains, as in the docstring of the module: "f32[6,5], i32[6]<4".
        seed: the seed of the generator.

    Returns:
        a list of JAX arrays, in the order of the text.

    Raises:
        ValueError: where the text does not read as such a list.
    """
    rng, found, at = np.random.default_rng(seed), [], 0
    while at < len(text):
        match = _ARGUMENT.match(text, at)
        if match is None or match[1] not in _DTYPES or (match[4] or "") not in _DOMAINS:
            raise ValueError(
                f'expected arguments like "f32[6,5], i32[6]<4, f32[3]:positive" ({", ".join(_DTYPES)}; '
                f"domains {', '.join(filter(None, _DOMAINS))}), got {text[at:]!r}"
            )
        shape = tuple(int(n) for n in match[2].split(",") if n.strip())
        found.append(_draw(rng, _DTYPES[match[1]], shape, int(match[3] or 2), match[4] or ""))
        at = match.end()
    return found


def _draw(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...], below: int, domain: str) -> Any:
    if not jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(rng.integers(0, below, shape), dtype)
    drawn = _DOMAINS[domain](rng.standard_normal(shape))
    if jnp.issubdtype(dtype, jnp.complexfloating):
        drawn = drawn + 1j * rng.standard_normal(shape)
    return jnp.asarray(drawn).astype(dtype)


def load(name: str) -> Callable[..., Any]:
    """Import `module:function` or `path.py:function`; raises ValueError where there is no such thing."""
    module, _, attribute = name.rpartition(":")
    if not module or not attribute:
        raise ValueError(f"expected module:function, got {name!r}")
    try:
        loaded = _from_path(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except (ImportError, FileNotFoundError) as error:
        raise ValueError(f"expected a module to import, got {module!r}: {error}") from None
    found: Any = loaded
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"expected {module} to have {attribute!r}, it does not")
        found = getattr(found, part)
    return found


def _from_path(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def command() -> int:
    """Run the command line for modules of the folder that it is called in; returns the exit status."""
    sys.path.insert(0, "")
    return main()


if __name__ == "__main__":
    raise SystemExit(command())
