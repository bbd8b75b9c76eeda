"""Feed-forward networks in which backpropagation is a value.

A network is any `fnn.Layer`: an `fnn.Leaf`, such as `fnn.Dense`, or an `fnn.Composition`, such as `fnn.Skip`.

>>> import fnn, jax, jax.numpy as jnp
>>> net, x = fnn.Skip(fnn.Dense(3)), jnp.ones((2, 3))
>>> params = fnn.init(net, jax.random.key(0), x)
>>> y, residuals = fnn.forward(net, params, x)
>>> grads, dx = fnn.backward(net, params, residuals, dy=jnp.ones_like(y))
>>> grads["bias"], isinstance(residuals, fnn.Residuals)
(Array([2., 2., 2.], dtype=float32), True)
>>> dx = jax.grad(lambda x: fnn.apply(net, params, x).sum())(x)
>>> dy_by_dx = jax.jacfwd(lambda x: fnn.output(net, params, x))(x)
>>> isinstance(net, fnn.Composition), isinstance(net.layer, fnn.Leaf)
(True, True)
>>> [part] = net.parts(params, x)
>>> isinstance(part, fnn.Part), part.place, part.layer
(True, '.layer', Dense(3))

`fnn.export` and `fnn.check` are imported by their own names. A wrong argument raises an `fnn.InputError`.
"""

from fnn import activations as activations
from fnn import attribution as attribution
from fnn import curvature as curvature
from fnn import describe as describe
from fnn import factors as factors
from fnn import feedback as feedback
from fnn import function as function
from fnn import initializers as initializers
from fnn import losses as losses
from fnn import memory as memory
from fnn import pipeline as pipeline
from fnn import privacy as privacy
from fnn import readers as readers
from fnn import train as train
from fnn.activations.table import activation as activation
from fnn.activations.table import gelu as gelu
from fnn.activations.table import gelu_tanh as gelu_tanh
from fnn.activations.table import identity as identity
from fnn.activations.table import relu as relu
from fnn.activations.table import sigmoid as sigmoid
from fnn.activations.table import silu as silu
from fnn.activations.table import softmax as softmax
from fnn.activations.table import tanh as tanh
from fnn.compiler import compiler_options as compiler_options
from fnn.compose.boundaries import Segment as Segment
from fnn.compose.branches import Parallel as Parallel
from fnn.compose.branches import Skip as Skip
from fnn.compose.entries import Each as Each
from fnn.compose.entries import Heads as Heads
from fnn.compose.networks import gated as gated
from fnn.compose.networks import mlp as mlp
from fnn.compose.remat import Remat as Remat
from fnn.compose.repeat import Repeat as Repeat
from fnn.compose.reversible import Reversible as Reversible
from fnn.compose.serial import Serial as Serial
from fnn.compose.stacking import stack as stack
from fnn.compose.stacking import unstack as unstack
from fnn.core import Composition as Composition
from fnn.core import Layer as Layer
from fnn.core import Leaf as Leaf
from fnn.core import Part as Part
from fnn.core import Residuals as Residuals
from fnn.core import apply as apply
from fnn.core import backward as backward
from fnn.core import forward as forward
from fnn.core import init as init
from fnn.core import output as output
from fnn.describe.explain import explain as explain
from fnn.describe.summary import summary as summary
from fnn.errors import InputError as InputError
from fnn.layers.affine import Bias as Bias
from fnn.layers.affine import Scale as Scale
from fnn.layers.dense import Dense as Dense
from fnn.layers.dropout import Dropout as Dropout
from fnn.layers.embedding import Embedding as Embedding
from fnn.layers.entries import Concatenate as Concatenate
from fnn.layers.entries import Select as Select
from fnn.layers.entries import Sum as Sum
from fnn.layers.fused import Fused as Fused
from fnn.layers.gated import Gate as Gate
from fnn.layers.norm import LayerNorm as LayerNorm
from fnn.layers.norm import RMSNorm as RMSNorm
from fnn.losses import LinearCrossEntropy as LinearCrossEntropy
from fnn.losses import Loss as Loss
from fnn.losses import binary_cross_entropy as binary_cross_entropy
from fnn.losses import half_squared_error as half_squared_error
from fnn.losses import huber as huber
from fnn.losses import softmax_cross_entropy as softmax_cross_entropy
from fnn.losses import squared_error as squared_error
from fnn.losses.objective import value_and_grad as value_and_grad
from fnn.reader import gradient as gradient
from fnn.train.shardings import shardings as shardings

__version__ = "0.1.0"
__all__ = [
    "activation", "activations", "apply", "attribution", "backward", "Bias", "binary_cross_entropy",
    "compiler_options", "Composition", "Concatenate", "curvature", "Dense", "describe", "Dropout", "Each",
    "Embedding", "explain", "factors", "feedback", "forward", "function", "Fused", "Gate", "gated", "gelu",
    "gelu_tanh", "gradient", "half_squared_error", "Heads", "huber", "identity", "init", "initializers",
    "InputError", "Layer", "LayerNorm", "Leaf", "LinearCrossEntropy", "Loss", "losses", "memory", "mlp",
    "output", "Parallel", "Part", "pipeline", "privacy", "readers", "relu", "Remat", "Repeat", "Residuals",
    "Reversible", "RMSNorm", "Scale", "Segment", "Select", "Serial", "shardings", "sigmoid", "silu", "Skip",
    "softmax", "softmax_cross_entropy", "squared_error", "stack", "Sum", "summary", "tanh", "train",
    "unstack", "value_and_grad",
]  # fmt: skip
