"""Any JAX function as a layer: traced, and the factors of its params found where they are used."""

from fnn.function.describe import describe as describe
from fnn.function.layer import Function as Function
from fnn.function.losses import factors as factors
