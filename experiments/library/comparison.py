"""Gradients beside those of autodiff: how far each leaf is from `jax.grad` in float64."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.table import Table

Errors = dict[str, dict[str, float]]  # by leaf, then by whose gradient it is


def gradient_errors(ours: Callable[..., Any], plain: Callable[..., Any], params: Any, *data: Any) -> Errors:
    """Compare the gradients `ours(params, *data)` with `jax.grad` of the loss `plain(params, *data)`.

    Three gradients are held against a fourth, `jax.grad`'s in float64: ours in float64, and both in
    float32. The error of a leaf is the largest difference over it, divided by its largest entry.
    """

    def both(*args: Any) -> Any:
        return jax.tree.map(np.asarray, (jax.jit(ours)(*args), jax.jit(jax.grad(plain))(*args)))

    def error(gradient: np.ndarray, truth: np.ndarray) -> float:
        return float(np.abs(gradient - truth).max() / np.abs(truth).max())

    mine, theirs = both(params, *data)
    with jax.enable_x64(True):
        mine_wide, truth = both(*jax.tree.map(_widen, (params, *data)))
    errors: Errors = {}
    for name, tree in (("fnn, float64", mine_wide), ("fnn, float32", mine), ("jax.grad, float32", theirs)):
        for path, value in jax.tree_util.tree_leaves_with_path(jax.tree.map(error, tree, truth)):
            errors.setdefault(jax.tree_util.keystr(path, simple=True, separator="."), {})[name] = value
    return errors


def _widen(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def error_table(title: str, errors: Errors) -> Table:
    """Show the errors: a row for each leaf, a column for each gradient."""
    table = Table(
        title=f"{title}: the largest difference from jax.grad in float64, over its largest entry",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 3, 0, 0),
    )
    table.add_column("gradient of", overflow="fold")
    for name in next(iter(errors.values())):
        table.add_column(name, justify="right", style="cyan" if "fnn" in name else None)
    for leaf, row in errors.items():
        table.add_row(leaf, *(f"{value:.1e}" for value in row.values()))
    return table
