"""The Transformer: what it sees, its noise, and the memory of a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdrop
from experiments.variants import transformer

pytestmark = pytest.mark.usefixtures("compiled_in_haste")

CONFIG = transformer.Config("any", 3, 2, 11, **{**transformer.QUICK, "length": 24, "block_size": 8})
TOKENS = jax.random.randint(jax.random.key(0), (2, CONFIG.length), 0, CONFIG.symbols)


@pytest.fixture(scope="module")
def model():
    net = transformer.network(CONFIG, transformer.in_blocks(jaxdrop.attention_dropout, CONFIG))
    return net, jax.jit(net.init)(jax.random.key(1), TOKENS)


@pytest.mark.slow
def test_a_character_is_predicted_from_those_before_it(model):
    net, variables = model
    logits = jax.jit(net.apply)
    other = TOKENS.at[:, 10].add(1) % CONFIG.symbols
    changed = logits(variables, other) != logits(variables, TOKENS)
    assert not changed[:, :10].any()
    assert changed[:, 10:].any((0, 2)).all()


@pytest.mark.slow
def test_noise_is_where_its_rate_is(model):
    net, variables = model
    still = net.apply(variables, TOKENS)

    @jax.jit
    def noisy(rate, attention, key):
        hyper = {"rate": rate, "attention": attention}
        return transformer.noisy(net, variables["params"], TOKENS, hyper, key)

    keys = jax.random.key(2), jax.random.key(3)
    np.testing.assert_allclose(noisy(0.0, 0.0, keys[0]), still, atol=1e-5)
    for rates in ((0.3, 0.0), (0.0, 0.3)):
        first, second = (noisy(*rates, key) for key in keys)
        assert not np.allclose(first, second)
        assert not np.allclose(first, still)


@pytest.mark.slow
def test_blocks_are_all_weights(model):
    """The same masks, whatever the form."""
    dense = transformer.network(CONFIG, jaxdrop.linen.attention_fn(), 0.3)
    blocks = transformer.network(CONFIG, transformer.in_blocks(jaxdrop.attention_dropout, CONFIG), 0.3)
    tokens = jnp.concatenate([TOKENS, TOKENS[:, :1]], 1)
    found, expected = (
        jax.jit(transformer.loss, static_argnums=0)(net, model[1], jax.random.key(4), tokens)
        for net in (blocks, dense)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_longest_length_that_fits():
    rows = {"blocks": {"64": 2 * 10**6, "128": 10**9}, "all": {"64": 10**9 + 1, "128": 3 * 10**9}}
    table = transformer.memory_table(rows, CONFIG._replace(memory_lengths=(64, 128)))
    assert table.header == ["MB", "T = 64", "T = 128", "fits 1 GB"]
    assert table.body == [["blocks", "2", "1e+03", "T = 128"], ["all", "1e+03", "3e+03", "-"]]
