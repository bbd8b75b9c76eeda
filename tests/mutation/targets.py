"""What is mutated, and which of our tests look at it: each target with its proofs, the quickest first.

A proof is a test of ours, called by hand; a mutant is caught when one of them raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fnn import chunks, core, factors, reader, summed
from fnn.activations import layer, normal, piecewise, smooth, weighted
from fnn.compose import (
    boundaries,
    branches,
    in_place,
    loop,
    ordering,
    remat,
    repeat,
    reversible,
    serial,
)
from fnn.layers import affine, dense, dropout, embedding, gated, norm
from fnn.losses import (
    called,
    classification,
    columns,
    linear,
    logits,
    objective,
    pieces,
    regression,
    walk,
)
from fnn.losses import loss as losses
from fnn.losses import rows as head_rows
from fnn.memory import storing
from tests.activations import test_activation
from tests.compose import test_remat
from tests.mutation.groups import (
    AFTER,
    BRANCHES,
    CHUNKS,
    COLUMNS,
    CUTS,
    DENSE,
    HEADS,
    IN_PLACE,
    JOINED,
    LOOPS,
    NESTED,
    ON_DEVICES,
    PLACED,
    PRECISION,
    REBUILT,
    ROUNDED,
    SCALES,
    SHARED_NORM,
    SMALL,
    STORED,
    SUMS,
    TOKENS,
)
from tests.mutation.mutate import Mutant, mutants, name_of
from tests.mutation.proofs import Proof, composed, loss, rows, slope


@dataclass(frozen=True)
class Target:
    """A function that gives gradients, and the proofs that depend on it."""

    function: Any
    proofs: tuple[Proof, ...]

    def __repr__(self) -> str:
        return name_of(self.function)

    def mutants(self) -> tuple[Mutant, ...]:
        """Give every mutant of the function."""
        return mutants(self.function)

    def survivors(self, chosen: Sequence[Mutant]) -> list[str]:
        """Give those of the mutants that no proof catches; what is right is proven, and remembered, first."""
        for proof in self.proofs:
            _prove(proof)
        return [repr(m) for m in chosen if not self.catch(m)]

    def catch(self, mutant: Mutant) -> str:
        """Give the complaint of the first proof that catches the mutant, or an empty string."""
        with mutant.in_force():
            for proof in self.proofs:
                try:
                    proof()
                except Exception as error:
                    return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""


@cache
def _prove(proof: Proof) -> None:
    """Run a proof of what is right, once for all the targets that share it."""
    proof()


@cache
def targets() -> tuple[Target, ...]:
    """Give every function of ours that makes a gradient."""
    return (
        Target(dense.Dense.backward, (*rows(*DENSE), *PRECISION)),
        Target(dense.product, (*rows(*DENSE), *PRECISION, *PLACED)),
        Target(affine.Scale.backward, rows("scale")),
        Target(affine.Bias.backward, rows("bias")),
        Target(norm.LayerNorm.backward, rows("layer-norm", "layer-norm-plain", "embedding-chain")),
        Target(norm.RMSNorm.backward, rows("rms-norm", "rms-norm-tokens")),
        Target(dropout.Dropout.backward, rows("dropout")),
        Target(embedding.Embedding.backward, rows("embedding", "embedding-tokens")),
        Target(gated.Gate.backward, (*rows("gate-gelu", "gate-relu"), TOKENS["gate"], *ROUNDED)),
        Target(
            layer.Activation.backward,
            rows("alone-relu", "alone-gelu", "alone-identity", "mlp-own-activations"),
        ),
        Target(layer.Softmax.backward, (*rows("alone-softmax"), TOKENS["softmax"])),
        Target(branches.Skip.backward, rows("skip-relu", "skip-feed-forward")),
        Target(branches.Parallel.backward, (*rows(*NESTED), *BRANCHES)),
        Target(serial.Serial.backward, composed("dense-norm-sine", "mlp", "plan", "plan-in-plan")),
        Target(boundaries.reach, (*composed("dense-norm-sine", *REBUILT), SHARED_NORM)),
        Target(loop.Loop._output_of, (*composed(*REBUILT), SHARED_NORM)),
        Target(loop.Loop._input_of, (*composed(*REBUILT), SHARED_NORM)),
        Target(loop.Loop._walk, (*composed(*LOOPS, *REBUILT), *IN_PLACE)),
        Target(loop.Loop.backward, composed(*LOOPS)),
        Target(
            repeat.Repeat.backward,
            (*composed("repeat-every-2", "repeat-every-3", "shared-every-2"), *IN_PLACE),
        ),
        Target(remat.Remat.backward, composed("recomputed", "plan", "repeat-every-2")),
        Target(ordering.with_dependency, AFTER),
        Target(ordering.is_small, SMALL),
        Target(ordering._held, AFTER),
        Target(ordering._never.fun, AFTER),
        Target(ordering._never_of_many, AFTER),
        Target(core.sides, composed("recomputed", "plan", "reversible")),
        Target(reversible.Reversible.backward, composed("reversible")),
        Target(
            reversible.Reversible.backward_and_input,
            (
                *composed("reversible", "reversible-tokens", "repeat-reversible"),
                test_remat.test_what_runs_backwards_finds_its_input_of_tokens_too,
            ),
        ),
        Target(in_place.InPlace.at_use, IN_PLACE),
        Target(in_place.taken, IN_PLACE),
        Target(in_place.replaced, IN_PLACE),
        Target(in_place._written, IN_PLACE),
        Target(
            reader._gradient,
            (*rows("dense-deep-batch", "embedding-tokens", "scale", "repeat-feed-forward"), *SUMS),
        ),
        Target(summed.summed, (*rows("dense-deep-batch", "embedding-tokens"), *SUMS, *ON_DEVICES)),
        Target(summed._sum_of_rows, (*rows("dense-deep-batch"), *SUMS, *ON_DEVICES)),
        Target(summed.added_into_rows, (*rows("embedding-tokens"), *SUMS)),
        Target(factors.join, (*JOINED, *rows("shared-of-repeat"))),
        Target(factors._behind_examples, (*JOINED, *rows("shared-of-repeat"))),
        *(Target(function, HEADS) for function in HEAD),
        Target(linear.LinearCrossEntropy.examples, CHUNKS),
        Target(columns.chosen, COLUMNS),
        Target(columns.gradients, COLUMNS),
        Target(walk.from_sums, (*HEADS, *COLUMNS)),
        Target(walk.CrossEntropy.dz, (*HEADS, *COLUMNS)),
        Target(chunks._scanned, (*CUTS, *HEADS)),
        Target(chunks.cut_up, (*CUTS, *HEADS)),
        Target(chunks.put_together, (*CUTS, *HEADS)),
        Target(storing.Stored.backward, STORED),
        *(Target(_derivative(name), slope(name)) for name in SLOPES),
        Target(normal._d_gelu.fun, slope("gelu")),
        Target(normal._d_gelu_tanh.fun, slope("gelu_tanh")),
        Target(weighted._d_silu.fun, slope("silu")),
        *(Target(_rule(name), loss(*tests)) for name, tests in LOSSES.items()),
        Target(losses.Loss.__call__, loss("squared_error", "softmax")),
        Target(losses.Loss.value_and_grad, loss("squared_error", "softmax")),
        Target(objective.Objective.row_weights, loss("squared_error")),
        Target(classification._log_softmax, loss("softmax", "softmax-soft")),
        Target(regression._unit, (*SCALES, *loss("cosine"))),
    )


HEAD = (
    logits.Logits.losses,
    logits.Logits.chunk,
    head_rows.Counting.reduced,
    head_rows.Counting.coefficients,
    linear.LinearCrossEntropy.batch,
    linear.LinearCrossEntropy.losses,
    linear.LinearCrossEntropy.gradients,
    pieces.gradients,
    linear.LinearCrossEntropy.value_and_grad,
    pieces.read_pieces,
    called.called,
    walk.cross_entropy,
    walk.walk,
)


def _derivative(name: str) -> Any:
    """Give the function that computes an activation's derivative."""
    found = [
        getattr(m, f"d_{name}") for m in (piecewise, smooth, weighted, normal) if hasattr(m, f"d_{name}")
    ]
    return found[0]


def _rule(name: str) -> Any:
    """Give the rule of a loss."""
    found = [getattr(m, f"_{name}") for m in (classification, regression) if hasattr(m, f"_{name}")]
    return found[0]


SLOPES = tuple(name for name in test_activation.ROWS if name != "identity")
LOSSES = {
    "squared_error": ("squared_error",),
    "half_squared_error": ("half_squared_error",),
    "absolute_error": ("absolute_error",),
    "huber": ("huber",),
    "binary_cross_entropy": ("binary", "binary-soft"),
    "softmax_cross_entropy": ("softmax", "softmax-soft", "softmax-smooth", "softmax-unnormalised"),
    "kl_divergence": ("kl",),
    "hinge": ("hinge",),
    "cosine": ("cosine",),
    "poisson": ("poisson",),
}
