"""A warning where a layer draws noise in training, and no key is given."""

import warnings
from typing import Any

from fnn.core import Composition, Layer


def warn_without_key(net: Layer, key: Any, silent: str) -> None:
    """Warn where no key is given and a layer draws noise in training.

    Args:
        net: the network.
        key: the random key, or None.
        silent: the call that does not warn, as code.
    """
    if key is None and draws_noise(net):
        warnings.warn(f"a layer of {net!r} draws noise, which is left out without a key: pass `key`, or make "
                      f"the function by `{silent}`", UserWarning, stacklevel=3)  # fmt: skip


def draws_noise(layer: Layer) -> bool:
    """Return whether a layer, or one that it is made of, draws noise where it has a key."""
    return any(map(draws_noise, layer.layers)) if isinstance(layer, Composition) else layer.noisy
