"""The corpus: planted mistakes are found, right rules pass, and most mistakes are called by their name."""

import re

import jax
import pytest

from tests.check.corpus import RIGHT, WRONG, Case
from vjpcheck import Verdict, gradient, pair

SAMPLE = WRONG[::14]


def slow_unless(chosen, case):
    return pytest.param(case, id=case.name, marks=() if case in chosen else pytest.mark.slow)


def names(report):
    return [m.name for m in report.mistakes]


@pytest.mark.parametrize("case", [slow_unless(SAMPLE, c) for c in WRONG])
def test_a_planted_mistake_is_found(case: Case):
    report = gradient(case.function, *case.make(jax.random.key(1), 0), key=1)
    assert report.verdict is Verdict.FAIL
    assert len(str(report)) < 2500
    assert not any("the search for the mistake stopped" in note for note in report.notes)


@pytest.mark.parametrize("case", [slow_unless(RIGHT[::7], c) for c in RIGHT])
def test_a_right_rule_raises_no_alarm(case: Case):
    report = gradient(case.function, *case.make(jax.random.key(1), 0), key=1)
    assert report.verdict is not Verdict.FAIL, str(report)


def test_jax_takes_every_case_as_the_checker_does():
    for case in (*WRONG, *RIGHT):
        args = case.make(jax.random.key(1), 0)
        jax.eval_shape(lambda *a, case=case: jax.vjp(case.function, *a)[0], *args)  # the defaults, too


NAMED = [
    "dense: sign of the bias",
    "mlp: hidden derivative missing",
    "attention: keys not transposed",
    "embedding: rows set instead of added",
    "layernorm: mean term left out",
    "cross-entropy: batch mean missing",
]


@pytest.mark.thorough
@pytest.mark.parametrize("case", [c for c in WRONG if c.name in NAMED], ids=lambda c: c.name)
def test_a_mistake_is_named_and_placed(case: Case):
    assert not case.hidden
    report = gradient(case.function, *case.make(jax.random.key(0), 0), level="quick")
    assert report.mistake in case.names, str(report)
    first = report.mistakes[0]
    assert first.error < 1e-5 and first.fresh < 1e-5
    if first.where:
        assert re.match(r"\w+\.py:\d+  \S", first.where)


def test_a_pair_is_checked_like_a_function():
    case = next(c for c in WRONG if c.name == "dense: weight averaged over rows")
    args = case.make(jax.random.key(0), 0)
    report = pair(case.forward, case.backward, *args, level="quick")
    assert names(report) == ["mean for sum"]
    assert [leaf.verdict for leaf in report.leaves] == ["PASS", "FAIL", "PASS"]
    assert [leaf.name for leaf in report.leaves] == ["x", "w", "b"]


def test_the_corpus_is_as_large_as_it_says():
    assert len(WRONG) >= 100 and len({c.kind for c in WRONG}) >= 12 and len(RIGHT) >= 30
    assert 0.2 < sum(c.hidden for c in WRONG) / len(WRONG) < 0.45
    assert len({c.name for c in (*WRONG, *RIGHT)}) == len(WRONG) + len(RIGHT)
