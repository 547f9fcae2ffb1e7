"""The contract that every regularizer keeps, checked over the whole family."""

import dataclasses
import inspect
import re
from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.devices import make_mesh
from tests.family import FAMILY, VARIANTS, Member, bernoulli

KEY = jax.random.key(7)
HASTE = pytest.mark.usefixtures("compiled_in_haste")
SHAPE = (64, 32, 128)
COLLECTIVES = re.compile("all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter")


def those(condition, members: tuple[Member, ...] = VARIANTS):
    """The members that a law concerns."""
    chosen = [member for member in members if condition(member)]
    return pytest.mark.parametrize("member", chosen, ids=lambda member: member.name)


everyone = those(lambda member: True)
family = those(lambda member: True, FAMILY)
# Those that are not another one in another form, of which all below would be said twice.
sources = those(lambda member: not member.form_of)
rates = those(lambda member: member.is_rate)
shells = those(lambda member: member.linen is not None)


def normal(shape: tuple[int, ...] = SHAPE, dtype: str = "float32") -> jax.Array:
    return jax.random.normal(jax.random.key(1), shape, dtype)


def forms(member: Member, level: float, x: jax.Array) -> dict[str, jax.Array]:
    """The result for a level that is static, traced, and an array that broadcasts."""
    found = {
        "static": member.pure(KEY, x, level),
        "static under jit": jax.jit(lambda x: member.pure(KEY, x, level))(x),
    }
    if member.traced:
        found["traced"] = jax.jit(member.pure)(KEY, x, level)
    if member.arrays:
        array = jnp.full((x.shape[0],) + (1,) * (x.ndim - 1), level)
        found |= {"array": member.pure(KEY, x, array), "traced array": jax.jit(member.pure)(KEY, x, array)}
    return found


@those(lambda member: member.zero)
def test_level_zero_is_the_identity(member: Member):
    """Of a member that chooses between two things, it is the first of them."""
    x = normal((8, 4, 16))
    for form, y in forms(member, 0.0, x).items():
        np.testing.assert_array_equal(y, member.zero(x), err_msg=form)


@HASTE
@those(lambda member: member.is_rate and member.one)
def test_rate_one_gives_zeros_and_zero_gradients(member: Member):
    """Of a member that chooses between two things, it is the second of them."""
    x = normal((8, 4, 16))
    for form, y in forms(member, 1.0, x).items():
        np.testing.assert_allclose(y, member.one(x), rtol=1e-6, err_msg=form)
    expected = jax.grad(lambda x: member.one(x).sum())(x)
    for pure in (member.pure, jax.jit(member.pure)):
        grad = jax.grad(lambda x, rate, pure=pure: pure(KEY, x, rate).sum())(x, 1.0)
        np.testing.assert_array_equal(grad, expected)


@HASTE
@everyone
@pytest.mark.parametrize("level", [0.1, 0.5, 0.004])
def test_a_level_means_the_same_in_every_form(member: Member, level: float):
    if (
        level == 0.004
        and "bits" in inspect.signature(member.public).parameters
        and " bits" not in member.name
    ):
        # A concrete rate this small takes 24 bits, a traced one 16, as documented; `bits=` settles it.
        if member.function:
            pytest.skip("the bits are the function's own")
        member = dataclasses.replace(member, pure=partial(member.pure, bits=24))
    x = normal((8, 4, 19))
    results = forms(member, level, x)
    for form, y in results.items():
        np.testing.assert_allclose(y, results["static"], rtol=3e-6, atol=3e-7, err_msg=form)
        np.testing.assert_array_equal(y == 0, results["static"] == 0, err_msg=form)


@HASTE
@those(lambda member: member.variance)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_moments_are_those_of_the_paper(member: Member, level: float):
    """Mean and variance within 5 standard errors, estimated from the independent draws."""
    x = normal() if member.standardized else jnp.full(SHAPE, 1.5)
    y = np.asarray(member.pure(KEY, x, level), np.float64)
    n = y.size / member.shared
    expected_mean, expected_var = (0.0, 1.0) if member.standardized else (1.5, None)
    if expected_var is None:
        expected_var = float(member.variance(jnp.asarray(1.5), level))
    squares = (y - expected_mean) ** 2
    assert abs(y.mean() - expected_mean) < 5 * np.sqrt(expected_var / n)
    assert abs(squares.mean() - expected_var) < 5 * squares.std() / np.sqrt(n) + 1e-4 * expected_var


