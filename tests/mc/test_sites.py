"""Listing and selecting stochastic sites."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxdrop.mc import _sites as sites

PATHS = ["encoder/a", "encoder/b", "head"]


def recorded(paths: list[str], by_hand: str | None = None, **modes: bool) -> sites.Record:
    """A pass in which modules draw, those by hand without a mode."""
    record = sites.Record()
    for path in paths:
        record.draw(path, "dropout", SimpleNamespace(rate=0.5), {})
        if path != by_hand:
            record.mode(path, SimpleNamespace(rate=0.5), {}, True)
    for path, on in modes.items():
        record.mode(path, SimpleNamespace(rate=0.5), {}, on)
    return record


@pytest.mark.parametrize(
    ("which", "off"),
    [
        ("all", []),
        ("last", ["encoder/a", "encoder/b"]),
        ("encoder/*", ["head"]),
        (["head", "*/a"], ["encoder/b"]),
        ("*", []),
    ],
)
def test_choose(which, off: list[str]):
    assert sites.choose(recorded(PATHS), which) == frozenset((path, False) for path in off)


def test_what_is_off_in_training_is_turned_on_if_it_is_named():
    found = recorded(PATHS, frozen=False)
    assert sites.choose(found, "all") == frozenset()
    assert sites.choose(found, "*") == {("frozen", True)}
    assert sites.choose(found, "all", frozenset({("head", True)})) == {("head", True)}


@pytest.mark.parametrize(
    ("found", "which", "message"),
    [
        (recorded([]), "all", "`model` must have at least one stochastic site, got none"),
        (recorded(PATHS), "decoder/*", "got 'decoder/\\*'; the nearest are encoder/b, encoder/a, head."),
        (recorded(PATHS), ["head", "hed"], "got 'hed'; the nearest are head"),
        (recorded(PATHS), [], "`sites` must be 'all', 'last' or patterns of paths, got none."),
        (recorded(PATHS, by_hand="head"), "encoder/*", "`sites` must include head, got 'encoder/\\*'"),
    ],
)
def test_nothing_to_choose(found: sites.Record, which, message: str):
    with pytest.raises(ValueError, match=message):
        sites.choose(found, which)


@pytest.mark.parametrize(
    ("fields", "given", "rate"),
    [
        ({"rate": 0.5}, {}, "0.5"),
        ({"rate": 1}, {}, "1"),
        ({"rate": 0.0}, {"rate": 0.2}, "0.2"),
        ({"dropout_rate": 0.1}, {}, "0.1"),
        ({"stddev": 1.0}, {}, "1"),
        ({"rate": (0.0, 0.3)}, {}, "0, 0.3"),
        ({"rate": jnp.array([0.1, 0.2])}, {}, "array"),
        ({"rate": "a word"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_a_site_says_its_rate(fields: dict, given: dict, rate: str):
    record = sites.Record()
    record.draw("path", "dropout", SimpleNamespace(**fields), given)
    assert record.sites["path"] == sites.Site("path", "SimpleNamespace", "dropout", rate)


@pytest.mark.parametrize(("rate", "listed"), [(0.0, False), ((0, 0.0), False), (0.1, True), (1.0, True)])
def test_a_module_of_rate_zero_has_no_mode(rate, listed: bool):
    record = sites.Record()
    record.mode("path", SimpleNamespace(rate=rate), {}, True)
    assert bool(record.modes) == listed


def test_a_traced_rate_may_be_any():
    record = sites.Record()
    jax.jit(lambda rate: record.draw("path", "dropout", SimpleNamespace(rate=rate), {}))(0.0)
    assert record.sites["path"].rate == "array"


def test_streams_and_counts_of_a_module():
    record = sites.Record()
    for path, stream in (("a", "dropout"), ("b", "dropout"), ("a", "noise"), ("a", "noise")):
        record.draw(path, stream, SimpleNamespace(), {})
    assert [(site.path, site.stream) for site in record.sites.values()] == [
        ("b", "dropout"),
        ("a", "dropout, noise"),
    ]
    assert record.draws == {("a", "dropout"): 1, ("b", "dropout"): 1, ("a", "noise"): 2}


def test_a_pass_that_draws_otherwise_is_refused():
    found, less = recorded(PATHS), recorded(PATHS[:2])
    sites.check_chosen(found, less, frozenset({("head", False)}))
    with pytest.raises(ValueError, match=r"`sites` must select modules that obey .* head does not"):
        sites.check_chosen(found, found, frozenset({("head", False)}))
    with pytest.raises(
        ValueError, match=r"arguments of training, train=True: with those given, head .SimpleNamespace"
    ):
        sites.check_same_draws(found, less, {"train": True})
    sites.check_same_draws(found, found, {"train": True})
    found.written["norm"] = "Norm"
    with pytest.raises(
        ValueError, match=r"`model` must not use statistics of its batch, but norm .Norm. writes"
    ):
        sites.check_statistics(found)
