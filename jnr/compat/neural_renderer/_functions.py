"""Neural Renderer's functions from vertices to the input of its rasterizer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

import jnr
from jnr import _checks
from jnr._camera import transform
from jnr._geometry import corner_values
from jnr._lights import diffuse
from jnr.compat.neural_renderer._batch import as_faces, as_soup, as_textures, as_vertices, over_batch

# Neural Renderer's camera space looks along +z, jnr's along -z.
FLIP_Z = np.diag(np.array([1, 1, -1, 1], np.float32))


def cross(a: Float[ArrayLike, "rows 3"], b: Float[ArrayLike, "rows 3"]) -> Float[Array, "rows 3"]:
    """Returns the cross product of each row of `a` and `b`.

    Gradients: reach both arguments.
    """
    return jnp.cross(_checks.as_compute(a, "a"), _checks.as_compute(b, "b"))


def get_points_from_angles(
    distance: ArrayLike, elevation: ArrayLike, azimuth: ArrayLike, degrees: bool = True
) -> Float[Array, "*batch 3"]:
    """Returns points around the origin, for `eye`.

    Azimuth 0 is the direction of -z, where the default eye is; elevation is measured from the xz plane upwards. The
    result is always an array, whereas the originals return a tuple for scalars.

    Gradients: reach distance, elevation and azimuth.

    Args:
        distance: Distance from the origin.
        elevation: Angle towards +y.
        azimuth: Angle around the y axis.
        degrees: Whether angles are in degrees, else in radians.
    """
    return jnr.points_from_angles(distance, elevation, azimuth, degrees=degrees, handedness="left")


def look_at(
    vertices: Float[ArrayLike, "batch vertices 3"],
    eye: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float],
    at: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] = (0, 0, 0),
    up: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch vertices 3"]:
    """Transforms vertices to the space of a camera at `eye` that looks at the point `at`.

    Camera space has x to the right, y up and z forward.

    Gradients: reach all arguments.

    Args:
        vertices: Positions in world space.
        eye: Position of the camera.
        at: Point in the centre of the view.
        up: Direction that is up in the image; must not be parallel to the viewing direction.

    Raises:
        ValueError: If a shape is wrong, or `eye` equals `at`.
    """

    def one(vertices, eye, at, up):
        return _to_camera_space(jnr.LookAt(eye, at, up, handedness="left"), vertices)

    return over_batch(one, as_vertices(vertices), eye=(eye, 1), at=(at, 1), up=(up, 1))


def look(
    vertices: Float[ArrayLike, "batch vertices 3"],
    eye: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float],
    direction: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] = (0, 0, 1),
    up: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch vertices 3"]:
    """Transforms vertices to the space of a camera at `eye` that looks along `direction`.

    Camera space has x to the right, y up and z forward.

    Gradients: reach all arguments.

    Args:
        vertices: Positions in world space.
        eye: Position of the camera.
        direction: Viewing direction, of any length but zero.
        up: Direction that is up in the image; must not be parallel to the viewing direction.

    Raises:
        ValueError: If a shape is wrong, or `direction` is zero.
    """

    def one(vertices, eye, direction, up):
        return _to_camera_space(jnr.LookAlong(eye, direction, up, handedness="left"), vertices)

    return over_batch(one, as_vertices(vertices), eye=(eye, 1), direction=(direction, 1), up=(up, 1))


def perspective(
    vertices: Float[ArrayLike, "batch vertices 3"], angle: ArrayLike = 30.0
) -> Float[Array, "batch vertices 3"]:
    """Projects camera-space points to the screen: x and y are divided by `z * tan(angle)`, z is kept.

    Gradients: reach both arguments.

    Args:
        vertices: Positions in the space of a camera that looks along +z.
        angle: Half the field of view, in degrees.
    """

    def one(vertices, angle):
        extent = vertices[:, 2:] * jnp.tan(jnp.deg2rad(_checks.as_compute(angle, "angle"))).astype(vertices.dtype)
        return jnp.concatenate([vertices[:, :2] / extent, vertices[:, 2:]], axis=-1)

    return over_batch(one, as_vertices(vertices), angle=(angle, 0))


def projection(
    vertices: Float[ArrayLike, "batch vertices 3"],
    K: Float[ArrayLike, "3 3"] | Float[ArrayLike, "#batch 3 3"],
    R: Float[ArrayLike, "3 3"] | Float[ArrayLike, "#batch 3 3"],
    t: Float[ArrayLike, " 3"] | Float[ArrayLike, "#batch 3"] | Float[ArrayLike, "#batch 1 3"],
    dist_coeffs: Float[ArrayLike, " 5"] | Float[ArrayLike, "#batch 5"] | None,
    orig_size: int,
    eps: float = 1e-9,
) -> Float[Array, "batch vertices 3"]:
    """Projects world points to the screen of a calibrated camera.

    The result has x and y in [-1, 1] across the image, y up, and the depth along the optical axis.

    Gradients: reach `vertices`, `K`, `R`, `t` and `dist_coeffs`.

    Args:
        vertices: Positions in world space.
        K: Calibration matrix in pixels of a square image whose first pixel extends from 0 to 1.
        R: Rotation from world to camera, in OpenCV's axes (x right, y down, z forward).
        t: World origin in camera coordinates.
        dist_coeffs: k1, k2, p1, p2, k3 of OpenCV's distortion model; None for no distortion.
        orig_size: Width and height of that image, in pixels.
        eps: Replaces a depth of exactly zero in the division.
    """

    def one(vertices, K, R, t, dist_coeffs):
        clip = calibrated(K, R, t, dist_coeffs, orig_size).clip_positions(vertices)
        depth = clip[:, 3:]
        return jnp.concatenate([clip[:, :2] / jnp.where(depth == 0, eps, depth), depth], axis=-1)

    return over_batch(one, as_vertices(vertices), **calibration(K, R, t, dist_coeffs))


def calibration(K, R, t, dist_coeffs) -> dict[str, tuple]:
    """Returns the arrays of a calibrated camera as settings of `over_batch`."""
    if t is not None and jnp.ndim(t) == 3:
        t = jnp.reshape(t, (-1, 3))
    # Zeros are the default; None saves the computation of the distortion model and of its valid range.
    if dist_coeffs is not None and _checks.is_concrete(dist_coeffs) and not np.any(np.asarray(dist_coeffs)):
        dist_coeffs = None
    return {"K": (K, 2), "R": (R, 2), "t": (t, 1), "dist_coeffs": (dist_coeffs, 1)}


def calibrated(K, R, t, dist_coeffs, orig_size, near: ArrayLike = 0.1, far: ArrayLike = 100) -> jnr.Camera:
    """Returns the calibrated camera of one batch item."""
    for name, value in (("K", K), ("R", R), ("t", t)):
        if value is None:
            raise ValueError(f"{name} must be given if camera_mode is 'projection', got None.")
    size = (orig_size, orig_size)
    return jnr.Camera.from_opencv(K, R, t, size, distortion=dist_coeffs, near=near, far=far, pixel_center=0.5)


def vertices_to_faces(
    vertices: Float[ArrayLike, "batch vertices 3"], faces: Int[ArrayLike, "batch faces 3"]
) -> Float[Array, "batch faces 3 3"]:
    """Returns the corners of each face; zeros for padding (index -1).

    Gradients: reach `vertices`.
    """
    vertices = as_vertices(vertices)
    return jax.vmap(lambda v, f: corner_values(v, f).swapaxes(0, 1))(vertices, as_faces(faces, vertices))


def lighting(
    faces: Float[ArrayLike, "batch faces 3 3"],
    textures: Float[ArrayLike, "batch faces t t t channels"],
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


def _to_camera_space(pose, vertices):
    x, y, z, _ = transform(pose.camera_from_world(), vertices).T
    return jnp.stack([x, y, -z], axis=-1)


def corners(faces: Float[Array, "faces 3 3"]) -> Int[Array, "faces 3"]:
    """Returns the vertex indices of faces that share no vertices: 0, 1, 2; 3, 4, 5; and so on."""
    return jnp.asarray(np.arange(3 * faces.shape[0], dtype=np.int32).reshape(-1, 3))
