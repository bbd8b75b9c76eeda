"""A corpus of hand-written backward passes, wrong and right, on which the checker is measured."""

from . import (
    attention,
    convolution,
    dense,
    gates,
    lookup,
    losses,
    modern,
    norms,
    paths,
    recurrent,
    right,
    sequence,
    subtle,
)
from .case import Case as Case

WRONG: tuple[Case, ...] = (
    *dense.CASES,
    *norms.CASES,
    *losses.CASES,
    *attention.CASES,
    *convolution.CASES,
    *gates.CASES,
    *lookup.CASES,
    *sequence.CASES,
    *subtle.CASES,
    *recurrent.CASES,
    *modern.CASES,
    *paths.CASES,
)
RIGHT: tuple[Case, ...] = (*right.CASES, *recurrent.RIGHT, *modern.RIGHT)
