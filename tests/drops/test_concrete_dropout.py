"""Concrete dropout: the relaxed decision, its penalty, and what it learns."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import integrate, special

from jaxdrop import _bits
from jaxdrop.drops.concrete_dropout import concrete_dropout
from tests import learned
from tests.normals import standard_normal

KEY = jax.random.key(2)


def with_kernel(key, x, logit, kernel):
    return concrete_dropout(key, x, logit, kernel=kernel, weight_strength=1e-2, dropout_strength=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("law", learned.EVERY_LAW, ids=lambda law: law.__name__)
def test_laws(law):
    x = standard_normal(1, (16, 8))
    kernel = standard_normal(3, (8, 4))
    law(with_kernel, x, jnp.linspace(-2, 2, 8), kernel)


def factor(uniform: np.ndarray, logit: float, temperature: float) -> np.ndarray:
    """The paper's formula as it is written, in float64."""
    p = special.expit(logit)
    z = special.expit((np.log(p) - np.log(1 - p) + np.log(uniform) - np.log(1 - uniform)) / temperature)
    return (1 - z) / (1 - p)


@pytest.mark.parametrize(("logit", "temperature"), [(-2.0, 1.0), (0.0, 0.5), (1.5, 0.5)])
def test_the_factors_are_distributed_as_in_the_paper(logit, temperature):
    """The factor falls with u, so that the sorted factors are those of the quantiles of u."""
    n = 100_000
    y, _ = concrete_dropout(KEY, jnp.ones(n), logit, temperature=temperature)
    y, limits = np.asarray(y, np.float64), factor(np.linspace(0.1, 0.9, 9), logit, temperature)
    np.testing.assert_allclose(
        (y[:, None] > limits).mean(0), np.linspace(0.1, 0.9, 9), atol=5 * np.sqrt(0.25 / n)
    )


@pytest.mark.parametrize("logit", [-12.0, -2.0, 0.0, 1.5, 8.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_each_factor_is_that_of_its_uniform(logit, temperature):
    uniform = np.asarray(_bits.uniform(_bits.consume(KEY), (10_000,)), np.float64)
    y, _ = concrete_dropout(KEY, jnp.ones(10_000), logit, temperature=temperature)
    np.testing.assert_allclose(y, factor(uniform, logit, temperature), rtol=1e-4, atol=1e-12)


def test_nothing_is_kept_for_the_backward_pass_but_the_input():
    x = jnp.ones((64, 128))
    _, vjp = jax.vjp(lambda x, logit: concrete_dropout(KEY, x, logit)[0], x, jnp.float32(0))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(vjp)) <= x.nbytes + 64


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mean_and_variance(p):
    """Within 5 standard errors of the integrals; the mean is off as documented."""
    logit, n = float(special.logit(p)), 200_000

    def moment(power: int) -> float:
        def integrand(noise: float) -> float:
            kept = special.expit(-(logit + noise) / 0.1) / (1 - p)
            return kept**power * special.expit(noise) * special.expit(-noise)

        return integrate.quad(integrand, -40, 40, points=[-logit], limit=500)[0]

    mean, square = moment(1), moment(2)
    y = np.asarray(concrete_dropout(KEY, jnp.full(n, 1.5), logit)[0], np.float64) / 1.5
    assert abs(y.mean() - mean) < 5 * np.sqrt((square - mean**2) / n)
    assert abs((y**2).mean() - square) < 5 * (y**2).std() / np.sqrt(n)
    assert abs(mean - 1) < (0.002 if p <= 0.5 else 0.017)


def test_a_low_temperature_is_dropout():
    y, _ = concrete_dropout(KEY, jnp.ones(10_000), 0.0, temperature=1e-6)
    assert set(np.unique(y)) == {0.0, 2.0}


def test_the_penalty_of_one_rate():
    kernel, logit, x = np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]]), -1.0, jnp.ones((4, 3))
    p = special.expit(logit)
    entropy = p * np.log(p) + (1 - p) * np.log(1 - p)
    _, penalty = concrete_dropout(
        KEY, x, logit, kernel=jnp.asarray(kernel), weight_strength=0.1, dropout_strength=0.01
    )
    np.testing.assert_allclose(penalty, 0.1 * (kernel**2).sum() / (1 - p) + 0.01 * 3 * entropy, rtol=1e-6)
    _, penalty = concrete_dropout(KEY, x, logit, dropout_strength=0.01)
    np.testing.assert_allclose(penalty, 0.01 * 3 * entropy, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3, 2)])
def test_the_penalty_of_a_rate_for_each_feature(shape):
    """As many penalties of one rate as there are features, each of separate rows of the kernel."""
    kernel = jax.random.normal(jax.random.key(1), shape)
    logits = jnp.array([-2.0, 0.0, 1.0])
    options = {"weight_strength": 0.1, "dropout_strength": 0.01}
    _, penalty = concrete_dropout(KEY, jnp.ones((4, 3)), logits, kernel=kernel, **options)
    single = [
        concrete_dropout(KEY, jnp.ones((4, 1)), logits[i], kernel=kernel[..., i, :], **options)[1]
        for i in range(3)
    ]
    np.testing.assert_allclose(penalty, sum(single), rtol=1e-5)
    same = concrete_dropout(KEY, jnp.ones((4, 3)), jnp.full((1, 3), 0.7), kernel=kernel, **options)[1]
    np.testing.assert_allclose(
        same, concrete_dropout(KEY, jnp.ones((4, 3)), 0.7, kernel=kernel, **options)[1], rtol=1e-6
    )