@those(lambda member: not member.form_of, FAMILY)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
def test_shape_and_dtype_are_kept(member: Member, dtype: str):
    x = normal((8, 4, 16), dtype)
    results = forms(member, 0.3, x) if dtype == "bfloat16" else {"static": member.pure(KEY, x, 0.3)}
    for form, y in results.items():
        assert y.dtype == x.dtype, form
        assert y.shape == x.shape or "patch" in member.name, form
    for level in (np.float64(0.3), jnp.bfloat16(0.3), jnp.float32(0.3)):
        assert member.pure(KEY, x, level).dtype == x.dtype


@pytest.mark.usefixtures("optimized")  # else a product and a sum may be rounded once or twice
@those(lambda member: member.rounds_once and not member.form_of, FAMILY)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_the_rounded_single_precision(member: Member, dtype: str):
    x = normal((8, 4, 16), dtype)
    # A new function, which no other test has compiled in haste.
    draw = jax.jit(lambda x: member.pure(KEY, x, 0.3))
    np.testing.assert_array_equal(draw(x), draw(x.astype(jnp.float32)).astype(dtype))


@everyone
def test_all_transformations_in_one_program(member: Member):
    """The gradient of a tangent, rematerialized, in a scan over steps of a map over keys, in bfloat16."""
    x, keys = normal((8, 4, 16), "bfloat16"), jax.random.split(KEY, (2, 3))

    def loss(key: jax.Array, x: jax.Array, level: jax.Array | float) -> jax.Array:
        def total(x: jax.Array) -> jax.Array:
            return jnp.sum(member.pure(key, x, level).astype(jnp.float32))

        return jax.jvp(total, (x,), (x,))[1]

    def slopes(key: jax.Array, level: jax.Array | float) -> jax.Array:
        return jax.grad(jax.checkpoint(lambda key, x: loss(key, x, level)), 1)(key, x)

    def program(keys: jax.Array, level: jax.Array | float) -> jax.Array:
        return jax.lax.scan(lambda c, keys: (c, jax.vmap(lambda key: slopes(key, level))(keys)), 0, keys)[1]

    together = (
        jax.jit(program)(keys, 0.5) if member.traced else jax.jit(lambda keys: program(keys, 0.5))(keys)
    )
    alone = jax.grad(lambda x: jnp.sum(member.pure(keys[1, 2], x, 0.5).astype(jnp.float32)))(x)
    np.testing.assert_allclose(
        together[1, 2].astype(jnp.float32), alone.astype(jnp.float32), rtol=2e-2, atol=1e-2
    )


@pytest.mark.slow
@HASTE
@sources
def test_derivatives_are_finite(member: Member):
    """Gradient, tangent and second derivative, eager and jitted, at every level that has a meaning."""
    x = normal((8, 4, 16))

    def derivatives(pure, x: jax.Array, level: jax.Array):
        def loss(x: jax.Array, level: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(pure(KEY, x, level)))

        gradients = jax.grad(loss, (0, 1))(x, level)
        tangent = jax.jvp(loss, (x, level), (x, 1.0))
        return gradients, tangent, jax.jvp(jax.grad(lambda x: loss(x, level)), (x,), (x,))

    def static(level: float):
        return partial(derivatives, lambda key, x, _: member.pure(key, x, level))

    traced = jax.jit(partial(derivatives, member.pure))
    for level in (0.0, 0.5, 1.0) if member.one else (0.0, 0.5):
        run = traced if member.traced else jax.jit(static(level))
        chex.assert_tree_all_finite(run(x, level))
    chex.assert_tree_all_finite(static(0.5)(x, 0.5))


