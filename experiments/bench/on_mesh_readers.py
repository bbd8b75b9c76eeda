"""Everything of fnn that reads factors, as functions of params, input and target."""

from collections.abc import Callable
from typing import Any

import jax
import optax

import fnn
from experiments.bench.on_mesh import Network
from fnn import attribution, curvature, privacy, readers


def programs(network: Network) -> dict[str, Callable]:
    """Return the programs of a network whose loss has no params, by name.

    What they take beside params, input and target is made of these: a direction is the params, the basis of
    Kronecker factors their own.
    """
    net, loss, key = network.net, network.loss, jax.random.key(0)

    def read(reader: Any, *trees: str) -> Callable:
        run = readers.losses_and_readings(net, loss, reader)
        return lambda p, x, t: run(p, x, t, trees=tuple(p for _ in trees))

    def clipped(**options: Any) -> Callable:
        return privacy.clipped_gradient(net, loss, 1.0, **options)

    def kronecker(fisher: str, **options: Any) -> Callable:
        run = curvature.kronecker_factors(net, loss, fisher, **options)
        return lambda p, x, t: run(p, x, t, key if fisher == "sampled" else None)

    def with_basis(run: Callable) -> Callable:
        shapes = curvature.kronecker_factors(net, loss, "empirical")

        def f(p: Any, x: Any, t: Any) -> Any:
            like = jax.eval_shape(lambda p: curvature.eigen(shapes(p, x, t).factors), p)
            return run(p, x, t, jax.tree.map(lambda s: jax.numpy.ones(s.shape, s.dtype), like))

        return f

    def self_influence(p: Any, x: Any, t: Any, blocks: Any) -> Any:
        return readers.losses_and_readings(net, loss, attribution.self_influence(1e-2))(
            p, x, t, trees=(blocks,)
        )

    def kfac(p: Any, x: Any, t: Any) -> Any:
        optimizer = curvature.kfac(net, x, 0.1, bias="separate")
        _, gradient, factors = kronecker("sampled")(p, x, t)
        return optimizer.update(gradient, optimizer.init(p), p, factors=factors)

    def update(**options: Any) -> Callable:
        init, step = fnn.train.update_in_backward(net, loss, optax.adam(1e-3), **options)
        return lambda p, x, t: step(p, init(p, x), x, t)

    def influence(p: Any, x: Any, t: Any) -> Any:
        return attribution.influence(net, loss, lambda v: v)(p, x, t, x, t)

    def product(run: Callable) -> Callable:
        return lambda p, x, t: run(p, x, t, p)

    return {
        "gradient": fnn.value_and_grad(net, loss),
        "norms": read(readers.squared_norm),
        "norms and gradient": read(readers.zip_readers(readers.squared_norm, readers.gradient)),
        "inner products": read(readers.inner_product, "direction"),
        "second moment": read(readers.second_moment),
        "variance": read(readers.variance),
        "clipped sum": clipped(),
        "clipped sum, by layer": clipped(per="layer"),
        "clipped sum, microbatches": clipped(microbatch=network.x.shape[0] // 4),
        "private gradient": lambda p, x, t: privacy.private_gradient(net, loss, 1.0, 1.0, 64)(p, x, t, key),
        "Kronecker factors, empirical": kronecker("empirical"),
        "Kronecker factors, sampled": kronecker("sampled"),
        "Kronecker factors, joint bias": kronecker("sampled", bias="joint"),
        "KFAC step": kfac,
        "EKFAC": with_basis(curvature.ekfac(net, loss, "empirical")),
        "GGN diagonal, sampled": lambda p, x, t: curvature.ggn_diagonal(net, loss, "sampled")(p, x, t, key),
        "GGN product": product(curvature.ggn_product(net, loss)),
        "Hessian product": product(curvature.hessian_product(net, loss)),
        "Fisher product": product(curvature.fisher_product(net, loss)),
        "influence": influence,
        "self-influence": with_basis(self_influence),
        "GraNd": attribution.grand(net, loss),
        "EL2N": attribution.el2n(net, loss),
        "feedback alignment": lambda p, x, t: fnn.feedback.feedback_alignment(net, loss)(p, p, x, t),
        "update in backward": update(),
        "clipped update in backward": update(clip=1.0),
        "Gram matrix": read(readers.gram),
        "TracIn": lambda p, x, t: attribution.tracin(net, loss)([(p, 0.1)], x, t, x, t),
    }
