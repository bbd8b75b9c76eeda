"""Losses: values and their hand-written gradients; heads, which are a last layer and its loss in one."""

from fnn.losses.classification import binary_cross_entropy as binary_cross_entropy
from fnn.losses.classification import hinge as hinge
from fnn.losses.classification import kl_divergence as kl_divergence
from fnn.losses.classification import softmax_cross_entropy as softmax_cross_entropy
from fnn.losses.combined import Combined as Combined
from fnn.losses.linear import LinearCrossEntropy as LinearCrossEntropy
from fnn.losses.loss import Loss as Loss
from fnn.losses.objective import Likelihood as Likelihood
from fnn.losses.objective import Objective as Objective
from fnn.losses.regression import absolute_error as absolute_error
from fnn.losses.regression import cosine as cosine
from fnn.losses.regression import half_squared_error as half_squared_error
from fnn.losses.regression import huber as huber
from fnn.losses.regression import poisson as poisson
from fnn.losses.regression import squared_error as squared_error
