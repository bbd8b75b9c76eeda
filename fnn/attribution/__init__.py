"""Scores of training examples: which of them a prediction depends on."""

from fnn.attribution.scores import el2n as el2n
from fnn.attribution.scores import grand as grand
from fnn.attribution.scores import influence as influence
from fnn.attribution.scores import tracin as tracin
from fnn.attribution.self_influence import self_influence as self_influence
