"""Initializers as values: hashable, picklable, and equal to those that were made by the same call.

`jax.nn.initializers` makes a new function at every call, which equals no other and cannot be pickled, nor can
a layer that has it. The initializers here are called as JAX's are, `he_normal()(key, shape, dtype)`, and draw
the same numbers; layers accept both kinds.

>>> import fnn
>>> fnn.Dense(3, kernel_init=he_normal()) == fnn.Dense(3, kernel_init=he_normal())
True
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array


@dataclass(frozen=True, repr=False)
class Initializer:
    """An initializer with its options: equal to another of the same function and options.

    Args:
        make: a function that makes an initializer of JAX's kind, such as `jax.nn.initializers.he_normal`.
        options: the keyword arguments that it is called with.

    >>> import jax
    >>> he_normal()(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """

    make: Callable[..., Callable[..., Array]]
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Draw an array of this shape and dtype."""
        return self.make(**dict(self.options))(key, shape, dtype)

    def __repr__(self) -> str:
        return f"{self.make.__name__}({', '.join(f'{name}={value!r}' for name, value in self.options)})"


def he_normal() -> Initializer:
    """Draw from a truncated normal of variance 2 / inputs: for relu. Source: He et al. 2015.

    >>> he_normal()
    he_normal()
    """
    return Initializer(initializers.he_normal)


def he_uniform() -> Initializer:
    """Draw from a uniform of variance 2 / inputs. Source: He et al. 2015.

    >>> he_uniform()
    he_uniform()
    """
    return Initializer(initializers.he_uniform)


def lecun_normal() -> Initializer:
    """Draw from a truncated normal of variance 1 / inputs. Source: LeCun et al. 1998.

    >>> lecun_normal()
    lecun_normal()
    """
    return Initializer(initializers.lecun_normal)


def lecun_uniform() -> Initializer:
    """Draw from a uniform of variance 1 / inputs. Source: LeCun et al. 1998.

    >>> lecun_uniform()
    lecun_uniform()
    """
    return Initializer(initializers.lecun_uniform)


def xavier_normal() -> Initializer:
    """Draw from a truncated normal of variance 2 / (inputs + outputs). Source: Glorot, Bengio 2010.

    >>> xavier_normal()
    glorot_normal()
    """
    return Initializer(initializers.glorot_normal)


def xavier_uniform() -> Initializer:
    """Draw from a uniform of variance 2 / (inputs + outputs). Source: Glorot, Bengio 2010.

    >>> xavier_uniform()
    glorot_uniform()
    """
    return Initializer(initializers.glorot_uniform)


glorot_normal: Callable[[], Initializer] = xavier_normal
glorot_uniform: Callable[[], Initializer] = xavier_uniform


def normal(stddev: float = 1e-2) -> Initializer:
    """Draw from a normal with the standard deviation `stddev`.

    >>> normal(0.1)
    normal(stddev=0.1)
    """
    return Initializer(initializers.normal, (("stddev", stddev),))


def truncated_normal(stddev: float = 1e-2) -> Initializer:
    """Draw from a normal with the standard deviation `stddev`, truncated at two of them.

    >>> truncated_normal(0.1)
    truncated_normal(stddev=0.1)
    """
    return Initializer(initializers.truncated_normal, (("stddev", stddev),))


def uniform(scale: float = 1e-2) -> Initializer:
    """Draw from a uniform on 0 .. `scale`.

    >>> uniform(0.1)
    uniform(scale=0.1)
    """
    return Initializer(initializers.uniform, (("scale", scale),))


def constant(value: float) -> Initializer:
    """Fill with the number `value`.

    >>> constant(0.5)
    constant(value=0.5)
    """
    return Initializer(initializers.constant, (("value", value),))


def zeros() -> Initializer:
    """Fill with zeros.

    >>> zeros()
    constant(value=0.0)
    """
    return constant(0.0)


def ones() -> Initializer:
    """Fill with ones.

    >>> ones()
    constant(value=1.0)
    """
    return constant(1.0)


def orthogonal(scale: float = 1.0) -> Initializer:
    """Draw a matrix with orthogonal rows or columns, times `scale`. Source: Saxe et al. 2014.

    >>> orthogonal(2.0)
    orthogonal(scale=2.0)
    """
    return Initializer(initializers.orthogonal, (("scale", scale),))
