"""The family is complete: every regularizer is held by the laws, exported, tested, documented and wrapped."""

import dataclasses
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdrop
import jaxdrop.linen
import jaxdrop.nnx
from jaxdrop import drops
from tests.family import (
    EXCEPTIONS,
    FAMILY,
    HELPERS,
    KEYLESS,
    LAST_ARGUMENTS,
    NO_SHELL,
    SHELLS,
    SPECIAL,
    complete,
)

ROOT = Path(__file__).parents[1]
MEMBERS = {member.name for member in FAMILY}
FUNCTIONS = pytest.mark.parametrize("name", drops.__all__)
# Fields that a module has for its API alone: Linen's own, NNX's sizes, and where noise comes from.
OWN_FIELDS = {"parent", "name", "deterministic", "rng_collection", "rngs", "in_features"}


def modules(api) -> dict[str, type]:
    """The modules of `jaxdrop.linen` or `jaxdrop.nnx`."""
    return {name: value for name, value in vars(api).items() if name[0].isupper()}


def fields(module: type) -> set[str]:
    """The options of a module, whether it is a dataclass or has a constructor."""
    if dataclasses.is_dataclass(module):
        return {field.name for field in dataclasses.fields(module) if field.init} - OWN_FIELDS
    return set(inspect.signature(module.__init__).parameters) - {"self"} - OWN_FIELDS


def readme(folder: str) -> str:
    path = ROOT / folder / "README.md"
    return path.read_text() if path.exists() else ""


def shell_of(name: str) -> str:
    return SHELLS.get(name, "".join(part.capitalize() for part in name.split("_")))


