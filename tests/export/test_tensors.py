"""Params come back from safetensors as they were, and what does not fit is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

pytest.importorskip("safetensors")
import fnn.export as export
from fnn.export.tensors import DTYPES


def test_params_come_back_in_every_dtype_and_order(tmp_path):
    path = tmp_path / "params.safetensors"
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    dtypes = {name: (grid % 2).astype(dtype) for name, dtype in DTYPES.items()}
    orders = [grid.T, grid[:, ::2], grid[::-1], np.asfortranarray(grid), grid[:0], np.float32(3)]
    tree = {"dtypes": dtypes, "orders": orders, "none": None, "empty": ()}
    export.save_params(tree, path)
    back = export.load_params(path, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert theirs.dtype == ours.dtype and theirs.shape == ours.shape and theirs.flags.writeable
        np.testing.assert_array_equal(theirs, ours)


def test_optimizer_state_comes_back(tmp_path):
    net, x = fnn.mlp([5, 7, 3]), jax.ShapeDtypeStruct((1, 5), jnp.float32)
    shapes = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5, leaf.dtype), shapes)
    both = params, optax.adam(1e-3).init(params)
    export.save_params(both, tmp_path / "state.safetensors")
    like = jax.eval_shape(lambda: both)
    back = export.load_params(tmp_path / "state.safetensors", like)
    assert jax.tree.structure(back) == jax.tree.structure(both)
    jax.tree.map(np.testing.assert_array_equal, back, both)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"a": {"bias": np.ones(2)}, "a.b": np.ones(3)}, "two that are called 'a.b'"),
        ({"a": 1.0}, "an array as 'a', got 1.0"),
        ({"a": np.ones(2, np.complex128)}, r"'a' in a dtype of the format, got complex128\[2\]"),
        ({"a": jax.random.key(0)}, r"try `jax.random.key_data\(key\)`"),
    ],
)
def test_trees_that_do_not_fit_are_refused(tree, said, tmp_path):
    with pytest.raises(fnn.InputError, match=f"save_params: expected .*{said}"):
        export.save_params(tree, tmp_path / "params.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_fit_are_refused(tmp_path):
    path, tree = tmp_path / "params.safetensors", {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
    export.save_params(tree, path)
    for like, said in [
        ({"kernel": tree["kernel"]}, "expected the leaves w, got a file with b"),
        ({"kernel": tree["kernel"], "c": tree["bias"]}, "a file without c and a file with b"),
        (tree | {"bias": np.ones(4)}, r"b like float64\[4\], got float64\[3\]"),
        (tree | {"bias": np.ones(3, np.float32)}, r"b like float32\[3\], got float64\[3\]"),
    ]:
        with pytest.raises(fnn.InputError, match=said):
            export.load_params(path, like)
    for content in (b"", b"no such thing" * 9, path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(fnn.InputError, match="to be a safetensors file"):
            export.load_params(path, tree)
    with pytest.raises(FileNotFoundError):
        export.load_params(tmp_path / "nowhere", tree)
