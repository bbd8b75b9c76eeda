"""A branch that is alone."""

import jax

from fnn import Embedding, Parallel
from tests.cases import VOCABULARY, Case, example
from tests.proof import explicit


def test_a_branch_of_indices_may_be_alone():
    drawn = example(Case("one", Parallel(Embedding(VOCABULARY, 3)), (4,), integer=True))
    assert explicit(drawn, keep_float0=True)[1].dtype == jax.dtypes.float0