@HASTE
@those(lambda member: member.is_rate and member.elementwise)
def test_the_gradient_is_that_of_the_draw(member: Member):
    """The backward pass repeats the draw: the derivative along x of a map affine in x."""
    x = normal((8, 4, 16))

    def pure(x: jax.Array) -> jax.Array:
        return member.pure(KEY, x, 0.3)

    offset = pure(jnp.zeros_like(x))
    cotangent = jax.random.normal(jax.random.key(2), x.shape)
    (grad,) = jax.vjp(pure, x)[1](cotangent)
    slope = jax.jvp(pure, (x,), (jnp.ones_like(x),))[1]
    np.testing.assert_allclose(grad, cotangent * slope, rtol=1e-6)
    np.testing.assert_allclose(x * slope, jnp.where(slope != 0, pure(x) - offset, 0), rtol=1e-4, atol=1e-5)


@sources
def test_jit_scan_and_remat_are_eager(member: Member):
    x = normal((8, 4, 16))
    eager = member.pure(KEY, x, 0.3)
    scanned = jax.lax.scan(lambda c, key: (c, member.pure(key, x, 0.3)), 0, jax.random.split(KEY, 2))[1]
    looped = jnp.stack([member.pure(key, x, 0.3) for key in jax.random.split(KEY, 2)])
    close = {"rtol": 3e-6, "atol": 3e-7}
    np.testing.assert_allclose(jax.jit(lambda: member.pure(KEY, x, 0.3))(), eager, **close)
    np.testing.assert_allclose(scanned, looped, **close)
    plain = jax.grad(lambda x: jnp.sum(member.pure(KEY, x, 0.3) ** 2))
    remat = jax.grad(jax.checkpoint(lambda x: jnp.sum(member.pure(KEY, x, 0.3) ** 2)))
    np.testing.assert_allclose(jax.jit(remat)(x), plain(x), rtol=1e-5, atol=1e-6)


@sources
def test_vmap_over_keys_gives_each_its_own_draw(member: Member):
    x, keys = normal((8, 4, 16)), jax.random.split(KEY, 16)
    mapped = jax.vmap(lambda key: member.pure(key, x, 0.5))(keys)
    looped = jnp.stack([member.pure(key, x, 0.5) for key in keys])
    np.testing.assert_allclose(mapped, looped, rtol=3e-6, atol=3e-7)
    found = len({np.asarray(y).tobytes() for y in mapped})
    assert found == 16 or 1 < found <= member.outcomes


@those(lambda member: member.traced and not member.form_of)
def test_vmap_over_levels_keeps_the_draw(member: Member):
    x, levels = normal((8, 4, 16)), jnp.array([0.0, 0.25, 0.5])
    mapped = jax.vmap(lambda level: member.pure(KEY, x, level))(levels)
    looped = jnp.stack([member.pure(KEY, x, level) for level in levels])
    np.testing.assert_allclose(mapped, looped, rtol=3e-6, atol=3e-7)


