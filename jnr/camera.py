"""Cameras: where one stands, how it projects, and the clip-from-world matrix that comes of it.

Every class is a pytree whose numbers can all be differentiated, mapped and optimised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp

from jnr import _checks
from jnr._pytree import pytree

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float

Handedness = Literal["right", "left"]


@pytree(static=("handedness",))
class LookAt:
    """A camera at `eye` that looks at a point.

    Attributes:
        eye: Position of the camera, in world units.
        at: The point at the centre of the image.
        up: Direction that is upwards in the image; not along the view.
        handedness: `"right"`: images are as one would see them. `"left"`: mirrored left to right, as Neural
            Renderer's are.

    Example:
        >>> camera = jnr.Camera(jnr.LookAt(eye=(0, 1, 3)), jnr.Perspective(fov=50))
    """

    eye: ArrayLike | Sequence[float]
    at: ArrayLike | Sequence[float] = (0.0, 0.0, 0.0)
    up: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    handedness: Handedness = "right"

    def camera_from_world(self) -> Float[Array, "4 4"]:
        """World to camera: x right, y up, the camera looks along -z."""
        eye, at = _vector(self.eye, "eye"), _vector(self.at, "at")
        return _view(eye, at - eye, _vector(self.up, "up"), self.handedness, "at must differ from eye")


@pytree(static=("handedness",))
class LookAlong:
    """A camera at `eye` that looks in a direction.

    Attributes:
        eye: Position of the camera, in world units.
        direction: Where it looks; any length.
        up: Direction that is upwards in the image; not along the view.
        handedness: As for `LookAt`.
    """

    eye: ArrayLike | Sequence[float]
    direction: ArrayLike | Sequence[float] = (0.0, 0.0, -1.0)
    up: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    handedness: Handedness = "right"

    def camera_from_world(self) -> Float[Array, "4 4"]:
        """World to camera: x right, y up, the camera looks along -z."""
        eye, direction = _vector(self.eye, "eye"), _vector(self.direction, "direction")
        return _view(eye, direction, _vector(self.up, "up"), self.handedness, "direction must not be zero")


@pytree()
class Perspective:
    """Central projection.

    Attributes:
        fov: Full vertical field of view, in degrees.
        near: Distance of the near plane along the view axis; nearer points are not drawn.
        far: Distance of the far plane; farther points are not drawn, and background has this depth.
    """

    fov: ArrayLike = 60.0
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space for an image whose width is `aspect` times its height."""
        fov, near, far = _scalar(self.fov, "fov"), _scalar(self.near, "near"), _scalar(self.far, "far")
        _require(self.fov, lambda v: 0 < v < 180, "fov must lie between 0 and 180 degrees")
        _require(self.near, lambda v: v > 0, "near must be positive")
        _require_order(self.near, self.far)
        focal = 1 / jnp.tan(jnp.deg2rad(fov) / 2)
        return _projection(focal / aspect, focal, (far + near) / (near - far), 2 * far * near / (near - far), 1)


