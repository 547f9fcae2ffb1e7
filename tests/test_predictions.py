"""Checks of predictions: what they refuse, in words, and what they return."""

import inspect
import re
import tracemalloc
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import _predictions, losses, mc, uncertainty
from tests.normals import standard_normal

ONE = {"probs": "(for one probability p, stack 1 - p and p)", "logits": "(for one logit z, stack 0 and z)"}
FITTED = {
    "AdaptiveSets": uncertainty.AdaptiveSets(jnp.ones(()), 0.0, 0.0, randomized=False),
    "Isotonic": uncertainty.Isotonic(jnp.ones((1, 2)), jnp.ones((1, 2))),
    "LAC": uncertainty.LAC(jnp.ones(())),
    "Temperature": uncertainty.Temperature(jnp.ones(())),
    "VectorScaling": uncertainty.VectorScaling(jnp.ones(1), jnp.ones(1)),
}


def of_classes() -> Iterator[tuple[str, Callable]]:
    """Every public function, and every call of a fit, that takes class probabilities or logits."""
    for module in (uncertainty, losses):
        for name in module.__all__:
            # These have a probability per label, without an axis of classes.
            if name.startswith("binary_") or name in ("FNRSets", "fit_fnr"):
                continue
            value = getattr(module, name)
            called = value.__call__ if inspect.isclass(value) else value
            if callable(called) and set(inspect.signature(called).parameters) & set(ONE):
                yield name, FITTED[name] if inspect.isclass(value) else value


@pytest.mark.parametrize(("name", "function"), list(of_classes()), ids=lambda value: str(value)[:20])
def test_one_class_is_refused(name: str, function: Callable):
    """Every prediction of one class is certain; two are meant."""
    one = jnp.ones((3, 4, 1) if name == "batch_bald" else (4, 1))
    known = {"labels": jnp.zeros(4, int), "key": jax.random.key(0), "level": 0.5, "num": 1, "other": one}
    parameters = inspect.signature(function).parameters
    (of,) = set(parameters) & set(ONE)
    options = {name: known[name] for name in parameters if name in known}
    if name in FITTED:
        options.pop("key", None)
    message = f"`{of}` must have at least 2 classes along the last axis {ONE[of]}, got shape {one.shape}."
    for call in (function, jax.jit(lambda array: function(**{of: array}, **options))):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(one) if call is not function else function(**{of: one}, **options)


def test_one_class_is_found_everywhere():
    assert {"nll", "fit_lac", "fit_temperature", "r_drop", "bald", *FITTED} <= dict(of_classes()).keys()
    assert len(list(of_classes())) >= 26


