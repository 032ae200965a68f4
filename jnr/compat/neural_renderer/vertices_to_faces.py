"""Corners of faces."""

from __future__ import annotations

import jax
from jaxtyping import Array, ArrayLike, Float, Int

from jnr._geometry import corner_values
from jnr.compat.neural_renderer._batch import as_faces, as_vertices


def vertices_to_faces(
    vertices: Float[ArrayLike, "batch vertices 3"], faces: Int[ArrayLike, "batch faces 3"]
) -> Float[Array, "batch faces 3 3"]:
    """Returns the corners of each face; zeros for padding (index -1).

    Gradients: reach `vertices`.
    """
    vertices = as_vertices(vertices)
    return jax.vmap(lambda v, f: corner_values(v, f).swapaxes(0, 1))(vertices, as_faces(faces, vertices))
