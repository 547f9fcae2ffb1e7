"""NNX shells: each is its pure function."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdrop.nnx as jn
from tests.normals import standard_normal
from tests.shells import ENDS, GRAPHS, KEY, Case, cases, check_nnx


@cases(GRAPHS)
def test_it_is_its_function(case: Case):
    check_nnx(case)


class Net(nnx.Module):
    """Nodes and messages dropped, and a shaken residual branch."""

    def __init__(self, rngs):
        self.node, self.message = jn.DropNode(0.3, rngs=rngs), jn.DropMessage(0.3, rngs=rngs)
        self.shake = jn.ShakeDrop(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.node(x)
        messages = self.message(x[ENDS["senders"]])
        return x + self.shake(jax.ops.segment_sum(messages, ENDS["receivers"], ENDS["num_nodes"]))


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_predictor_of_a_graph_and_its_rates():
    net, x = Net(nnx.Rngs(0)), standard_normal(KEY, (3, 2))
    predict = jn.stochastic(net, x)
    assert [site.path for site in predict.sites] == ["node", "message", "shake"]
    first, second = (predict(jax.random.key(seed), x) for seed in (0, 1))
    assert not np.array_equal(first, second)
    whole = x + jax.ops.segment_sum(x[ENDS["senders"]], ENDS["receivers"], ENDS["num_nodes"])
    np.testing.assert_allclose(jn.with_rates(net, {"*": 0.0})(x), whole, rtol=1e-6)
