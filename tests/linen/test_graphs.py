"""Linen shells: each is its pure function."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import jaxdrop.linen as jl
from tests.normals import standard_normal
from tests.shells import ENDS, GRAPHS, KEY, Case, cases, check_linen


@cases(GRAPHS)
def test_it_is_its_function(case: Case):
    check_linen(case)


class Net(nn.Module):
    """Nodes and messages dropped, and a shaken residual branch."""

    @nn.compact
    def __call__(self, x, train):
        options = {"deterministic": not train}
        x = jl.DropNode(0.3, **options)(nn.Dense(4)(x))
        messages = jl.DropMessage(0.3, **options)(x[ENDS["senders"]])
        y = jax.ops.segment_sum(messages, ENDS["receivers"], ENDS["num_nodes"])
        return x + jl.ShakeDrop(0.5, **options)(y)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_in_haste")
def test_a_predictor_of_a_graph_and_its_rates():
    net, x = Net(), standard_normal(KEY, (3, 2))
    variables = net.init(KEY, x, train=False)
    predict = jl.stochastic(net, variables, x, train=True)
    assert [site.path for site in predict.sites] == ["DropNode_0", "DropMessage_0", "ShakeDrop_0"]
    assert not np.array_equal(predict(KEY, x), predict(jax.random.key(9), x))
    whole = jl.with_rates(net.apply, {"*": 0.0})(variables, x, train=True)
    # Both draw nothing, but evaluation takes the mean of ShakeDrop at its own rate, half of the branch.
    features = x @ variables["params"]["Dense_0"]["kernel"]
    mean = net.apply(variables, x, train=False)
    np.testing.assert_allclose(whole - features, 2 * (mean - features), rtol=1e-4, atol=1e-5)
