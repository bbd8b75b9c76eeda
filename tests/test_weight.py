"""What `import fnn` loads beside JAX: what is heavy or private comes when it is first asked for."""

import json
import subprocess
import sys

LATER = {"optax", "fnn.check", "vjpcheck", "fnn.export", "fnn.memory.targets", "jax.experimental.topologies"}
LATER |= {
    "matplotlib",
    "sklearn",
    "torch",
    "rich",
    "tyro",
    "onnx",
    "safetensors",
    "flax",
    "equinox",
    "orbax",
    "tensorstore",
}


def loaded_by(statement: str) -> set[str]:
    """Give the modules that a statement loads beyond those of JAX, in a process of its own."""
    code = (
        f"import sys, json, jax, jax.numpy\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_fnn_loads_nothing_heavy_nor_private():
    found = loaded_by("import fnn")
    assert "fnn.core" in found
    assert not found & LATER
    assert not {name for name in found if name.startswith("jaxlib")}


def test_what_is_asked_for_is_loaded_then():
    step = "fnn.train.update_in_backward(fnn.Dense(2), fnn.squared_error(), __import__('optax').sgd(0.1))"
    assert "optax" in loaded_by(f"import fnn; {step}")
    assert "fnn.memory.targets" in loaded_by("from fnn.memory.targets import compiled_for")
