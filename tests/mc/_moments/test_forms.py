"""Forms that elementwise equations make of one number."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdrop.mc._moments import forms
from jaxdrop.mc._moments.forms import IDENTITY, Affine, Constant, Curve, Ramp


def of(fun, *start: forms.Form) -> forms.Form:
    """The form of a function of elementwise steps, of arrays `[3]`."""
    closed = jax.make_jaxpr(fun)(*[jnp.zeros(3)] * len(start))
    made = dict(zip(closed.jaxpr.invars, start, strict=True))
    for eqn in closed.jaxpr.eqns:
        given = [Constant(np.float32(v.val)) if isinstance(v, jex.Literal) else made[v] for v in eqn.invars]
        made[eqn.outvars[0]] = forms.combined(eqn, given)
    return made[closed.jaxpr.outvars[0]]


@pytest.mark.parametrize(
    ("fun", "kind"),
    [
        (lambda u: jax.lax.mul(u, 2.0), Affine),
        (lambda u: jax.lax.sub(1.0, u), Affine),
        (lambda u: jax.lax.neg(jax.lax.div(u, 4.0)), Affine),
        (lambda u: jax.lax.add(u, u), Affine),
        (lambda u: jax.lax.max(jax.lax.add(jax.lax.mul(u, 2.0), 1.0), 0.5), Ramp),
        (lambda u: jax.lax.sub(jax.lax.mul(jax.lax.max(u, 0.0), 3.0), 1.0), Ramp),
        (lambda u: jax.lax.max(jax.lax.neg(u), 0.0), Curve),
        (lambda u: jax.lax.tanh(u), Curve),
        (lambda u: jax.lax.mul(u, u), Curve),
        (lambda u: jax.lax.eq(u, jnp.inf), Constant),
    ],
)
def test_forms_and_their_values(fun, kind: type):
    u = jnp.array([-1.0, 0.2, 1.5])
    found = of(fun, IDENTITY)
    assert isinstance(found, kind)
    np.testing.assert_allclose(forms.evaluate(found, u), fun(u), rtol=1e-6)


def test_known_choices():
    which, slope = jnp.array([True, False, True]), jnp.array([1.0, 2.0, 3.0])
    select = jax.make_jaxpr(jax.lax.select_n)(which, slope, slope).jaxpr.eqns[0]
    found = forms.combined(select, [Constant(which), Affine(slope, 0.0), Constant(jnp.float32(7))])
    assert isinstance(found, Affine)
    np.testing.assert_allclose(forms.evaluate(found, jnp.ones(3)), [7, 2, 7])
    assert forms.combined(select, [Constant(np.True_), IDENTITY, found]) is found


def test_arrays_of_one_number():
    full = forms.filled(np.float32(3), (2, 5))
    assert full.shape == (2, 5)
    assert forms.number(full) == 3
    assert forms.number(slope := np.arange(3)) is slope
