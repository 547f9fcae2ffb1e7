"""What the Linen modules share, and that they are those of NNX."""

import dataclasses
import inspect
import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop.linen import _shell
from tests.normals import standard_normal
from tests.shells import ALL, Case, cases

KEY = jax.random.key(0)
X = standard_normal(1, (16, 8))
OWN = {"parent", "name"}


def mlp(dropout: type[nn.Module], **options) -> nn.Module:
    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            for _ in range(3):
                x = dropout(0.4, **options)(nn.relu(nn.Dense(32)(x)), deterministic=not train)
            return nn.Dense(1)(x)

    return MLP()


def arguments(module: type) -> dict[str, inspect.Parameter]:
    found = inspect.signature(module.__init__).parameters
    return {name: parameter for name, parameter in found.items() if name not in OWN | {"self", "rngs"}}


def names_of_fields(api, name: str) -> set[str]:
    """Of those that are arguments, but the size of the inputs that NNX is told."""
    fields = dataclasses.fields(getattr(api, name))
    return {field.name for field in fields if field.init} - OWN - {"in_features"}


def test_both_apis_have_the_same_names():
    # Linen's models are pure functions, which the training step takes as they are.
    names = [name for name in jaxdrop.nnx.__all__ if name != "trainable"]
    assert jaxdrop.linen.__all__ == dir(jaxdrop.linen) == names
    assert jaxdrop.nnx.__all__ == dir(jaxdrop.nnx)
    assert set(MODULES) == set(jaxdrop.linen.__all__) - {
        "attention_fn",
        "list_rates",
        "mc_batch_norm",
        "stochastic",
        "with_rates",
    }
    assert len(MODULES) >= 25


# NNX, which does not see an input first, is told its size.
SHAPED = {"VariationalDense", "SparseVariationalDense", "ShakeoutDense", "Masksembles"}
MODULES = [name for name in jaxdrop.linen.__all__ if name[0].isupper()]
each_module = pytest.mark.parametrize("name", MODULES)


@each_module
def test_signatures_are_those_of_the_constructors(name: str):
    """NNX's metaclass would show `(*args, **kwargs)`; the signature of an instance is its call's."""
    for api in (jaxdrop.linen, jaxdrop.nnx):
        module = getattr(api, name)
        _, *made = inspect.signature(module.__init__).parameters.values()
        assert list(inspect.signature(module).parameters.values()) == made
        assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in made)
    nnx_rngs = inspect.signature(getattr(jaxdrop.nnx, name)).parameters["rngs"]
    assert nnx_rngs.kind is nnx_rngs.KEYWORD_ONLY
    instance = jaxdrop.nnx.Dropout(0.5)
    assert "inputs" in inspect.signature(instance).parameters


@each_module
def test_docstrings_explain_every_argument(name: str):
    for api in (jaxdrop.linen, jaxdrop.nnx):
        module = getattr(api, name)
        text = inspect.getdoc(module) or ""  # dedented, as Python 3.13 does by itself
        fields = text.split("Attributes:\n")[1].split("\n\n")[0]
        explained = re.findall(r"^  (\w+): [A-Z\"]", fields, re.MULTILINE)
        assert sorted(explained) == sorted(set(inspect.signature(module).parameters) - OWN)
        assert text.count("Attributes:") == 1
        for method in filter(None, (module.__call__, getattr(module, "initialize_carry", None))):
            explained = re.findall(r"^  \*{0,2}(\w+): [A-Z]", inspect.getdoc(method) or "", re.MULTILINE)
            _, *arguments = inspect.signature(method).parameters
            assert [name for name in explained if name in arguments] == arguments


def test_a_docstring_of_ones_own_stays():
    class Mine(jaxdrop.linen.DropPath):
        """Mine."""

    class Other(jaxdrop.nnx.DropPath):
        """Other."""

    class Bare(jaxdrop.nnx.DropPath):
        pass

    assert (Mine.__doc__, Other.__doc__) == ("Mine.", "Other.")
    assert Bare.__doc__ == jaxdrop.nnx.DropPath.__doc__


