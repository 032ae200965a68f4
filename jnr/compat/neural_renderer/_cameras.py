"""Cameras of jnr that project as Neural Renderer's functions do."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr import _checks
from jnr._camera import transform
from jnr._pytree import pytree

# The lens of `Calibration`: x' and y' of its points are the NDC x and -y.
UNIT = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]], np.float32)


@pytree()
class ScreenSpacePerspective(jnr.Perspective):
    """Projection of points whose x and y are screen coordinates already, with perspective-correct interpolation.

    The originals' rasterizer always interpolates perspectively, also for parallel projection.
    """

    def distort(self, points: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Returns the points that a field of view of 90 degrees projects to the same x and y."""
        return jnp.concatenate([points[:, :2] * -points[:, 2:], points[:, 2:]], axis=-1)


@pytree()
class Calibration:
    """Projection by the first two rows of `K`, which may be any numbers, of the points that a lens distorts.

    Attributes:
        lens: The distortion and the depth range; its own matrix is `UNIT`.
        K: Matrix from (x / z, y / z, 1), with y down, to pixels.
        orig_size: Width and height of the image that `K` refers to, in pixels.
    """

    lens: jnr.Intrinsics
    K: Float[ArrayLike, "... 3 3"]
    orig_size: ArrayLike

    @property
    def far(self) -> ArrayLike:
        """Depth of the background."""
        return self.lens.far

    def distort(self, points: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Returns the points moved by the lens."""
        return self.lens.distort(points)

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Returns the matrix from camera space, after the distortion, to clip space."""
        matrix = _checks.as_compute(self.K, "K")
        _checks.check_shape(matrix, "K", 3, 3)
        clip = self.lens.clip_from_camera(aspect)
        dtype = np.promote_types(matrix.dtype, clip.dtype)
        x, y, z, w = clip.astype(dtype)
        scale = 2 / _checks.as_compute(self.orig_size, "orig_size").astype(dtype)
        columns, rows = (a * x - b * y + c * w for a, b, c in matrix[:2].astype(dtype) * scale)
        return jnp.stack([columns - w, w - rows, z, w])


def camera_space() -> jnr.Pose:
    """Returns the pose for vertices in Neural Renderer's camera space, which looks along +z; jnr's looks along -z."""
    return jnr.Pose(jnp.asarray(np.diag(np.array([1, 1, -1, 1], np.float32))))


def screen(near: ArrayLike, far: ArrayLike) -> jnr.Camera:
    """Returns the camera that projects screen-space points to themselves."""
    return jnr.Camera(camera_space(), ScreenSpacePerspective(90.0, near, far))


def to_camera_space(pose: Any, vertices: Float[Array, "vertices 3"]) -> Float[Array, "vertices 3"]:
    """Returns world points in Neural Renderer's camera space."""
    x, y, z, _ = transform(pose.camera_from_world(), vertices).T
    return jnp.stack([x, y, -z], axis=-1)


def calibration(K: Any, R: Any, t: Any, dist_coeffs: Any, orig_size: Any) -> dict[str, tuple]:
    """Returns the description of a calibrated camera as settings of `over_batch`."""
    for name, value in (("K", K), ("R", R), ("t", t)):
        if value is None:
            raise ValueError(f"{name} must be given if camera_mode is 'projection', got None.")
    _checks.check_shape(_checks.as_compute(orig_size, "orig_size"), "orig_size")
    if _checks.is_concrete(orig_size) and not 0 < orig_size < np.inf:
        raise ValueError(f"orig_size must be positive and finite, got {orig_size}.")
    if jnp.ndim(t) == 3:
        t = _checks.as_compute(t, "t")
        _checks.check_shape(t, "t", "batch", 1, 3)
        t = t[:, 0]
    if dist_coeffs is not None:
        size = jnp.shape(dist_coeffs)[-1:]
        if size not in ((4,), (5,)):
            raise ValueError(f"dist_coeffs must be k1, k2, p1, p2 and perhaps k3, got shape {jnp.shape(dist_coeffs)}.")
        # Zeros are the default; None saves the computation of the distortion model and of its valid range.
        if _checks.is_concrete(dist_coeffs) and not np.any(np.asarray(dist_coeffs)):
            dist_coeffs = None
    return {"K": (K, 2), "R": (R, 2), "t": (t, 1), "dist_coeffs": (dist_coeffs, 1), "orig_size": (orig_size, 0)}


def calibrated(
    K: Any, R: Any, t: Any, dist_coeffs: Any, orig_size: Any, near: ArrayLike = 0.1, far: ArrayLike = 100
) -> jnr.Camera:
    """Returns the calibrated camera of one batch item."""
    unit = jnr.Camera.from_opencv(UNIT, R, t, (2, 2), distortion=dist_coeffs, near=near, far=far, pixel_center=0.5)
    projection: Any = Calibration(unit.projection, K, orig_size)  # pyright: ignore[reportArgumentType]: an `Intrinsics`
    return jnr.Camera(unit.pose, projection)
