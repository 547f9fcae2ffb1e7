"""Decays, proximal steps and constraints as optax transformations, to chain with any optimizer.

`coupled_l2` stands first in an `optax.chain`, where the gradient comes in. All the others stand
last, behind the learning rate: they are given the step that is about to be made, and change where
it ends. So what a constraint or a proximal step promises holds of the parameters themselves:

    optax.chain(optax.adam(1e-3), optim.proximal_l1(1e-4, 1e-3), optim.max_norm(3.0))

A strength, limit or learning rate is a scalar, which may be traced, or a schedule: a function of
the step, as optax's. `where` says which parameters are concerned, and for what share of the
strength: see `penalties.weight_mask`. Strengths mean what they mean in `penalties`: with plain SGD
as the optimizer, `proximal_l1(c, lr)` ends where the loss plus `penalties.l1(params, c)` is least.
Behind Adam it thresholds by the same amount however a weight's gradient was scaled.

Half-precision parameters are worked on in float32. An update is as wide as the wider of gradient and
parameter; where both are of half precision it is rounded, so that what is promised holds to a rounding
of the step, which a step from far outside a limit will show. Sharded parameters keep their sharding.

`optax.inject_hyperparams` takes numbers for hyper-parameters, an axis too, unless it is told:
`optax.inject_hyperparams(optim.max_norm, static_args="unit_axis")(3.0)`.
"""

from jaxdrop.optim.constraints import max_norm, non_negative, unit_norm
from jaxdrop.optim.decays import coupled_l2, decoupled_l2
from jaxdrop.optim.halting import HaltState, halt_on_nonfinite, raise_if_halted
from jaxdrop.optim.proximal import proximal_elastic_net, proximal_group_lasso, proximal_l1

__all__ = [
    "HaltState",
    "coupled_l2",
    "decoupled_l2",
    "halt_on_nonfinite",
    "max_norm",
    "non_negative",
    "proximal_elastic_net",
    "proximal_group_lasso",
    "proximal_l1",
    "raise_if_halted",
    "unit_norm",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