@pytest.mark.slow
@sources
@pytest.mark.parametrize(
    ("axis_type", "size", "specs"),
    [
        (AxisType.Auto, 24, (P("a"), P(("a", "b")), P(None, "b", "a"))),
        (AxisType.Explicit, 24, (P("a"), P(None, None, "b"))),
        (AxisType.Auto, 12, (P(None, None, "b"),)),
    ],
    ids=["auto", "explicit", "uneven"],
)
def test_sharding_changes_nothing_and_costs_nothing(
    member: Member, axis_type: AxisType, size: int, specs: tuple
):
    """Same values, same sharding out as in, no collective: forward and backward."""
    if size == 12 and member.name not in ("dropout", "alpha_dropout", "gaussian_dropout", "mixout"):
        pytest.skip("how rows of other lengths are drawn is held by these")
    if member.shardable == "none" and axis_type is AxisType.Explicit:
        pytest.skip("JAX wants to be told how what is taken across devices shall lie")
    x = normal((16, 6, size))
    forward = jax.jit(lambda key, x: member.pure(key, x, 0.3))
    backward = jax.jit(jax.grad(lambda key, x: member.pure(key, x, 0.3).sum(), 1))
    expected = forward(KEY, x)
    mesh = make_mesh((4, 2), ("a", "b"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        for spec in specs if member.shardable == "any" else [spec for spec in specs if len(spec) == 1]:
            sharded = jax.device_put(x, NamedSharding(mesh, spec))
            # Backward, the draw is the same: it is looked at once.
            functions = (forward, backward) if spec == P("a") else (forward,)
            programs = [function.lower(KEY, sharded).compile() for function in functions]
            y = programs[0](KEY, sharded)
            if member.variance is bernoulli and member.selects:
                np.testing.assert_array_equal(y, expected)
            # A product and a sum may be rounded once or twice, as XLA fuses them.
            np.testing.assert_allclose(y, expected, rtol=3e-6, atol=3e-7)
            if member.shardable == "none":
                continue
            assert y.sharding.is_equivalent_to(sharded.sharding, x.ndim)
            for program in programs:
                assert not COLLECTIVES.findall(program.as_text())


@HASTE
@those(lambda member: member.keeps_nothing and not member.form_of)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_nothing_is_kept_for_the_backward_pass_but_the_seed(member: Member, wrap):
    """At most the key's two words and three scalars, whatever the size of the array."""
    x = normal()
    _, vjp = jax.vjp(wrap(lambda x: member.pure(KEY, x, 0.3)), x)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(vjp)) <= 20


@pytest.mark.slow
@HASTE
@sources
def test_key_reuse_is_seen_and_a_gradient_raises_no_false_alarm(member: Member):
    x = normal((8, 4, 16))

    def once(key: jax.Array, x: jax.Array) -> jax.Array:
        return member.pure(key, x, 0.3).sum()

    def twice(key: jax.Array, x: jax.Array) -> jax.Array:
        return once(key, x) + once(key, x)

    with jax.debug_key_reuse(True):
        for wrap in (lambda f: f, jax.jit):
            wrap(jax.value_and_grad(once, 1))(jax.random.key(0), x)
            with pytest.raises(jax.errors.KeyReuseError):
                wrap(twice)(jax.random.key(1), x)
        key = jax.random.key(2)
        member.pure(key, x, 0.3)
        with pytest.raises(jax.errors.KeyReuseError):
            member.pure(key, x, 0.3)


@pytest.mark.slow
@HASTE
@those(lambda member: member.variance and not member.form_of)
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_implementations(member: Member, impl: str):
    """Moments as from Threefry; and but for Flax's own mask, vmap is the loop, as nowhere in JAX."""
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    x = normal() if member.standardized else jnp.ones(SHAPE)
    y = np.asarray(member.pure(keys[0], x, 0.5), np.float64)
    variance = float(member.variance(jnp.asarray(1.0), 0.5))
    mean = 0.0 if member.standardized else 1.0
    assert abs(y.mean() - mean) < 5 * np.sqrt(variance / y.size * member.shared)
    squares = (y - mean) ** 2
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(y.size / member.shared) + 1e-4
    if "32" not in member.name:
        mapped = jax.vmap(lambda key: member.pure(key, x[:4], 0.5))(keys)
        looped = jnp.stack([member.pure(key, x[:4], 0.5) for key in keys])
        np.testing.assert_allclose(mapped, looped, rtol=3e-6, atol=3e-7)


@those(lambda member: member.selects)
def test_what_is_dropped_is_gone_whatever_it_was(member: Member):
    shape = (8, 4, 16)
    kept = jax.jvp(lambda x: member.pure(KEY, x, 0.5), (jnp.ones(shape),), (jnp.ones(shape),))[1] != 0
    assert kept.any()
    assert not kept.all()
    for value in (jnp.inf, jnp.nan):
        y = member.pure(KEY, jnp.where(kept, 1.0, value), 0.5)
        assert np.isfinite(y).all()


@HASTE
@shells
def test_linen_shell_is_the_pure_function(member: Member):
    x = normal((8, 4, 16))
    module = member.linen(0.3, deterministic=False)
    np.testing.assert_array_equal(module.apply({}, x, rng=KEY), member.pure(KEY, x, 0.3))
    level = {member.level: 0.5}
    np.testing.assert_array_equal(module.apply({}, x, rng=KEY, **level), member.pure(KEY, x, 0.5))
    np.testing.assert_array_equal(
        module.apply({}, x, deterministic=None, rng=KEY), module.apply({}, x, rng=KEY)
    )
    assert member.linen(0.3).apply({}, x, deterministic=True) is x
    assert member.linen(0.0).apply({}, x, deterministic=False) is x


@HASTE
@shells
def test_nnx_shell_is_the_pure_function(member: Member):
    x = normal((8, 4, 16))
    module = member.nnx(0.3, rngs=nnx.Rngs(dropout=5))
    np.testing.assert_array_equal(module(x, rngs=KEY), member.pure(KEY, x, 0.3))
    level = {member.level: 0.5}
    np.testing.assert_array_equal(module(x, rngs=KEY, **level), member.pure(KEY, x, 0.5))
    key = nnx.Rngs(dropout=5).dropout.fork()()
    np.testing.assert_array_equal(module(x), member.pure(key, x, 0.3))
    module.eval()
    assert module(x) is x
    assert member.nnx(0.0)(x) is x


@family
def test_argument_order_and_names(member: Member):
    """Key, data, level; every option keyword-only."""
    parameters = list(inspect.signature(member.public).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[0] == "key"
    assert member.name == "standout" or positional[-1] == member.level
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(positional) :])
    for module in (member.linen, member.nnx):
        if module:
            assert set(inspect.signature(module.__init__).parameters) >= {p.name for p in parameters[2:]}


