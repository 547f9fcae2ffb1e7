"""The table of the sites' shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop import mc

SHARES = {
    "input": jnp.array([[1.0, 0.0], [2.0, 2.0], [0.0, 0.0]]),
    "hidden": jnp.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]),
    "interactions": jnp.array([[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]),
}


def test_shares_sum_to_one_per_example_and_in_the_mean():
    table = mc.site_shares(SHARES)
    expected = [[0.25, 0.5, 0.25], [1, 0, 0], [np.nan] * 3]
    np.testing.assert_allclose(table.per_example, expected)
    np.testing.assert_allclose(table.mean, [0.625, 0.25, 0.125])
    np.testing.assert_array_equal(table["hidden"], table.per_example[:, 1])
    np.testing.assert_allclose(table.range()[1, 0], 0.9625)
    lines = str(table).splitlines()
    assert lines[0].split() == ["site", "mean", "5", "%", "95", "%"]
    assert lines[1].split() == ["input", "0.625", "0.287", "0.962"]
    assert len({len(line) for line in lines}) == 1
    assert table._repr_html_().count("<tr>") == 4
    with pytest.raises(KeyError, match="`site` must be one of input, hidden, interactions, got 'output'"):
        table["output"]


@pytest.mark.parametrize(
    ("shares", "kind", "message"),
    [
        ([1], TypeError, "`shares` must map names of sites to arrays, got list"),
        ({}, ValueError, "`shares` must have a site, got none"),
        (
            {"a": jnp.ones(())},
            ValueError,
            r"`shares` must hold arrays of one shape \[B, ...\], got \(\) of 'a'",
        ),
        ({"a": jnp.ones((2, 1)), "b": jnp.ones((1, 1))}, ValueError, r"got \(1, 1\) of 'b'"),
        ({"a": jnp.full((2, 1), jnp.nan)}, ValueError, r"`shares\['a'\]` must be finite, got nan"),
        ({"a": jnp.zeros((2, 1))}, ValueError, "`shares` must have an example with a variance above 0"),
    ],
)
def test_what_is_refused(shares: dict, kind: type, message: str):
    with pytest.raises(kind, match=message):
        mc.site_shares(shares)


def test_traced_shares_are_refused():
    with pytest.raises(TypeError, match=r"`shares\['a'\]` must be concrete, got a tracer"):
        jax.eval_shape(lambda a: mc.site_shares({"a": a}).mean, jnp.ones((2, 1)))
