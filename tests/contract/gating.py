"""A composition with a branch: what one layer makes of the input, times what another makes of it."""

from dataclasses import dataclass

import jax

import fnn
from fnn.core import Part, pull, sides


@dataclass(frozen=True)
class Product(fnn.Composition):
    """y = f(x) g(x). Both outputs are kept: the cotangent of each is dy times the other."""

    f: fnn.Layer
    g: fnn.Layer
    needs = frozenset(("input",))
    equations = ("{y} = {f0} * {f1}",), ("d{f0} = d{y} * {f1}", "d{f1} = d{y} * {f0}")

    @property
    def layers(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.f, self.g

    def with_layers(self, *layers):
        return Product(*layers)

    def parts(self, params, x, key=None):
        output = frozenset(("output",))
        return [
            Part(".f", self.f, params[0], x, key, keeps=output),
            Part(".g", self.g, params[1], x, key, keeps=output),
        ]

    def init(self, key, x):
        one, two = jax.random.split(key)
        return self.f.init(one, x), self.g.init(two, x)

    def forward(self, params, x, key):
        one, two = (None, None) if key is None else jax.random.split(key)
        (a, of_f), (b, of_g) = self.f.forward(params[0], x, one), self.g.forward(params[1], x, two)
        return a * b, (a, b, of_f, of_g)

    def backward(self, params, x, y, extras, dy, read):
        a, b, of_f, of_g = extras
        f, dx_f = pull(self.f, params[0], *sides(self.f, x, a), of_f, dy * b, read.mapped(lambda t: t[0]))
        g, dx_g = pull(self.g, params[1], *sides(self.g, x, b), of_g, dy * a, read.mapped(lambda t: t[1]))
        return (f, g), dx_f + dx_g