@rates
@pytest.mark.parametrize("rate", [1.3, -0.1, float("nan"), np.float32(1.5), jnp.array([0.5, 2.0])])
def test_a_rate_outside_the_unit_interval(member: Member, rate):
    bad = np.asarray(rate).flat[-1]
    message = re.escape(f"`rate` must lie in [0, 1], got {float(bad):g}.")
    x = jnp.ones((8, 4, 2))
    if member.name != "standout":  # its level is a logit
        with pytest.raises(ValueError, match=message):
            member.pure(KEY, x, rate)
    if not member.linen:
        return
    with pytest.raises(ValueError, match=message):
        member.linen(rate, deterministic=False).apply({}, x, rng=KEY)
    with pytest.raises(ValueError, match=message):
        member.nnx(rate, rngs=nnx.Rngs(0))


@HASTE
@those(lambda member: member.traced and not member.form_of)
@pytest.mark.parametrize("level", [1.3, -0.3, float("nan")])
def test_a_traced_level_that_is_out_of_range_is_loud(member: Member, level: float):
    """A trace cannot raise; the result is NaN all over, and so is its gradient where it has one."""
    if not member.is_rate and level > 0:
        pytest.skip("a deviation of 1.3 is a good one")
    x = normal((8, 4, 16))
    assert np.isnan(jax.jit(member.pure)(KEY, x, level)).all()
    if member.arrays:
        assert np.isnan(jax.jit(member.pure)(KEY, x, jnp.full((8, 1, 1), level))).all()
    if member.is_rate and member.variance:
        grad = jax.jit(jax.grad(lambda x, level: member.pure(KEY, x, level).sum()))(x, level)
        assert np.isnan(grad).all()


@pytest.mark.slow
@HASTE
@sources
def test_shard_map(member: Member):
    """Each device draws from its own key what the function draws from it alone."""
    x = normal((8, 4, 16))
    mesh = make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    keys = jax.random.split(KEY, 8)
    mapped = jax.shard_map(
        lambda key, x: member.pure(key[0], x, 0.3), mesh=mesh, in_specs=(P("a"), P("a")), out_specs=P("a")
    )(keys, x)
    looped = jnp.concatenate([member.pure(key, x[i : i + 1], 0.3) for i, key in enumerate(keys)])
    np.testing.assert_allclose(mapped, looped, rtol=3e-6, atol=3e-7)


