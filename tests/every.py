"""The table of cases as parameters of a test, and which rows `make test` looks at."""

import pytest

from tests.cases import CASES, CHAINS, REMADE, Case

# Rows of every kind, for `make test`; `make test-thorough` looks at the others.
QUICK = set(
    "dense dense-no-batch dense-tokens embedding-tokens layer-norm rms-norm-tokens dropout scale bias gated "
    "gate-gelu fused mlp mlp-scanned-dropout named dense-norm-sine embedding-chain skip-feed-forward "
    "parallel-concatenate repeat-feed-forward repeat-rebuilt shared repeat-of-shared deep-nesting "
    "each-concatenate select-branches heads-pair each-noise heads recomputed plan-named repeat-every-2 "
    "reversible repeat-reversible alone-relu alone-gelu alone-softmax dense-relu-dense "
    "dense-gelu-dense".split()
)


def _every(cases: list[Case], slow: list[Case]) -> pytest.MarkDecorator:
    marked = [
        case
        if case.name in QUICK and case not in slow
        else pytest.param(case, marks=pytest.mark.slow if case in slow else pytest.mark.thorough)
        for case in cases
    ]
    return pytest.mark.parametrize("case", marked, ids=repr)


every_case = _every(CASES, [])
every_case_though_chains_are_slow = _every(CASES, CHAINS)
every_case_that_runs_once = _every([c for c in CASES if c not in REMADE and "remat" not in c.name], [])
assert {case.name for case in CASES} >= QUICK
