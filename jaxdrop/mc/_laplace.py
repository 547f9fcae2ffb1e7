"""The posteriors of a last layer, their evidence, and the precisions that maximize it."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

# Precisions that are searched for the largest evidence, in logs relative to the largest curvature.
_RANGE = (-25.0, 15.0)
_GRID = 200
# The fields of `Laplace`.
Fields = tuple[jax.Array | None, ...]


@partial(jax.jit, static_argnums=0)
def regression(
    has_bias: bool, h: jax.Array, y: jax.Array, prior: jax.Array | None, noise: jax.Array | None
) -> Fields:
    h = with_ones(h) if has_bias else h
    (n, outputs), dtype = y.shape, h.dtype
    u, size, left = _singular(h)
    along = product(u.T, y)
    # What no weights can explain, without a difference of large sums.
    rest = ((y - product(u, along)) ** 2).sum()
    along = jnp.pad(along, ((0, len(size) - len(along)), (0, 0)))
    squares = (along**2).sum(-1)

    def precisions(ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The precisions of the prior and the noise for their ratio."""
        residual = rest + (squares * ratio / (size**2 + ratio)).sum()
        if noise is not None:
            return ratio * noise.astype(dtype), noise.astype(dtype)
        if prior is not None:
            return prior.astype(dtype), prior.astype(dtype) / ratio
        best = n * outputs / residual
        return ratio * best, best

    def evidence(ratio: jax.Array) -> jax.Array:
        _, precision = precisions(ratio)
        residual = rest + (squares * ratio / (size**2 + ratio)).sum()
        volume = -jnp.log1p(size**2 / ratio).sum() * outputs
        fit = n * outputs * jnp.log(precision / (2 * jnp.pi)) - precision * residual
        return 0.5 * (fit + volume)

    if prior is not None and noise is not None:
        ratio = (prior / noise).astype(dtype)
    else:
        ratio = _maximized(evidence, (size**2).max())
    alpha, beta = precisions(ratio)
    weights = product(left, (size / (size**2 + ratio))[:, None] * along)
    precision = jnp.broadcast_to((beta * size**2 + alpha)[:, None], (len(size), outputs))
    return (
        *_split(weights, has_bias),
        left,
        jnp.eye(outputs, dtype=dtype),
        precision,
        alpha,
        beta,
        evidence(ratio),
    )


@jax.jit
def classification(
    h: jax.Array, labels: jax.Array, kernel: jax.Array, bias: jax.Array | None, prior: jax.Array | None
) -> Fields:
    h = h if bias is None else with_ones(h)
    weights = kernel if bias is None else jnp.concatenate([kernel, bias[None]])
    logs = jax.nn.log_softmax(product(h, weights))
    probs = jnp.exp(logs)
    fit = jnp.take_along_axis(logs, labels[:, None], 1).sum()
    mean = jnp.diag(probs.mean(0)) - product(probs.T, probs) / jnp.asarray(len(h), h.dtype)
    found, right = jnp.linalg.eigh(mean)
    # A shift of all logits has no curvature, which is the least.
    of_outputs = jnp.where(jnp.arange(len(found)) == 0, 0, found.clip(0)).astype(h.dtype)
    _, size, left = _singular(jnp.linalg.qr(h, mode="r"))
    curvature = (size**2)[:, None] * of_outputs[None]

    def evidence(alpha: jax.Array) -> jax.Array:
        return fit - 0.5 * (jnp.log1p(curvature / alpha).sum() + alpha * (weights**2).sum())

    alpha = _maximized(evidence, curvature.max()) if prior is None else prior.astype(h.dtype)
    parts = _split(weights, bias is not None)
    return (*parts, left, right, curvature + alpha, alpha, None, evidence(alpha))


def _singular(h: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The left singular vectors, all singular values `[D]` with zeros, and a basis `[D, D]` of columns."""
    u, size, v = jnp.linalg.svd(h, full_matrices=h.shape[0] < h.shape[1])
    return u, jnp.pad(size, (0, h.shape[1] - len(size))), v.T


def _maximized(fun: Callable[[jax.Array], jax.Array], scale: jax.Array) -> jax.Array:
    """The positive number, near a scale, that maximizes a function: the best of a grid, refined."""
    logs = jnp.log(scale) + jnp.linspace(*_RANGE, _GRID, dtype=scale.dtype)
    best = jnp.argmax(jax.lax.map(lambda log: fun(jnp.exp(log)), logs))
    step = logs[1] - logs[0]

    def shrink(_: int, middle_and_step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle, step = middle_and_step
        near = middle + step * jnp.array([-1, 0, 1], step.dtype)
        values = jnp.stack([fun(jnp.exp(log)) for log in near])
        return near[jnp.argmax(values)], step / 2

    middle, _ = jax.lax.fori_loop(0, 12, shrink, (logs[best], step / 2))
    return jnp.exp(middle)


def _split(weights: jax.Array, has_bias: bool) -> tuple[jax.Array, jax.Array | None]:
    return (weights[:-1], weights[-1]) if has_bias else (weights, None)


def with_ones(h: jax.Array) -> jax.Array:
    return jnp.concatenate([h, jnp.ones_like(h[:, :1])], 1)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")