@pytest.mark.parametrize("reducer", [mc.Categorical, mc.CategoricalLogDensity])
def test_one_class_is_refused_by_reducers(reducer: type):
    known = {name for name in mc.__all__ if hasattr(getattr(mc, name), "from_logits")}
    assert known == {"Bernoulli", "BernoulliLogDensity", "Categorical", "CategoricalLogDensity"}
    options = {"num_samples": 2, "reducers": reducer(), "targets": np.zeros(4, int)}
    message = r"of at least 2 classes \(`Bernoulli` takes single logits\), got shape \(4, 1\)\."
    with pytest.raises(ValueError, match=message):
        mc.estimate(lambda key, x: x + jax.random.normal(key), jax.random.key(0), jnp.ones((4, 1)), **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: _predictions.check_values("a", "y"),
            TypeError,
            "`y` must be a real number or an array of them",
        ),
        (
            lambda: _predictions.check_values(np.ones((2, 0)), "y"),
            ValueError,
            "`y` must not be empty, got shape (2, 0).",
        ),
        (
            lambda: _predictions.check_values([1.0, np.nan], "y"),
            ValueError,
            "`y` must not hold a NaN, got one.",
        ),
        (
            lambda: _predictions.check_vector(np.ones((2, 1)), "y"),
            ValueError,
            "`y` must have one axis, got shape (2, 1).",
        ),
        (
            lambda: _predictions.check_finite(jnp.array([1, jnp.inf]), "y"),
            ValueError,
            "`y` must be finite, got inf.",
        ),
        (
            lambda: _predictions.check_positive([1.0, 0.0], "tau"),
            ValueError,
            "`tau` must be above 0, got 0.",
        ),
        (
            lambda: _predictions.check_positive(np.nan, "tau"),
            ValueError,
            "`tau` must be above 0, got nan.",
        ),
        (lambda: _predictions.check_level(1.0), ValueError, "`level` must lie in (0, 1), got 1."),
        (
            lambda: _predictions.check_level([0.5, 0.0]),
            ValueError,
            "`level` must lie in (0, 1), got 0.",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones(2), "[T, ..., K]"),
            ValueError,
            "`probs` must be of shape [T, ..., K], got (2,).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones((2, 2, 2)), "[N, K]"),
            ValueError,
            "`probs` must be of shape [N, K], got (2, 2, 2).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.ones((0, 2)), "[N, K]"),
            ValueError,
            "`probs` must not be empty, got shape (0, 2).",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.array([1.25, -0.25]), "[..., K]"),
            ValueError,
            "`probs` must lie in [0, 1], got 1.25.",
        ),
        (
            lambda: _predictions.check_probabilities(jnp.array([[0.5, 0.5], [0.5, 0.25]]), "[..., K]"),
            ValueError,
            "`probs` must sum to 1 along the last axis to within 0.001, got 0.75.",
        ),
        (
            lambda: _predictions.check_labels([0, 2], jnp.ones((2, 2))),
            ValueError,
            "`labels` must lie in [0, 1], got 2.",
        ),
        (
            lambda: _predictions.check_labels([[0, 1]], jnp.ones((2, 2)), of_name="logits"),
            ValueError,
            "`labels` must have the shape of `logits` without its last axis, (2,), got (1, 2).",
        ),
        (
            lambda: _predictions.check_labels([0.0, 1.0], jnp.ones((2, 2))),
            TypeError,
            "`labels` must be an array of integers, got float32.",
        ),
    ],
)
def test_messages_about_predictions(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_predictions_are_widened():
    for x in (3, [1, 2], np.ones(2, bool), np.float16(1), jnp.ones(2, jnp.bfloat16)):
        assert _predictions.check_values(x, "y").dtype == jnp.float32
    half = jnp.array([0.3, 0.3, 0.4], jnp.bfloat16)
    assert _predictions.check_probabilities(half, "[..., K]").dtype == jnp.float32
    with jax.enable_x64(True):
        assert _predictions.check_values(np.ones(2), "y").dtype == jnp.float64


def test_a_softmax_in_half_precision_passes():
    logits = 3 * standard_normal(0, (500, 1000))
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        _predictions.check_probabilities(jax.nn.softmax(logits.astype(dtype)), "[B, K]")


def test_traced_predictions_pass():
    @jax.jit
    def f(x, labels):
        _predictions.check_level(x)
        _predictions.check_positive(x, "x")
        _predictions.check_finite(x, "x")
        _predictions.check_labels(labels, x)
        return _predictions.check_values(_predictions.check_probabilities(x, "[..., K]"), "x")

    assert np.isnan(f(jnp.full((2, 3), jnp.nan), jnp.array([-1, 7]))).all()


def test_probabilities_stored_in_half_precision_pass_in_float32():
    logits = 3 * standard_normal(0, (200, 1000))
    for dtype in (jnp.bfloat16, jnp.float16):
        stored = jax.nn.softmax(logits.astype(dtype)).astype(jnp.float32)
        assert np.abs(np.asarray(stored).sum(-1) - 1).max() > 1e-3 or dtype == jnp.float16
        _predictions.check_probabilities(stored, "[B, K]")
    with pytest.raises(ValueError, match=r"sum to 1 along the last axis to within 0\.001, got 0\.99"):
        _predictions.check_probabilities(jnp.array([[0.6, 0.3911]]), "[B, K]")


@pytest.mark.parametrize("traced", [False, True])
def test_checks_copy_no_more_than_blocks(traced: bool):
    """The host's memory for a check, against 8 MiB of probabilities."""
    probs, labels = jnp.full((2**20, 2), 0.5), jnp.zeros(2**20, jnp.int32)

    def check() -> None:
        _predictions.check_examples(probs, labels, None)
        _predictions.check_values(probs, "probs")

    tracemalloc.start()
    jax.jit(check)() if traced else check()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_ranks_keep_the_order_of_what_a_cast_would_merge():
    wide = 1 + 1e-10 * np.arange(4.0)
    first, second = _predictions.ranked(wide[::2], wide[1::2])
    assert (np.asarray(first) < np.asarray(second)).all()
    (same,) = _predictions.ranked(np.float32([2, 1]))
    np.testing.assert_array_equal(same, [2, 1])
    np.testing.assert_array_equal(_predictions.ranked(jnp.array([2**24 + 1]), jnp.array([0.5]))[0], [1])


def test_a_difference_of_float64_is_formed_before_the_cast():
    x, by = 1e8 + np.arange(3.0), np.float64(1e8)
    np.testing.assert_array_equal(_predictions.shifted(x, by), [0, 1, 2])
    np.testing.assert_array_equal(_predictions.shifted(2**40 + np.arange(3), np.int64(2**40)), [0, 1, 2])
    half = _predictions.shifted(jnp.ones(3, jnp.float16), jnp.arange(3))
    assert half.dtype == jnp.float32
    assert np.isinf(_predictions.shifted(np.array([1e300]), np.float64(0))).all()


def test_a_sum_is_rounded_toward_an_infinity():
    x, by = np.float32([1e6, -1e6, 0.1, 1.0]), np.float32([0.3, 1e-9, -1e-9, 0.5])
    exact, apart = x.astype(np.float64) + by, np.abs(np.spacing(x))
    for given in (x, x.astype(np.float64)):

        def ends(by, given=given):
            return [_predictions.added(given, by, toward) for toward in (-np.inf, np.inf)]

        for low, high in (ends(jnp.asarray(by)), jax.jit(ends)(by)):
            assert (np.float64(low) <= exact).all()
            assert (exact <= np.float64(high)).all()
            np.testing.assert_array_equal(high - low, [*apart[:3], 0])


def test_what_a_cast_rounds_it_rounds_up():
    for x in (np.array([1 + 1e-9, -1 - 1e-9, 1.0, 1e300]), np.array([2**60 + 1])):
        found = np.asarray(jax.jit(lambda x=x: _predictions.rounded_up(x))())
        np.testing.assert_array_equal(_predictions.rounded_up(x), found)
        assert found.dtype == np.float32
        assert (found.astype(np.float64) >= x).all()


@pytest.mark.parametrize("labels", [None, "labels", object()])
def test_labels_that_are_no_array(labels):
    with pytest.raises(TypeError, match="`labels` must be an array of integers, got "):
        _predictions.check_labels(labels, jnp.ones((3, 2)))


def test_integers_that_float32_rounds_are_subtracted_and_added_in_float64():
    large = np.array([2**24 + 1], np.int32)
    assert _predictions.shifted(large, np.array([2**24], np.int32)) == 1
    assert _predictions.added(large, np.float32(0), np.inf) == 2**24 + 2
    shifted = uncertainty.fit_residual(np.repeat(large - 1, 5), np.repeat(large, 5), level=0.5)
    assert shifted.margin == 1