def order_errors(name: str) -> list[str]:
    """What is wrong with the arguments: key, data, rate, then options by keyword."""
    parameters = inspect.signature(getattr(drops, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    defaults = [p.name for p in parameters if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY]
    last = LAST_ARGUMENTS.get(name, "rate")
    found = [f"`{option}` must be keyword-only" for option in defaults]
    if name not in KEYLESS and positional[0] != "key":
        found.append(f"the first argument must be `key`, got `{positional[0]}`")
    if name in KEYLESS and "key" in positional:
        found.append("is listed in KEYLESS, but takes a key")
    if positional[-1] != last:
        found.append(f"the last positional argument must be `{last}`, got `{positional[-1]}`")
    return found


def missing_places(name: str) -> list[str]:
    """The places where a function of `drops` must stand and does not."""
    home = HELPERS.get(name, name)
    shells = {f"jaxdrop.{api.__name__.split('.')[1]}": modules(api) for api in (jaxdrop.linen, jaxdrop.nnx)}
    wrapped = name in HELPERS or name in NO_SHELL
    named = re.compile(rf"\b{re.escape(name)}\b")
    places = {
        f"its file jaxdrop/drops/{home}.py": getattr(drops, name).__module__ == f"jaxdrop.drops.{home}",
        "an export in jaxdrop/__init__.py": getattr(jaxdrop, name, None) is getattr(drops, name),
        f"its test tests/drops/test_{home}.py": (ROOT / f"tests/drops/test_{home}.py").exists(),
        "a line in README.md or jaxdrop/README.md": named.search(readme(".") + readme("jaxdrop")),
        "a row in jaxdrop/drops/README.md": f"| `{name}`" in readme("jaxdrop/drops"),
    }
    places |= {
        f"{shell_of(name)} in {api}, or a reason in NO_SHELL in tests/family.py": shell_of(name) in found
        for api, found in shells.items()
        if not wrapped
    }
    return [place for place, there in places.items() if not there]


@FUNCTIONS
def test_every_function_stands_in_all_its_places(name: str):
    missing = missing_places(name)
    assert not missing, f"`{name}` is missing " + "; ".join(missing)


@FUNCTIONS
def test_arguments_are_key_data_rate_and_then_options_by_keyword(name: str):
    errors = order_errors(name)
    assert not errors, f"`{name}`: " + "; ".join(errors)


def test_a_function_without_a_row_is_held_by_every_law():
    others = tuple(member for member in SPECIAL if member.name != "drop_head")
    *before, member = complete(others, drops.__all__)
    assert tuple(before) == others
    assert (member.name, member.public) == ("drop_head", drops.drop_head)
    assert MEMBERS | EXCEPTIONS.keys() == set(drops.__all__)


def test_no_list_names_what_is_gone():
    listed = MEMBERS | EXCEPTIONS.keys() | HELPERS.keys() | LAST_ARGUMENTS.keys() | KEYLESS
    listed |= SHELLS.keys() | NO_SHELL.keys()
    assert not listed - set(drops.__all__)
    assert not MEMBERS & EXCEPTIONS.keys()


def test_every_file_is_listed():
    files = {path.stem for path in (ROOT / "jaxdrop/drops").glob("*.py") if not path.stem.startswith("_")}
    missing = files - set(drops.__all__)
    assert not missing, f"list in jaxdrop/drops/__init__.py: {', '.join(sorted(missing))}"


def test_both_apis_have_the_same_modules():
    difference = modules(jaxdrop.linen).keys() ^ modules(jaxdrop.nnx).keys()
    assert not difference, f"in one of the APIs only: {', '.join(sorted(difference))}"


@pytest.mark.parametrize("name", sorted(modules(jaxdrop.linen).keys() & modules(jaxdrop.nnx).keys()))
def test_both_apis_have_the_same_options(name: str):
    linen, nnx = (fields(modules(api)[name]) for api in (jaxdrop.linen, jaxdrop.nnx))
    # NNX makes the masks at once, so it must be told the number of features.
    nnx -= {"features"} - linen
    assert linen == nnx, f"in one of the APIs only: {', '.join(sorted(linen ^ nnx))}"


KEY = jax.random.key(0)
X = jnp.ones((4, 4, 8))
KERNEL, WHOLE = jnp.ones((8, 3)), jnp.ones((4, 8), int)
# Functions with a key that are not members.
KEYED = {
    "keep_mask": lambda key: jaxdrop.keep_mask(key, (4, 8), 0.5),
    "spatial_mask": lambda key: jaxdrop.spatial_mask(key, (4, 4, 8), 0.5),
    "block_mask": lambda key: jaxdrop.block_mask(key, (4, 4, 8), 0.5, block_size=3),
    "drop_key_mask": lambda key: jaxdrop.drop_key_mask(key, (4, 4, 8), 0.5),
    "masksembles_masks": lambda key: jaxdrop.masksembles_masks(key, 8, 2, 2.0),
    "concrete_dropout": lambda key: jaxdrop.concrete_dropout(key, X, 0.0),
    "variational_dropout": lambda key: jaxdrop.variational_dropout(key, X, KERNEL, 0.0),
    "sparse_variational_dropout": lambda key: jaxdrop.sparse_variational_dropout(
        key, X, KERNEL, jnp.zeros((8, 3))
    ),
    "manifold_mixup": lambda key: jaxdrop.manifold_mixup(key, [jnp.sin], X, KERNEL[:4], 0.5),
    "word_dropout": lambda key: jaxdrop.word_dropout(key, WHOLE, 0.5, replacement=0),
} | {member.name: lambda key, member=member: member.pure(key, X, 0.5) for member in FAMILY}


def test_every_function_with_a_key_is_listed():
    assert set(drops.__all__) - KEYLESS <= set(KEYED)


@pytest.mark.parametrize("name", KEYED)
def test_wrong_keys_are_refused_by_name(name):
    """Before any work starts, whatever JAX would say."""
    for wrong in (3, "key", None, nnx.Rngs(0), jnp.zeros(2), np.uint64([1, 2])):
        with pytest.raises(
            TypeError, match=r"`key` must be a PRNG key, such as `jax\.random\.key\(0\)`, got "
        ):
            KEYED[name](wrong)
    for wrong in (jax.random.split(KEY, 3), jnp.zeros((3, 2), jnp.uint32)):
        with pytest.raises(ValueError, match=r"`key` must be one PRNG key .*, got shape \(3"):
            KEYED[name](wrong)


# Functions of data, where these are not the argument after the key alone.
OF_DATA = {
    "zoneout, new": lambda data: jaxdrop.zoneout(KEY, data, X, 0.5),
    "zoneout, old": lambda data: jaxdrop.zoneout(KEY, X, data, 0.5),
    "zoneout_mean": lambda data: jaxdrop.zoneout_mean(X, data, 0.5),
    "standout": lambda data: jaxdrop.standout(KEY, data, X),
    "standout, logits": lambda data: jaxdrop.standout(KEY, X, data),
    "shakeout": lambda data: jaxdrop.shakeout(KEY, data, KERNEL, 0.5, constant=1.0),
    "shakeout, kernel": lambda data: jaxdrop.shakeout(KEY, X, data, 0.5, constant=1.0),
    "concrete_dropout": lambda data: jaxdrop.concrete_dropout(KEY, data, 0.0),
    "concrete_dropout, logit": lambda data: jaxdrop.concrete_dropout(KEY, X, data),
    "variational_dropout": lambda data: jaxdrop.variational_dropout(KEY, X, data, 0.0),
    "sparse_kernel": lambda data: jaxdrop.sparse_kernel(KERNEL, data),
    "word_dropout": lambda data: jaxdrop.word_dropout(KEY, data, 0.5, replacement=0),
    "drop_edge": lambda data: jaxdrop.drop_edge(KEY, data, 0.5),
    "drop_edge, senders": lambda data: jaxdrop.drop_edge(
        KEY, jnp.ones(4), 0.5, senders=data, receivers=WHOLE[:, 0], undirected=True
    ),
    "mixup": lambda data: jaxdrop.mixup(KEY, data, KERNEL[:4], 0.5),
    "mixup, y": lambda data: jaxdrop.mixup(KEY, X, data, 0.5),
    "cutmix": lambda data: jaxdrop.cutmix(KEY, data, KERNEL[:4], 0.5),
    "manifold_mixup": lambda data: jaxdrop.manifold_mixup(KEY, [jnp.sin], data, KERNEL[:4], 0.5),
    "drop_node": lambda data: jaxdrop.drop_node(KEY, data, 0.5),
    "drop_key, mask": lambda data: jaxdrop.drop_key(KEY, X, 0.5, mask=data),
    "neftune, mask": lambda data: jaxdrop.neftune(KEY, X, 1.0, mask=data),
    "masksembles": lambda data: jaxdrop.masksembles(data, jnp.ones((2, 8), bool)),
    "masksembles, masks": lambda data: jaxdrop.masksembles(X, data),
    "apply_mask": lambda data: jaxdrop.apply_mask(X, data, 0.5),
} | {
    member.name: lambda data, member=member: member.pure(KEY, data, 0.5)
    for member in FAMILY
    if member.function is None
}


@pytest.mark.parametrize("name", OF_DATA)
def test_wrong_data_are_refused_by_name(name):
    for wrong in ("data", object(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match=r"`\w+` must be (a|an) [a-z -]*array, got (str|object|list)\."):
            OF_DATA[name](wrong)
    if name not in ("drop_key, mask", "drop_edge, senders", "neftune, mask"):
        with pytest.raises(TypeError, match=r"`\w+` must be (a|an) [a-z -]*array, got NoneType\."):
            OF_DATA[name](None)
