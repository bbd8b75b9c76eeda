"""The layers that are read from a graph, one after the other."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fnn.core import Layer
from fnn.export.shapes import Value
from fnn.layers.affine import Bias, Scale
from fnn.layers.dense import Dense
from fnn.layers.norm import LayerNorm, RMSNorm


@dataclass
class Chain:
    """The layers read so far, and what is known of the value behind them.

    Args:
        v: the name of that value.
        value: its dtype and axes.
        layers: the layers.
        params: the params of each.
    """

    v: str
    value: Value
    layers: list[Layer] = field(default_factory=list)
    params: list[Any] = field(default_factory=list)

    def add(self, layer: Layer, params: Any = ()) -> None:
        """Append a layer.

        Args:
            layer: the layer.
            params: its params.
        """
        self.layers.append(layer)
        self.params.append(params)

    def dense(self, kernel: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Append a dense layer.

        Args:
            kernel: its weight, (k, j).
            bias: its bias, (j,), or None.
        """
        inputs, features = kernel.shape
        self.add(Dense(features, bias=bias is not None, inputs=inputs), {"kernel": kernel})
        if bias is not None:
            self.params[-1]["bias"] = bias
        if self.value.axes is not None:
            self.value = self.value._replace(axes=(*self.value.axes[:-1], features))

    def bias(self, bias: np.ndarray) -> None:
        """Add a row: as the bias of the layer before, if that has none."""
        match self.layers[-1] if self.layers else None:
            case Dense(bias=False) as layer:
                self.layers[-1] = replace(layer, bias=True)
                self.params[-1] = self.params[-1] | {"bias": bias}
            case LayerNorm(bias=False) as layer:
                self.layers[-1] = replace(layer, bias=True)
                self.params[-1] = self.params[-1] | {"bias": bias}
            case _:
                self.add(Bias(), {"bias": bias})

    def scale(self, scale: np.ndarray) -> None:
        """Multiply by a row: as the scale of the norm before, if that has none."""
        match self.layers[-1] if self.layers else None:
            case LayerNorm(scale=False, bias=False) | RMSNorm(scale=False) as layer:
                self.layers[-1] = replace(layer, scale=True)
                self.params[-1] = {"scale": scale}
            case _:
                self.add(Scale(), {"scale": scale})
