"""The part of a module that does not depend on its API: docstring, fields, function, output without noise.

`jaxdrop.linen` and `jaxdrop.nnx` inherit from these classes; only the call, the key and the variables
are written twice.
"""
