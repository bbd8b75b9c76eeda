"""Clipped sums of example gradients, and differentially private gradients."""

from fnn.privacy.clipping import Clipped as Clipped
from fnn.privacy.clipping import clipped_gradient as clipped_gradient
from fnn.privacy.gaussian import noise_for as noise_for
from fnn.privacy.gaussian import privacy_spent as privacy_spent
from fnn.privacy.gaussian import private_gradient as private_gradient
