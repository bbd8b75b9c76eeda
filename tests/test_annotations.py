"""The shapes and dtypes in the annotations are true: the package runs under a type checker at run time."""

import subprocess
import sys

CODE = """
import jax
from jaxtyping import install_import_hook

with install_import_hook(["fnn.layers", "fnn.losses", "fnn.compose"], "beartype.beartype"):
    import tests.conftest
    import fnn
from tests.cases import COMPOSITIONS, LAYERS, example
from tests.proof import explicit

assert fnn.Dense.forward.__module__ == "fnn.layers.dense"
for case in [*LAYERS, *COMPOSITIONS]:
    jax.eval_shape(explicit, example(case))
y = jax.numpy.ones((4, 3))
for make in (fnn.squared_error, fnn.losses.cosine, fnn.losses.hinge, fnn.losses.poisson,
fnn.losses.kl_divergence):
    make().value_and_grad(y, y)
try:
    fnn.Dense(3).recompute({"kernel": y}, jax.numpy.ones((4, 3), int), ())
except Exception as error:
    print(type(error).__name__)
"""


def test_annotations_hold_on_the_table_of_cases():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.strip() == "TypeCheckError", done.stderr
