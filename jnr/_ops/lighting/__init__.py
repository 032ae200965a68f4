"""Lighting: colours of diffuse surfaces with highlights under lights that are the same everywhere.

A primitive for the sake of the CPU, as jnr/_ops/normals/: one pass over the pixels in place of a dozen.
"""

import jax
import jax.numpy as jnp

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.derivative import declare_differentiable
from jnr._ops.devices import vary_alike
from jnr._ops.lighting import definition
from jnr._ops.op import Cpp

lit_colors_p = declare_differentiable(
    definition.lit_colors,
    lambda surface, albedo, *_: (albedo.shape[1:], albedo.dtype),
    cpp=Cpp(),
    on_gpu=lambda *operands, backend: definition.lit_colors(*operands),
    wrt=("surface", "albedo"),
    wrt_in_jax=("lights", "highlight", "viewer"),
)


@inline_jit()
def surface_rows(normals: jax.Array, positions: jax.Array) -> jax.Array:
    """The operand `surface` where there are highlights: normals with their sizes, and positions."""
    return jnp.concatenate([normals, positions, jnp.zeros_like(normals[..., :1])], axis=-1)


@inline_jit("backend")
def lit_colors(
    surface: jax.Array,
    albedo: jax.Array,
    side: jax.Array,
    lights: jax.Array,
    highlight: jax.Array,
    viewer: jax.Array,
    *,
    backend: Backend | None = None,
) -> jax.Array:
    """Colours of an image's points, see definition.py: with the image's axes in place of `count`, without a batch.

    Gradients: reach every operand but `side`, in any mode and order.
    """
    surface, albedo, side, *scene = vary_alike(surface, albedo, side, lights, highlight, viewer)
    rows = (x.reshape(1, -1, x.shape[-1]) for x in (surface, albedo))
    out = lit_colors_p.bind(*rows, side.reshape(1, -1), *(x[None] for x in scene), backend=backend)
    return out.reshape(albedo.shape)
