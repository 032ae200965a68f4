"""Cross products of rows."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks


def cross(a: Float[ArrayLike, "rows 3"], b: Float[ArrayLike, "rows 3"]) -> Float[Array, "rows 3"]:
    """Returns the cross product of each row of `a` and `b`.

    Gradients: reach both arguments.
    """
    return jnp.cross(_checks.as_compute(a, "a"), _checks.as_compute(b, "b"))
