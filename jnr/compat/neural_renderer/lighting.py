"""Light on texture cubes."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr._lights import diffuse
from jnr.compat.neural_renderer._batch import as_soup, as_textures, corners, over_batch


def lighting(
    faces: Float[ArrayLike, "#batch faces 3 3"],
    textures: Float[ArrayLike, "#batch faces t t t channels"],
    intensity_ambient: ArrayLike = 0.5,
    intensity_directional: ArrayLike = 0.5,
    color_ambient: ArrayLike | Sequence[float] = (1, 1, 1),
    color_directional: ArrayLike | Sequence[float] = (1, 1, 1),
    direction: ArrayLike | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch faces t t t channels"]:
    """Returns texture cubes multiplied by the light on each face. The arguments are not modified.

    The lit side of a face is the one from which its corners are clockwise in right-handed coordinates. This is the
    front in a mirrored image, as `look` and `look_at` produce it.

    Gradients: reach all arguments; `faces` through the normals.

    Args:
        faces: Corners of the faces in world space, from `vertices_to_faces`.
        textures: Texture cubes.
        intensity_ambient: Factor on `color_ambient`.
        intensity_directional: Factor on `color_directional`.
        color_ambient: One value per channel, or (batch, channels).
        color_directional: One value per channel, or (batch, channels).
        direction: Direction towards the light, not normalized; (3,) or (batch, 3).

    Raises:
        ValueError: If a shape is wrong, or `textures` is None.
    """
    faces = as_soup(faces)
    cubes = as_textures(textures, faces)
    if cubes is None:
        raise ValueError("textures must be texture cubes, got None.")

    def one(faces, textures, color_ambient, color_directional, direction):
        normal = -jnr.face_normals(faces.reshape(-1, 3), corners(faces))
        lights = (
            jnr.AmbientLight(intensity_ambient, color_ambient),
            jnr.DirectionalLight(intensity_directional, color_directional, direction),
        )
        light = diffuse(lights, jnp.zeros_like(normal), normal)
        return textures * light[:, None, None, None].astype(textures.dtype)

    colors = {"color_ambient": (color_ambient, 1), "color_directional": (color_directional, 1)}
    return over_batch(one, faces, cubes, **colors, direction=(direction, 1))
