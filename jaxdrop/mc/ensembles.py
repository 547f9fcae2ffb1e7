"""Deep ensembles: networks trained from different starts, each of which is one sample."""

from collections.abc import Callable

import jax

from jaxdrop import _checks
from jaxdrop._types import Key, PyTree
from jaxdrop.mc import _designs
from jaxdrop.mc.indexed import Indexed

__all__ = ["ensemble"]


def ensemble(predict: Callable[[PyTree, Key, PyTree], PyTree], members: PyTree, *, draws: int = 1) -> Indexed:
    """A deep ensemble as a predictor: sample t is member t, each once.

    `num_samples` is the number of members M; fewer take the first ones, and more are refused. The chunks,
    the devices, `first` and a restart make no difference. On a `mesh` members are computed where samples
    are; members sharded over the same mesh axis are not moved if one chunk holds them all.

    Standard errors are between members: for a mean, the standard deviation of the M members over the root
    of M. They say how well the members tell the mean over all networks that the same training could give,
    from other seeds. Each member counts once, so few of them tell little: `Estimate.interval` has M - 1
    degrees of freedom.

    Members may be stochastic themselves, such as networks with Monte-Carlo dropout, which get
    `fold_in(key, t)`. With `draws` each of them is drawn several times: sample t is draw t // M of member
    t % M, so that the first M samples are of different members. Draws of one member are not independent,
    so reducers must then be `Clustered(reducer, M)`, whose standard errors are between members too.

    Args:
      predict: `predict(member, key, x) -> outputs`, one member with a tree of arrays `[B, ...]`. A member
        that is not stochastic ignores the key. Arrays may be bound by `jax.tree_util.Partial`.
      members: A tree of arrays with a leading axis of members, such as `states.params` of
        `jaxdrop.training.sweep`, variables, or predictors made under `jax.vmap`.
      draws: The number of samples of each member.

    Returns:
      A predictor for `jaxdrop.mc`. Those of one function `predict` share compiled programs.

    Raises:
      TypeError: If `predict` cannot be called, or `draws` is not an integer.
      ValueError: If the leaves of `members` do not share one leading axis, or `draws` is below 1.

    References:
      Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using
      deep ensembles", 2017.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxdrop import mc
      >>> kernels = jax.random.normal(jax.random.key(0), (5, 4, 3))  # five members
      >>> predict = ensemble(lambda kernel, key, x: x @ kernel, kernels)
      >>> x, key = jnp.ones((2, 4)), jax.random.key(1)
      >>> found = mc.estimate(predict, key, x, num_samples=5, reducers=mc.Categorical())
      >>> found.value["mutual_information"].shape
      (2,)
    """
    of = _designs.as_partial(predict, "a function (member, key, x)")
    count = _designs.count_rows(members, "members")
    _checks.check_count(draws, "draws")
    function = jax.tree_util.Partial(_with_number, of)
    return Indexed(function, members, count * draws, count if draws > 1 else None)


def _with_number(predict: Callable[..., PyTree], member: PyTree, key: Key, t: jax.Array, x: PyTree) -> PyTree:
    return predict(member, jax.random.fold_in(key, t), x)
