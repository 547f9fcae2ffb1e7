"""Convolutions whose derivative is as fast as they are."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxdrop.mc._moments import forms


def bind(eqn: jex.JaxprEqn, array: jax.Array, kernel: jax.Array) -> jax.Array:
    """The outcome of `conv_general_dilated`.

    The derivative in the array is a convolution with the channels of the kernel exchanged. In a loop on
    a CPU, XLA does not rearrange that kernel, and takes a convolution that is 30 times slower. So the
    kernel is rearranged here.
    """
    params = eqn.params
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return forms.bind(eqn, [array, kernel])[0]
    numbers = params["dimension_numbers"]
    out, into, *spatial = numbers.rhs_spec
    exchanged = numbers._replace(rhs_spec=(into, out, *spatial))
    tangent_eqn = eqn.replace(params={**params, "dimension_numbers": exchanged})

    @jax.custom_jvp
    def convolution(array: jax.Array, kernel: jax.Array) -> jax.Array:
        return forms.bind(eqn, [array, kernel])[0]

    def jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        array, kernel = primals
        of_array, of_kernel = tangents
        value = convolution(array, kernel)
        tangent = jnp.zeros_like(value)
        if not isinstance(of_array, SymbolicZero):
            # Otherwise XLA would undo the exchange.
            rearranged = jax.lax.optimization_barrier(jnp.swapaxes(kernel, out, into))
            tangent = tangent + forms.bind(tangent_eqn, [of_array, rearranged])[0]
        if not isinstance(of_kernel, SymbolicZero):
            tangent = tangent + forms.bind(eqn, [array, of_kernel])[0]
        return value, tangent

    convolution.defjvp(jvp, symbolic_zeros=True)
    return convolution(array, kernel)