@each_module
def test_both_apis_have_the_same_arguments(name: str):
    linen, nnx = (arguments(getattr(api, name)) for api in (jaxdrop.linen, jaxdrop.nnx))
    if name in SHAPED:
        del nnx["in_features"]
    assert set(linen) == set(nnx)
    assert names_of_fields(jaxdrop.linen, name) == names_of_fields(jaxdrop.nnx, name)
    for key in set(linen) - {"deterministic"}:
        assert linen[key].default == nnx[key].default or key == "kernel_init", key
    free = [key for key, parameter in nnx.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    assert list(linen)[: len(free)] == free or name == "Dropout"
    assert "bits" not in free


@cases(ALL)
def test_fields_cover_the_options_of_the_function(case: Case):
    """Those of the constructor and those of the call together, with the same defaults."""
    options = {
        name: parameter
        for name, parameter in inspect.signature(case.pure).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for api in (jaxdrop.linen, jaxdrop.nnx):
        module = getattr(api, case.name)
        made, called = arguments(module), inspect.signature(module.__call__).parameters
        assert set(options) <= set(made) | set(called)
        assert set(made) == set(options) - set(called) | {"deterministic", "rng_collection"} | (
            {case.level} - {None}
        )
        for name in set(options) & set(made):
            assert made[name].default == options[name].default, name


def test_dropout_takes_every_argument_of_flax():
    for ours, theirs in ((jaxdrop.linen.Dropout, nn.Dropout),):
        mine = list(inspect.signature(ours.__init__).parameters)
        flax = [
            name for name in inspect.signature(theirs.__init__).parameters if name not in ("parent", "name")
        ]
        assert mine[: len(flax)] == flax
        call = list(inspect.signature(ours.__call__).parameters)
        assert call[:4] == list(inspect.signature(theirs.__call__).parameters)


@pytest.mark.slow
def test_a_model_switches_by_its_import():
    """With 32 bits the same variables, keys and masks give the same outputs and gradients."""
    ours, theirs = mlp(jaxdrop.linen.Dropout, bits=32), mlp(nn.Dropout)
    variables = theirs.init(KEY, X, train=False)
    assert jax.tree.structure(ours.init(KEY, X, train=False)) == jax.tree.structure(variables)

    def loss(model, variables):
        return jnp.mean(model.apply(variables, X, train=True, rngs={"dropout": KEY}) ** 2)

    for f in (loss, jax.grad(loss, 1)):
        for mine, flax in zip(
            jax.tree.leaves(f(ours, variables)), jax.tree.leaves(f(theirs, variables)), strict=True
        ):
            np.testing.assert_allclose(mine, flax, rtol=1e-5, atol=1e-6)


def test_each_site_and_key_has_its_own_draw():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = jaxdrop.linen.Dropout(0.5, deterministic=False)
            return drop(x), drop(x), jaxdrop.linen.Dropout(0.5, deterministic=False)(x)

    draws = [
        *Two().apply({}, X, rngs={"dropout": KEY}),
        *Two().apply({}, X, rngs={"dropout": jax.random.key(9)}),
    ]
    assert len({np.asarray(draw).tobytes() for draw in draws}) == 6


def test_another_collection_and_missing_arguments():
    module = jaxdrop.linen.AlphaDropout(0.5, rng_collection="noise")
    assert module.apply({}, X, deterministic=False, rngs={"noise": KEY}).shape == X.shape
    with pytest.raises(Exception, match="noise"):
        module.apply({}, X, deterministic=False, rngs={"dropout": KEY})
    with pytest.raises(ValueError, match="deterministic"):
        module.apply({}, X, rngs={"noise": KEY})


def test_a_scheduled_rate_compiles_once():
    traces = []

    @jax.jit
    def f(rate, key):
        traces.append(1)
        module = jaxdrop.linen.SpatialDropout(0.9, deterministic=False)
        return module.apply({}, X, rate=rate, rngs={"dropout": key})

    shares = [float((f(rate, KEY) == 0).mean()) for rate in (0.0, 0.5, 1.0)]
    assert shares[0] == 0
    assert 0 < shares[1] < 1
    assert shares[2] == 1
    assert len(traces) == 1


def test_a_module_of_ones_own_is_its_fields_and_its_function():
    from jaxdrop.linen._shell import Shell

    class Doubled(Shell):
        times: int = 2
        _pure = staticmethod(lambda key, x, rate, *, times: x * times if key is None else x * times * rate)

    np.testing.assert_array_equal(Doubled(0.5, times=3).apply({}, X, False, KEY), X * 1.5)


@each_module
def test_flax_wraps_no_private_method(name: str):
    """Flax shows, captures and intercepts each method that it wraps."""
    module = getattr(jaxdrop.linen, name)
    ours = [base for base in module.__mro__ if base.__module__.startswith("jaxdrop.")]
    wrapped = {
        key for base in ours for key, value in vars(base).items() if hasattr(value, "method_handler_wrapped")
    }
    assert wrapped - {"__replace__"} == {"__call__"}


@cases(ALL)
def test_flax_sees_each_module_as_its_own_dropout(case: Case):
    """One row of a table, one intermediate, one intercepted method and one scope."""
    module = getattr(jaxdrop.linen, case.name)(*case.levels, **case.options, deterministic=False)
    flax = nn.Dropout(0.3, deterministic=False)
    assert seen_by_flax(module, *case.data, **case.called) == seen_by_flax(flax, X)


def seen_by_flax(module: nn.Module, *data, **called) -> dict:
    """What Flax shows, captures and intercepts of a module, and the scopes of its operations."""
    intercepted = []

    def note(call, args, kwargs, context):
        intercepted.append(context.method_name)
        return call(*args, **kwargs)

    def run(key):
        return module.apply({}, *data, **called, rngs={"dropout": key}, capture_intermediates=True)

    with nn.intercept_methods(note):
        _, variables = jax.eval_shape(run, KEY)
    table = nn.tabulate(module, {"params": KEY, "dropout": KEY}, show_repeated=True)(*data, **called)
    kind = type(module).__name__
    names = re.findall(r'loc\("(jit[^"]*)"', jax.jit(run).lower(KEY).as_text(debug_info=True))
    return {
        "rows": len(re.findall(rf"│ {kind}", table)),
        "captured": sorted(variables["intermediates"]),
        "intercepted": intercepted,
        "scopes": {part.replace(kind, "") for name in names for part in name.split("/") if kind in part},
    }


class _Keys(nn.Module):
    """The words of four keys, the first and the last of them by `make`."""

    make: Callable[[nn.Module, str], jax.Array]

    @nn.compact
    def __call__(self, carry: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        makes = (self.make, nn.Module.make_rng, nn.Module.make_rng, self.make)
        return carry, jnp.stack([jax.random.key_data(make(self, "dropout")) for make in makes])


class _Lifted(nn.Module):
    """The keys of modules under Flax's transformations."""

    make: Callable[[nn.Module, str], jax.Array]

    @nn.compact
    def __call__(self, carry: jax.Array, xs: jax.Array) -> list[jax.Array]:
        found = []
        for split in (True, False):
            rngs = {"split_rngs": {"dropout": split}}
            found.append(nn.scan(_Keys, {}, **rngs)(self.make)(carry, xs)[1])
            found.append(nn.vmap(_Keys, in_axes=(None, 0), **rngs)(self.make)(carry, xs)[1])
        for lift in (nn.remat, nn.jit):
            found.append(lift(_Keys)(self.make, name=lift.__name__)(carry, xs)[1])
        shared = _Keys(self.make, name="shared")
        return [*found, *(shared(carry, xs)[1] for _ in range(2))]


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_are_those_of_make_rng_bit_for_bit(impl: str):
    typed = jax.random.key(5, impl=impl)
    for key in (typed, jax.random.key_data(typed)) if impl == "threefry2x32" else (typed,):
        own, flax = (
            jax.jit(lambda key, make=make: _Lifted(make).apply({}, X[0], X[:3], rngs={"dropout": key}))(key)
            for make in (_shell.make_rng, nn.Module.make_rng)
        )
        jax.tree.map(np.testing.assert_array_equal, own, flax)
        assert len(own) == 8
    # Without a key of its name Flax takes that of "params".
    own, flax = (
        jax.jit(lambda key, make=make: _Keys(make).apply({}, 0, 0, rngs={"params": key})[1])(typed)
        for make in (_shell.make_rng, nn.Module.make_rng)
    )
    np.testing.assert_array_equal(own, flax)


def test_keys_of_make_rng_are_of_the_kind_that_was_given_and_raise_as_those_of_flax():
    for key in (KEY, jax.random.key_data(KEY), jax.random.key(0, impl="rbg")):

        @jax.jit
        def derived(key: jax.Array) -> jax.Array:
            bound = jaxdrop.linen.Dropout(0.5).bind({}, rngs={"dropout": key})
            own = _shell.make_rng(bound, "dropout")
            assert bound.scope.rngs["dropout"].rng is key
            return own

        assert derived(key).dtype == key.dtype
    with pytest.raises(InvalidRngError, match="dropout"):
        _shell.make_rng(jaxdrop.linen.Dropout(0.5).bind({}), "dropout")
    with pytest.raises(ValueError, match="unbound"):
        _shell.make_rng(jaxdrop.linen.Dropout(0.5), "dropout")


def test_modules_fold_without_a_loop_on_a_cpu():
    """A loop per site would take as long to compile as the site."""

    def lowered(module: type[nn.Module]) -> str:
        model = mlp(module)
        variables = model.init(KEY, X, train=False)
        call = jax.jit(lambda key: model.apply(variables, X, train=True, rngs={"dropout": key}))
        return call.trace(KEY).lower(lowering_platforms=("cpu",)).as_text()

    assert "while" in lowered(nn.Dropout)
    assert "while" not in lowered(jaxdrop.linen.Dropout)
