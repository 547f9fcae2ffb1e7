"""What a pass of an NNX model records: draws of streams, changes of statistics."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdrop.mc import _sites
from jaxdrop.nnx import _control


def passed(run, **parts) -> _sites.Record:
    """The record of a pass of a model with some parts."""

    class Model(nnx.Module):
        def __init__(self):
            for name, part in parts.items():
                setattr(self, name, part)

    record = _sites.Record()
    answer = _sites.Answer(record=record)
    model = _control.controlled(Model(), answer, ())
    with _control.answering(answer, model, {}):
        run(model)
    return record


def test_making_streams_is_no_draw():
    def run(model):
        made = [model.rngs.fork().dropout, model.rngs.dropout.fork(), model.rngs.split(2).dropout]
        with nnx.split_rngs(model, splits=3):
            pass
        assert made[2].key.shape == (2,)
        made[0](), made[1]()
        jax.vmap(lambda key: key)(made[2].key[...])

    assert passed(run, rngs=nnx.Rngs(dropout=0)).draws == {("", "dropout"): 2}


def test_each_way_to_draw_is_recorded():
    def run(model):
        model.rngs(), model.rngs.noise(), model.rngs.noise.normal((2,)), model.rngs.uniform((2,))
        model.rngs["dropout"](), nnx.initializers.normal()(model.rngs.params(), (2,))

    draws = passed(run, rngs=nnx.Rngs(0, noise=1)).draws
    assert draws == {("", "default"): 4, ("", "noise"): 2}


def test_each_way_to_change_statistics_is_recorded():
    def by_index(model):
        model.mean[...] = jnp.ones(2)

    def by_value(model):
        model.mean.set_value(jnp.ones(2))

    def by_a_new_one(model):
        model.mean = nnx.BatchStat(jnp.ones(2))

    def under_jit(model):
        nnx.jit(by_index)(model)

    for run in (by_index, by_value, by_a_new_one, under_jit):
        assert passed(run, mean=nnx.BatchStat(jnp.zeros(2))).written == {"": "Model"}, run
    assert not passed(
        lambda model: nnx.jit(lambda model: None)(model), mean=nnx.BatchStat(jnp.zeros(2))
    ).written
