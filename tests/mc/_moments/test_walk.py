"""The registry of draws."""

import pytest

from jaxdrop.mc._moments import program
from jaxdrop.mc._moments.values import RefusalError
from jaxdrop.mc._moments.walk import INTERACTIONS, Registry, Walk


def test_equal_keys_are_one_draw_and_other_uses_are_refused():
    registry = Registry()
    first = registry.number((b"a",), ("normal", (2,)), [], "normal")
    assert registry.number((b"a",), ("normal", (2,)), [], "normal") == first
    second = registry.number((b"b", b"c"), ("normal", (2,)), [], "normal")
    assert registry.names == ["normal", "normal #2"]
    with pytest.raises(RefusalError, match="used twice"):
        registry.number((b"c",), ("normal", (2,)), [], "normal")
    with pytest.raises(RefusalError, match="used twice"):
        registry.number((b"a",), ("normal", (3,)), [], "normal")
    assert registry.site(frozenset({first})) == "normal"
    assert registry.site(frozenset({first, second})) == INTERACTIONS


def test_earlier_steps_of_a_loop_have_their_own_numbers_and_the_same_site():
    registry = Registry()
    number = registry.number((b"a", b"b"), ("normal", ()), [], "normal")
    registry.mark_looped(number)
    (earlier,) = registry.earlier(frozenset({number}))
    assert earlier != number
    assert registry.site(frozenset({number, earlier})) == "normal"


def test_one_perturbation_for_each_draw():
    walk = Walk(program.run, Registry())
    walk.standard(0, (2,))
    walk.standard(1, (3,))
    walk.standard(0, (2,))
    assert [source.variance.shape for source in walk.sources] == [(2,), (3,)]