@pytest.mark.parametrize(("dtype", "temperature"), [("float32", 0.1), ("float32", 1.0), ("bfloat16", 0.1)])
@pytest.mark.parametrize("logit", [-1000.0, -100.0, -25.0, 25.0, 100.0, 1000.0])
def test_extreme_logits_are_finite(logit, dtype, temperature):
    def of(x, logit, kernel):
        y, penalty = concrete_dropout(KEY, x, logit, kernel=kernel, temperature=temperature)
        return y.sum().astype(jnp.float32) + penalty

    x, kernel = jnp.ones((64, 3), dtype), jnp.ones((3, 2))
    value, grads = jax.value_and_grad(of, (0, 1, 2))(x, jnp.float32(logit), kernel)
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves((value, grads)))
    if logit < 0:
        np.testing.assert_array_equal(with_kernel(KEY, x, logit, kernel)[0], 1)
    if logit > 0:
        assert (with_kernel(KEY, x, logit, kernel)[0] < 1e-20).all()
        assert grads[1] > 0


def test_the_gradient_of_the_penalty():
    p, kernel = 0.2, jnp.array([[2.0]])

    def of(logit):
        return concrete_dropout(
            KEY, jnp.ones((1, 1)), logit, kernel=kernel, weight_strength=1.0, dropout_strength=1.0
        )[1]

    logit = special.logit(p)
    # d/dp (4 / (1 - p) + p log p + (1 - p) log(1 - p)), times dp/dlogit = p (1 - p).
    expected = (4 / (1 - p) ** 2 + logit) * p * (1 - p)
    np.testing.assert_allclose(jax.grad(of)(float(logit)), expected, rtol=1e-5)


def test_it_learns_a_rate_by_gradient():
    """With a kernel of zero the entropy is all there is, and the rate goes to a half."""
    optimizer = optax.adam(0.1)

    @jax.jit
    def step(carry, _):
        logit, state = carry
        grad = jax.grad(lambda logit: concrete_dropout(KEY, jnp.ones(4), logit, dropout_strength=1.0)[1])(
            logit
        )
        updates, state = optimizer.update(grad, state)
        return (logit + updates, state), None

    logit = jnp.float32(-3.0)
    (logit, _), _ = jax.lax.scan(step, (logit, optimizer.init(logit)), length=300)
    np.testing.assert_allclose(jax.nn.sigmoid(logit), 0.5, atol=0.01)


def test_shared_decisions():
    """Of a whole feature map: spatial concrete dropout."""
    y, _ = concrete_dropout(KEY, jnp.ones((4, 5, 6, 3)), 0.0, temperature=1.0, broadcast_dims=(1, 2))
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    assert len(np.unique(y[:, 0, 0])) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must lie in (0, 1], got 0."),
        ({"temperature": 1.5}, "`temperature` must lie in (0, 1], got 1.5."),
        ({"temperature": float("nan")}, "`temperature` must lie in (0, 1], got nan."),
        ({"weight_strength": -1.0}, "`weight_strength` must be finite and at least 0, got -1."),
        ({"dropout_strength": -1.0}, "`dropout_strength` must be finite and at least 0, got -1."),
        (
            {"logit": jnp.zeros(3), "kernel": jnp.ones((2, 3))},
            "`kernel` must be of shape [..., 3, O] for one logit per feature, got (2, 3).",
        ),
        ({"logit": jnp.zeros(2)}, "`logit` must broadcast to shape (4, 3), got (2,)."),
        (
            {"logit": jnp.zeros((4, 1)), "broadcast_dims": (0,)},
            "`logit` must broadcast to shape (1, 3), got (4, 1).",
        ),
        ({"x": jnp.ones(())}, "`x` must be of shape [..., C], got ()."),
    ],
)
def test_bad_values(options, message):
    options = {"x": jnp.ones((4, 3)), "logit": 0.0, "kernel": jnp.ones((3, 2)), **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        concrete_dropout(KEY, **options)


@pytest.mark.parametrize("name", ["x", "kernel", "logit"])
def test_integers(name):
    arrays = {"x": jnp.ones((4, 3)), "logit": jnp.zeros(()), "kernel": jnp.ones((3, 2))}
    arrays[name] = arrays[name].astype(jnp.int32)
    with pytest.raises(TypeError, match=re.escape(f"`{name}` must be a floating-point array, got int32.")):
        concrete_dropout(KEY, **arrays)


def test_a_traced_temperature_out_of_range_is_loud():
    y, _ = jax.jit(lambda t: concrete_dropout(KEY, jnp.ones(4), 0.0, temperature=t))(2.0)
    assert np.isnan(y).all()


def test_a_temperature_that_a_variable_holds():
    def draw(temperature):
        return concrete_dropout(KEY, jnp.ones(4), 0.0, temperature=temperature)[0]

    held = nnx.jit(draw)(nnx.Variable(jnp.float32(0.5)))
    np.testing.assert_allclose(held, draw(0.5), rtol=1e-6)
