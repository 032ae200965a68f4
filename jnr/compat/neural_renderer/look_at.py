"""The camera at a point that looks at another."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr.compat.neural_renderer._batch import as_vertices, over_batch
from jnr.compat.neural_renderer._cameras import to_camera_space


def look_at(
    vertices: Float[ArrayLike, "#batch vertices 3"],
    eye: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float],
    at: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] | None = None,
    up: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] | None = None,
) -> Float[Array, "batch vertices 3"]:
    """Transforms vertices to the space of a camera at `eye` that looks at the point `at`.

    Camera space has x to the right, y up and z forward.

    Gradients: reach all arguments.

    Args:
        vertices: Positions in world space.
        eye: Position of the camera.
        at: Point in the centre of the view; None is the origin.
        up: Direction that is up in the image, not parallel to the viewing direction; None is (0, 1, 0).

    Raises:
        ValueError: If a shape is wrong, or `eye` equals `at`.
    """

    def one(vertices, eye, at, up):
        return to_camera_space(jnr.LookAt(eye, at, up, handedness="left"), vertices)

    at, up = (0, 0, 0) if at is None else at, (0, 1, 0) if up is None else up
    return over_batch(one, as_vertices(vertices), eye=(eye, 1), at=(at, 1), up=(up, 1))
