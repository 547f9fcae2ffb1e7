"""The parts of a page."""

import dataclasses
import typing

import pytest

from jaxdrop._report import blocks
from tests._report import sample


def test_the_sample_has_every_part():
    """What the tests of the page look at is all that a page can hold."""
    parts = [part for section in sample.page().sections for part in section.blocks]
    assert {type(part) for part in parts} == set(typing.get_args(blocks.Block))
    cards = [card for part in parts if isinstance(part, blocks.Cards) for card in part.cards]
    for field in dataclasses.fields(blocks.Card):
        values = [getattr(card, field.name) for card in cards]
        assert any(value is not None and len(value) for value in values)


def test_parts_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.page().title = "other"
