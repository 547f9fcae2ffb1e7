"""Decays, proximal steps and constraints as optax transformations, to chain with any optimizer.

`coupled_l2` stands first in an `optax.chain` and changes the gradient. All others stand last, after
the learning rate: they receive the final update and change where it ends. So a constraint or a
proximal step holds for the parameters themselves:

    optax.chain(optax.adam(1e-3), optim.proximal_l1(1e-4, 1e-3), optim.max_norm(3.0))

`training.trainer`, `training.sweep` and `halt_on_nonfinite` refuse a chain of another order at `init`.
Other training loops do not check it.

A strength, limit or learning rate is a scalar, which may be traced, or a schedule: a function of
the step, like optax's. `where` selects the leaves to act on and their shares of the strength (see
`penalties.weight_mask`). Strengths are those of `penalties`: with plain SGD, `proximal_l1(c, lr)`
converges to a minimum of the loss plus `penalties.l1(params, c)`. After Adam the threshold is the
same for all weights, however their gradients were scaled.

A unit is within one layer. `stacked` names the leaves that hold several layers, as `nn.scan`,
`nnx.vmap` and ensembles stack them, and the axes of the layers: `stacked=[("layers/*", 0)]`. A shape does
not tell: `[3, 4, 5]` may be three dense kernels, or a convolution of width 3. A leaf is refused if a bias
beside it with several axes, or the rank of an embedding table, shows layers that `stacked` does not
name. Within a sweep, the axis of runs is not seen.

Half-precision parameters are computed in float32. An update has the wider dtype of gradient and
parameter. An update is rounded, so limits hold to the rounding of one step; a step from far outside a
limit shows it. Each constraint is also a function of parameters, `projection_max_norm` and others
(named as in `optax.projections`), to apply after the step: exact and idempotent. Sharded parameters
keep their sharding.

`optax.inject_hyperparams` treats every number as a hyper-parameter, even an axis; name it as static:
`optax.inject_hyperparams(optim.max_norm, static_args="unit_axis")(3.0)`.
"""

from jaxdrop.optim.constraints import (
    max_norm,
    non_negative,
    projection_max_norm,
    projection_non_negative,
    projection_unit_norm,
    unit_norm,
)
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
    "projection_max_norm",
    "projection_non_negative",
    "projection_unit_norm",
    "proximal_elastic_net",
    "proximal_group_lasso",
    "proximal_l1",
    "raise_if_halted",
    "unit_norm",
]


def __dir__() -> list[str]:
    """The public names."""
    return __all__
