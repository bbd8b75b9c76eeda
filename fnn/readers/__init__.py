"""Readers of factors, and the pass in which every example is seeded with its own loss."""

from fnn.reader import Reader as Reader
from fnn.reader import as_factors as as_factors
from fnn.reader import gradient as gradient
from fnn.reader import reader as reader
from fnn.reader import zip_readers as zip_readers
from fnn.readers.examples import example_gradient as example_gradient
from fnn.readers.examples import inner_product as inner_product
from fnn.readers.examples import squared_norm as squared_norm
from fnn.readers.examples import weighted_gradient as weighted_gradient
from fnn.readers.moments import second_moment as second_moment
from fnn.readers.moments import variance as variance
from fnn.readers.pairs import gram as gram
from fnn.readers.pairs import tangent_kernel as tangent_kernel
from fnn.readers.seeding import losses_and_readings as losses_and_readings
from fnn.readers.seeds import backward_seeds as backward_seeds
from fnn.readers.seeds import seeded_reader as seeded_reader
from fnn.readings import sum_over_params as sum_over_params
from fnn.readings import unzip as unzip
