"""Every small change of a rule's syntax tree turns one of our tests red, or changes nothing."""

import pytest

from fnn.layers import affine, norm
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutate import Mutant, mutants
from tests.mutation.proofs import rows
from tests.mutation.targets import Target, targets

SAMPLE = (
    Target(norm.RMSNorm.backward, rows("rms-norm", "rms-norm-tokens")),
    Target(affine.Scale.backward, rows("scale")),
)


def live(target: Target) -> list[Mutant]:
    return [m for m in target.mutants() if repr(m) not in EQUIVALENT]


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(), ids=repr)
def test_every_live_mutant_is_caught(target):
    assert target.survivors(live(target)) == []


@pytest.mark.parametrize("target", SAMPLE, ids=repr)
def test_every_live_mutant_of_a_sample_is_caught(target):
    assert len(live(target)) >= 10
    assert target.survivors(live(target)) == []


def test_what_counts_as_equivalent_is_a_mutant():
    names = [repr(m) for target in targets() for m in target.mutants()]
    assert len(names) == len(set(names))
    assert set(EQUIVALENT) <= set(names)


def test_a_mutant_is_in_force_for_its_block_alone():
    right = affine.Bias.backward.__code__
    for mutant in mutants(affine.Bias.backward):
        with mutant.in_force():
            assert affine.Bias.backward.__code__ is mutant.code is not right
        assert affine.Bias.backward.__code__ is right
