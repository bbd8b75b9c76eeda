"""A row of the tables: a wrong call, and what is done with what its error suggests."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

KEY = jax.random.key(0)
X = jnp.ones((4, 6), jnp.float32)
SCOPE = vars(fnn) | {"fnn": fnn, "jax": jax, "jnp": jnp, "np": np, "optax": optax, "key": KEY}
SCOPE |= {"j": 3, "k": 2, "n": 4, "V": 5}


@dataclass(frozen=True)
class Late:
    """A name's value that is made when it is asked for."""

    make: Callable[[], Any]


def drawn(net: Any, x: Any) -> Any:
    """Draw params with NumPy, which compiles nothing."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: fnn.init(net, KEY, x))
    return jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape) / 2, p.dtype), shapes)


@dataclass(frozen=True)
class Row:
    """`wrong` raises; `use` gets the value of the suggested code, which knows the `names`, and works."""

    wrong: Callable[[], Any]
    use: Callable[[Any], Any] = lambda value: value
    names: dict[str, Any] = field(default_factory=dict)


def raised(row: Row) -> fnn.InputError:
    """Return the error of the wrong call."""
    with pytest.raises(fnn.InputError) as found:
        row.wrong()
    return found.value


def suggested(error: fnn.InputError, names: dict[str, Any]) -> Any:
    """Return the value of what an error suggests."""
    fix, scope = error.args[3], {**SCOPE, **names}
    scope = {name: value.make() if isinstance(value, Late) else value for name, value in scope.items()}
    if fix.startswith("pip "):  # which finds installed what the tests need
        command = [sys.executable, "-m", *shlex.split(fix), "--dry-run", "--no-index"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if fix.startswith("def "):  # at the top of a module, where it is found by its name
        sys.modules["own_of_a_row"] = own = ModuleType("own_of_a_row")
        vars(own).update(jnp=jnp)
        exec(fix, vars(own))
        return vars(own)["f"]
    if re.match(r"case ", fix):
        fix = f"match factor:\n    {fix}\nfound = True"
    assigned = re.match(r"(\w+) = ", fix) or re.match(r"match [^$]*\n(found) = ", fix)
    if assigned is None:
        return eval(fix.removeprefix("return "), scope)
    exec(fix, scope)
    return scope[assigned[1] if not fix.startswith("match") else "found"]


def without(library: str, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return `run` where a library cannot be imported."""

    def hidden() -> Any:
        with patch.dict(sys.modules, {library: None}):
            return run()

    return hidden


def installs(library: str) -> Callable[[str], None]:
    """Return what takes the installer's word that a library is there, and that the extra is one."""

    def told(output: str) -> None:
        assert f"satisfied: {library}" in output and "does not provide the extra" not in output

    return told