@pytest.mark.slow
@HASTE
@shells
def test_lifted_transformations(member: Member):
    """In Linen's scan and vmap, NNX's vmap and jit, it is the function it was."""
    x = normal((8, 4, 16))

    class Twice(linen.Module):
        @linen.compact
        def __call__(self, carry, x):
            return carry, member.linen(0.3, deterministic=False)(x)

    for lift in (linen.scan, linen.vmap):
        axes = {"in_axes": (None, 0), "out_axes": (None, 0)} if lift is linen.vmap else {}
        lifted = lift(Twice, variable_axes={}, split_rngs={"dropout": True}, **axes)()
        _, y = lifted.apply({}, jnp.zeros(()), jnp.stack([x, x]), rngs={"dropout": KEY})
        assert not np.array_equal(y[0], y[1])

    modules = nnx.vmap(lambda key: member.nnx(0.3, rngs=nnx.Rngs(dropout=key)))(jax.random.split(KEY, 3))
    y = nnx.vmap(lambda module, x: module(x), in_axes=(0, None))(modules, x)
    assert len({np.asarray(part).tobytes() for part in y}) == 3
    module = member.nnx(0.3, rngs=nnx.Rngs(dropout=5))
    first, second = (nnx.jit(lambda module: module(x))(module) for _ in range(2))
    assert not np.array_equal(first, second)


@those(lambda member: member.exported and not member.form_of)
def test_export_with_symbolic_sizes(member: Member):
    arguments = (
        jax.ShapeDtypeStruct((*jax.export.symbolic_shape(member.exported), 16), jnp.float32),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    exported = jax.export.export(jax.jit(lambda x, key: member.pure(key, x, 0.3)))(*arguments)
    x = normal((8, 4, 16))
    np.testing.assert_allclose(exported.call(x, KEY), member.pure(KEY, x, 0.3), rtol=3e-6, atol=3e-7)


@HASTE
@sources
def test_where_no_function_is_compiled(member: Member):
    x = normal((8, 4, 16))
    expected = member.pure(KEY, x, 0.3)
    with jax.disable_jit():
        eager = member.pure(KEY, x, 0.3)
    np.testing.assert_allclose(eager, expected, rtol=3e-6, atol=3e-7)


@HASTE
@those(lambda member: member.traced and not member.form_of)
def test_a_level_that_something_else_holds(member: Member):
    """A traced level in an NNX variable; and one that is a concrete array where the data are traced."""
    x = normal((8, 4, 16))
    level = jnp.float32(0.3)
    held = nnx.jit(lambda variable: member.pure(KEY, x, variable))(nnx.Variable(level))
    np.testing.assert_allclose(held, jax.jit(member.pure)(KEY, x, level), rtol=3e-6, atol=3e-7)
    for end in jnp.array([0.0, 1.0] if member.one else [0.0]):
        closed = jax.jit(lambda x, end=end: member.pure(KEY, x, end))(x)
        np.testing.assert_allclose(closed, member.pure(KEY, x, end), rtol=3e-6, atol=3e-7)


@HASTE
@those(lambda member: member.arrays, FAMILY)
def test_a_level_of_fewer_axes(member: Member):
    """It broadcasts as NumPy's arrays do, also where ranks are not promoted."""
    x = normal((8, 4, 16))
    found = member.pure(KEY, x, jnp.full((1,), 0.3))
    np.testing.assert_array_equal(found, member.pure(KEY, x, jnp.full((1, 1, 1), 0.3)))


@everyone
def test_an_integer_array(member: Member):
    with pytest.raises(TypeError, match=r"`\w+` must be a floating-point array, got int32( at |: |\.)"):
        member.pure(KEY, jnp.ones((8, 4, 2), jnp.int32), 0.5)


@those(lambda member: member.arrays and member.name != "standout", FAMILY)
def test_a_level_that_does_not_broadcast(member: Member):
    message = re.escape(f"`{member.level}` must broadcast to shape ")
    with pytest.raises(ValueError, match=message):
        member.pure(KEY, jnp.ones((8, 4, 2)), jnp.full((3,), 0.5))


@family
def test_an_empty_batch(member: Member):
    if member.name == "subset_depth":
        pytest.skip("there is nothing to keep")
    for shape in ((0, 4, 3), (4, 3, 0)):
        y = member.pure(KEY, jnp.ones(shape), 0.3)
        assert y.size == 0
        assert y.shape == shape or "patch" in member.name
