"""A corpus of hand-written backward passes, wrong and right, on which the checker is measured."""

from . import (
    activations,
    attention,
    convolution,
    dense,
    gates,
    hidden,
    lookup,
    losses,
    modern,
    norms,
    paths,
    recurrent,
    right,
    sequence,
    strangers,
    subtle,
    textbook,
    unrolled,
    windows,
)
from .case import Case as Case

WRONG: tuple[Case, ...] = (
    *dense.CASES,
    *hidden.CASES,
    *norms.CASES,
    *losses.CASES,
    *attention.CASES,
    *convolution.CASES,
    *activations.CASES,
    *gates.CASES,
    *lookup.CASES,
    *sequence.CASES,
    *subtle.CASES,
    *recurrent.CASES,
    *modern.CASES,
    *paths.CASES,
    *unrolled.CASES,
    *textbook.CASES,
    *windows.CASES,
    *strangers.CASES,
)
RIGHT: tuple[Case, ...] = (*right.CASES, *recurrent.RIGHT, *modern.RIGHT, *textbook.RIGHT, *windows.RIGHT)
