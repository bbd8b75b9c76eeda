"""Products and collectives are named by the place of their layer, and the programs stay what they were."""

import re
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn import Dense, Remat, Repeat, RMSNorm, Serial, Skip
from fnn.compose.boundaries import Segment
from fnn.memory.hlo import NAME

BLOCK = Skip(Serial(RMSNorm(), Dense(8), fnn.gelu, Dense(4)))
NETS = {
    "chain": (Serial(Dense(4), fnn.relu, Dense(3)), {"layers[0]", "layers[2]"}),
    "names": (
        fnn.mlp([4, 8, 8, 8, 3], scan=False),
        {"first", "hidden[0].dense", "hidden[1].dense", "output"},
    ),
    "nested": (
        Serial(a=Remat(Dense(4)), b=Repeat(BLOCK, 2)),
        {"a/layer", "b/layer/layer/layers[1]", "b/layer/layer/layers[3]"},
    ),
    "segment": (
        Serial(Dense(4), fnn.gelu, Dense(4), fnn.gelu, Dense(4), plan=(Segment(1, 4),)),
        {"layers[0]", "layers[2]", "layers[4]"},
    ),
}
OF_JAX = r"jit\(|while|body|closed_call|eval_jaxpr"  # the names of loops and of programs within a program
X, LABEL = jnp.ones((8, 4)), jnp.arange(8) % 3
HEAD = fnn.LinearCrossEntropy(3)


def lowered(net: Any) -> Any:
    params = fnn.init(net, jax.random.key(0), X), HEAD.init(jax.random.key(1), jnp.ones((1, 4)))
    if net is NETS["chain"][0] or net is NETS["names"][0]:
        return jax.jit(fnn.value_and_grad(net, fnn.softmax_cross_entropy())).lower(params[0], X, LABEL)
    return jax.jit(fnn.value_and_grad(net, HEAD)).lower(params, X, LABEL)


def places(program: str) -> set[str]:
    """List where the products of a program are, without the names of loops and of programs within it."""
    found = set()
    for line in program.splitlines():
        if re.search(r" (dot|convolution|custom-call)\(", line) and (name := NAME.search(line)):
            parts = [part for part in name[1].split("/")[1:-1] if not re.match(OF_JAX, part)]
            found.add("/".join(parts))
    return found


@pytest.mark.parametrize("name", NETS)
def test_every_product_says_which_layer_it_belongs_to(name):
    net, wanted = NETS[name]
    loss = {"loss"} if name in ("nested", "segment") else set()
    assert places(lowered(net).compile().as_text()) == wanted | loss


@pytest.mark.parametrize("name", NETS)
def test_names_change_no_program(name, monkeypatch):
    named = lowered(NETS[name][0])
    jax.clear_caches()
    monkeypatch.setattr(jax, "named_scope", lambda _: nullcontext())
    bare = lowered(NETS[name][0])
    assert "layers[0]" not in bare.as_text(debug_info=True) and named.as_text() == bare.as_text()


def test_an_error_leaves_no_name_behind():
    with pytest.raises(fnn.InputError, match=r"net\.layers\[2\]"):
        fnn.init(Serial(Dense(4), BLOCK, fnn.Skip(Dense(3))), jax.random.key(0), jnp.ones((2, 5)))
    text = jax.jit(jnp.tanh).lower(X).as_text(debug_info=True)
    assert "layer" not in text


def test_a_collective_says_for_which_layer_it_is():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    net = NETS["nested"][0]
    x = jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=NamedSharding(mesh, P("data")))
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), X))
    lie = fnn.shardings(net, params, mesh, "fsdp")
    found = fnn.memory.report(net, params, x, target="here", shardings=lie).per_device
    assert found is not None
    gathered = [one.where for one in found.collectives if one.op == "all-gather"]
    assert any(where.startswith("a/layer/") for where in gathered)
    assert any("layer/layer/layers[" in where and where.startswith("b/") for where in gathered)
