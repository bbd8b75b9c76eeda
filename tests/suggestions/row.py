"""A row of the tables: a wrong call, and what is done with what its error suggests."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
    if re.match(r"case ", fix):
        fix = f"match factor:\n    {fix}\nfound = True"
    assigned = re.match(r"(\w+) = ", fix) or re.match(r"match [^$]*\n(found) = ", fix)
    if assigned is None:
        return eval(fix.removeprefix("return "), scope)
    exec(fix, scope)
    return scope[assigned[1] if not fix.startswith("match") else "found"]
