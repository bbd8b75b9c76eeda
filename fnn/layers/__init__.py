"""The layers: each one a forward with its backward right under it."""

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
