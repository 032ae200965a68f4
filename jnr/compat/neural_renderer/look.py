"""The camera at a point with a direction."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr.compat.neural_renderer._batch import as_vertices, over_batch
from jnr.compat.neural_renderer._cameras import to_camera_space


def look(
    vertices: Float[ArrayLike, "#batch vertices 3"],
    eye: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float],
    direction: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] | None = None,
    up: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] | None = None,
) -> Float[Array, "batch vertices 3"]:
    """Transforms vertices to the space of a camera at `eye` that looks along `direction`.

    Camera space has x to the right, y up and z forward.

    Gradients: reach all arguments.

    Args:
        vertices: Positions in world space.
        eye: Position of the camera.
        direction: Viewing direction, of any length but zero; None is (0, 0, 1).
        up: Direction that is up in the image, not parallel to the viewing direction; None is (0, 1, 0).

    Raises:
        ValueError: If a shape is wrong, or `direction` is zero.
    """

    def one(vertices, eye, direction, up):
        return to_camera_space(jnr.LookAlong(eye, direction, up, handedness="left"), vertices)

    direction, up = (0, 0, 1) if direction is None else direction, (0, 1, 0) if up is None else up
    return over_batch(one, as_vertices(vertices), eye=(eye, 1), direction=(direction, 1), up=(up, 1))
