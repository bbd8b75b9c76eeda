"""Params come back from safetensors as they were, and what does not fit is refused."""

import os
from typing import Any

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
        ({"a": {"b": np.ones(2)}, "a.b": np.ones(3)}, "two that are called 'a.b'"),
        ({"__metadata__": np.ones(2)}, "a name that the format leaves free, got '__metadata__'"),
        ({"a": 1.0}, "an array as 'a', got 1.0: try `np.asarray"),
        ({"a": "text", "b": np.ones(2)}, "an array as 'a', got 'text'"),
        ({"a": jax.ShapeDtypeStruct((2,), np.float32)}, r"an array as 'a', got the shape of one, float32"),
        ({"a": np.array([None, 1])}, r"'a' in a dtype of the format, got object\[2\]"),
        ({"a": np.ones(2, np.complex128) * 1j}, r"'a' in a dtype of the format, got complex128\[2\]"),
        *(
            ({"a": np.ones(2).astype(dtype)}, r"'a' in a dtype of the format, got .*\[2\]")
            for dtype in [
                np.clongdouble, np.longdouble, jnp.int4, jnp.uint4, jnp.float8_e4m3b11fnuz,
                jax.dtypes.float0, "M8[D]", "m8[s]", "U3", "S3", [("x", "f4")],
            ]
        ),
        ({"a": jax.random.key(0)}, "'a' in a dtype of the format, got key<fry>"),
        ({"a": jax.random.split(jax.random.key(0))}, "'a' in a dtype of the format, got key<fry>"),
    ],
)  # fmt: skip
def test_trees_that_do_not_fit_are_refused_and_the_suggestion_works(tree, said, tmp_path):
    path = tmp_path / "params.safetensors"
    with pytest.raises(fnn.InputError, match=f"save_params: expected .*{said}") as error:
        export.save_params(tree, path)
    assert not list(tmp_path.iterdir())
    names = {
        "params": tree,
        "leaf": tree.get("a"),
        "np": np,
        "jax": jax,
        "jnp": jnp,
        "fnn": fnn,
        "path": path,
    }
    made = eval(error.value.args[3], names)
    if not path.exists():
        export.save_params(made, path)
        export.load_params(path, made)


def test_names_and_byte_orders_of_every_kind_come_back(tmp_path):
    path = tmp_path / "params.safetensors"
    for tree in (np.arange(3.0), {"params": {"__metadata__": np.ones(2)}}, {"a": np.arange(3, dtype=">f4")}):
        export.save_params(tree, path)
        back = export.load_params(path, tree)
        jax.tree.map(np.testing.assert_array_equal, back, tree)
        assert all(leaf.dtype.isnative for leaf in jax.tree.leaves(back))


def test_what_was_there_hands_its_mode_on_and_links_stay(tmp_path):
    tree, path, link = {"w": np.ones(2)}, tmp_path / "params.safetensors", tmp_path / "latest"
    export.save_params(tree, path)
    mode = path.stat().st_mode
    path.chmod(0o604)
    link.symlink_to(path.name)
    for to in (path, link):
        export.save_params({"w": np.full(2, 3.0)}, to)
        assert path.stat().st_mode & 0o777 == 0o604 and link.is_symlink()
        assert export.load_params(path, tree)["w"].tolist() == [3, 3]
        export.save_params(tree, path)
    path.unlink()
    export.save_params(tree, link)  # a link to no file yet leads to the new one
    assert link.is_symlink() and path.stat().st_mode == mode
    (tmp_path / "loop").symlink_to("loop")
    for no_file in (tmp_path / "loop", tmp_path, os.devnull):
        with pytest.raises(OSError):
            export.save_params(tree, no_file)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["latest", "loop", path.name]


def test_swapped_arguments_are_told(tmp_path):
    path: Any = tmp_path / "params.safetensors"
    tree: Any = {"w": np.ones(2)}
    with pytest.raises(
        fnn.InputError, match=r"save_params: expected a path, got .*save_params\(params, path\)"
    ):
        export.save_params(str(path), tree)
    with pytest.raises(fnn.InputError, match=r"load_params: expected a path, got .*load_params\(path, like="):
        export.load_params(tree, path)
    assert not path.exists()


def test_files_that_do_not_fit_are_refused(tmp_path):
    path, tree = tmp_path / "params.safetensors", {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
    export.save_params(tree, path)
    for like, said in [
        ({"kernel": tree["kernel"]}, "expected the leaves kernel, got a file with bias"),
        ({"kernel": tree["kernel"], "c": tree["bias"]}, "a file without c and a file with bias"),
        (tree | {"bias": np.ones(4)}, r"bias like float64\[4\], got float64\[3\]"),
        (tree | {"bias": np.ones(3, np.float32)}, r"bias like float32\[3\], got float64\[3\]"),
    ]:
        with pytest.raises(fnn.InputError, match=said):
            export.load_params(path, like)
    for content in (b"", b"no such thing" * 9, path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(fnn.InputError, match="to be a safetensors file"):
            export.load_params(path, tree)
    with pytest.raises(FileNotFoundError):
        export.load_params(tmp_path / "nowhere", tree)
