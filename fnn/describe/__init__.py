"""Descriptions of a network: its equations line by line, and its layers in a table."""

from fnn.describe.activations import activations as activations
from fnn.describe.explain import Explanation as Explanation
from fnn.describe.explain import explain as explain
from fnn.describe.summary import Summary as Summary
from fnn.describe.summary import summary as summary