@pytree()
class Orthographic:
    """Parallel projection.

    Attributes:
        half_height: Half the height of what the image shows, in world units.
        near: As for `Perspective`, of either sign.
        far: As for `Perspective`.
    """

    half_height: ArrayLike = 1.0
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space for an image whose width is `aspect` times its height."""
        half_height = _scalar(self.half_height, "half_height")
        near, far = _scalar(self.near, "near"), _scalar(self.far, "far")
        _require(self.half_height, lambda v: v > 0, "half_height must be positive")
        _require_order(self.near, self.far)
        scale = 1 / half_height
        return _projection(scale / aspect, scale, 2 / (near - far), (far + near) / (near - far), 0)


@pytree()
class Camera:
    """A pose and a projection.

    Attributes:
        pose: `LookAt`, `LookAlong`, or any pytree with `camera_from_world()`.
        projection: `Perspective`, `Orthographic`, or any pytree with `clip_from_camera(aspect)` and `far`.

    Gradients: reach every field of both.

    Example:
        >>> camera = jnr.Camera(jnr.LookAt(eye=(2.0, 1.0, 2.0)))
        >>> image = jnr.render(vertices, faces, camera=camera).rgb
    """

    pose: LookAt | LookAlong = dataclasses.field(default_factory=lambda: LookAt((0.0, 0.0, 2.732)))
    projection: Perspective | Orthographic = dataclasses.field(default_factory=Perspective)

    def clip_from_world(self, aspect: float = 1.0) -> Float[Array, "4 4"]:
        """World to clip space for an image whose width is `aspect` times its height."""
        return jnp.matmul(
            self.projection.clip_from_camera(aspect),
            self.pose.camera_from_world(),
            precision=jax.lax.Precision.HIGHEST,
        )

    def depth(self, vertices: Float[Array, "vertices 3"]) -> Float[Array, " vertices"]:
        """Distance of points along the view axis, in world units, negative behind the camera."""
        return -transform(self.pose.camera_from_world(), vertices)[:, 2]


def transform(matrix: Float[Array, "4 4"], points: Float[Array, "points 3"]) -> Float[Array, "points 4"]:
    """Homogeneous points times a matrix, `matrix @ (x, y, z, 1)` each; NaN where the point is not finite."""
    dtype = jnp.result_type(matrix.dtype, points.dtype)
    matrix, points = matrix.astype(dtype), points.astype(dtype)
    # An unsound point must not reach the matrix's gradient, where it would be NaN times zero.
    sound = jnp.all(jnp.isfinite(points), axis=-1, keepdims=True)
    points = jnp.where(sound, points, 0)
    moved = jnp.matmul(points, matrix[:, :3].T, precision=jax.lax.Precision.HIGHEST) + matrix[:, 3]
    return jnp.where(sound, moved, jnp.nan)


def _view(eye, direction, up, handedness, rule):
    if handedness not in ("right", "left"):
        raise ValueError(f"handedness must be 'right' or 'left', got {handedness!r}.")
    forward = _normalize(direction, rule)
    side = _normalize(jnp.cross(forward, up), "up must not be zero nor along the view")
    upward = jnp.cross(side, forward)
    rotation = jnp.stack([side if handedness == "right" else -side, upward, -forward])
    translation = -jnp.matmul(rotation, eye, precision=jax.lax.Precision.HIGHEST)
    bottom = jnp.array([[0, 0, 0, 1]], rotation.dtype)
    return jnp.concatenate([jnp.concatenate([rotation, translation[:, None]], axis=1), bottom])


def _projection(x, y, z, offset, perspective):
    """`(x, y, z, -z)` scaled and shifted; the last row is (0, 0, 0, 1) without perspective."""
    zero, one = jnp.zeros_like(y), jnp.ones_like(y)
    last = [zero, zero, -one, zero] if perspective else [zero, zero, zero, one]
    rows = [[x, zero, zero, zero], [zero, y, zero, zero], [zero, zero, z, offset], last]
    return jnp.stack([jnp.stack(row) for row in rows])


def _normalize(vector, rule):
    length = jnp.linalg.norm(vector)
    _require(length, lambda v: v > 1e-6, rule)
    return vector / length


def _vector(value, name):
    vector = _checks.as_compute(value, name)
    _checks.check_shape(vector, name, 3)
    _checks.check_finite(value, name)
    return vector


def _scalar(value, name):
    scalar = _checks.as_compute(value, name)
    _checks.check_shape(scalar, name)
    _checks.check_finite(value, name)
    return scalar


def _require_order(near, far):
    if _checks.is_concrete((near, far)) and not float(far) > float(near):
        raise ValueError(f"far must be greater than near, got near {float(near):g} and far {float(far):g}.")


def _require(value, condition, rule):
    if _checks.is_concrete(value) and not condition(float(value)):
        raise ValueError(f"{rule}, got {float(value):g}.")
