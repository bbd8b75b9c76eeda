"""A run that saves after every step, to be killed: `python -m tests.train.killed FOLDER` goes on with it.

It prints "begun" when the loop begins, and at its end a hash of the whole state.
"""

import hashlib
import sys

import jax
import numpy as np
import optax

import fnn

STEPS = 40


def digest(state: fnn.train.State) -> str:
    """Return a hash of the bytes of all leaves."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key))):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()


def main(folder: str) -> None:
    """Run to the end, from wherever the folder's run stands."""
    random = np.random.default_rng(0)
    x, label = random.standard_normal((256, 16)).astype(np.float32), random.integers(0, 4, 256)
    net = fnn.Serial(fnn.Dense(32), fnn.gelu, fnn.Dropout(0.1), fnn.Dense(4))
    step = fnn.train.make_step(net, fnn.softmax_cross_entropy(), optax.adam(1e-2), average=0.9)
    state, batches = step.init(jax.random.key(0), x), fnn.train.Batches((x, label), 32)
    with fnn.train.Checkpoints(folder, net, x, every=1) as checkpoints:
        print("begun", flush=True)
        done = fnn.train.fit(step, state, batches, steps=STEPS, checkpoints=checkpoints, resume=True)
    print(digest(done.state), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
