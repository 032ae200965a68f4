"""Neural Renderer's functions between vertices and its rasterizer."""

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


def cross(a: Float[Array, "rows 3"], b: Float[Array, "rows 3"]) -> Float[Array, "rows 3"]:
    """Vector products, row by row."""
    return jnp.cross(_checks.as_compute(a, "a"), _checks.as_compute(b, "b"))


def get_points_from_angles(
    distance: ArrayLike, elevation: ArrayLike, azimuth: ArrayLike, degrees: bool = True
) -> Float[Array, "*batch 3"]:
    """Points around the origin for `eye`; azimuth 0 is the side of -z, where the default eye is.

    One array, also of single numbers, of which the originals make a tuple.
    """
    return jnr.points_from_angles(distance, elevation, azimuth, degrees=degrees, handedness="left")


def look_at(
    vertices: Float[Array, "batch vertices 3"],
    eye: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float],
    at: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float] = (0, 0, 0),
    up: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch vertices 3"]:
    """Vertices as a camera at `eye` that looks at a point sees them: x right, y up, z forward.

    Gradients: reach all arguments.
    """

    def one(vertices, eye, at, up):
        return _seen(jnr.LookAt(eye, at, up, handedness="left"), vertices)

    return over_batch(one, as_vertices(vertices), eye=(eye, 1), at=(at, 1), up=(up, 1))


def look(
    vertices: Float[Array, "batch vertices 3"],
    eye: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float],
    direction: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float] = (0, 0, 1),
    up: Float[Array, 3] | Float[Array, "batch 3"] | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch vertices 3"]:
    """Vertices as a camera at `eye` that looks in a direction sees them: x right, y up, z forward.

    Gradients: reach all arguments.
    """

    def one(vertices, eye, direction, up):
        return _seen(jnr.LookAlong(eye, direction, up, handedness="left"), vertices)

    return over_batch(one, as_vertices(vertices), eye=(eye, 1), direction=(direction, 1), up=(up, 1))


def perspective(
    vertices: Float[Array, "batch vertices 3"], angle: ArrayLike | Float[Array, " batch"] = 30.0
) -> Float[Array, "batch vertices 3"]:
    """Camera-space points to the screen: x and y divided by z and the tangent of half the field of view; z stays.

    Gradients: reach both arguments.

    Args:
        vertices: In front of a camera that looks along +z.
        angle: Half the field of view, in degrees.
    """

    def one(vertices, angle):
        extent = vertices[:, 2:] * jnp.tan(jnp.deg2rad(_checks.as_compute(angle, "angle"))).astype(vertices.dtype)
        return jnp.concatenate([vertices[:, :2] / extent, vertices[:, 2:]], axis=-1)

    return over_batch(one, as_vertices(vertices), angle=(angle, 0))


def projection(
    vertices: Float[Array, "batch vertices 3"],
    K: Float[Array, "batch 3 3"],
    R: Float[Array, "batch 3 3"],
    t: Float[Array, "batch 1 3"],
    dist_coeffs: Float[Array, "batch 5"] | None,
    orig_size: int,
    eps: float = 1e-9,
) -> Float[Array, "batch vertices 3"]:
    """World points to the screen by a calibrated camera: x and y in [-1, 1] across the image, y up, and depth.

    Gradients: reach vertices, calibration, pose and distortion.

    Args:
        vertices: In the world.
        K: Calibration in pixels of a square image, whose first pixel reaches from 0 to 1.
        R: World to camera rotation, OpenCV's axes (x right, y down, z forward).
        t: The world's origin in the camera's coordinates.
        dist_coeffs: k1, k2, p1, p2, k3 of OpenCV's model, None for a lens without.
        orig_size: Width and height of that image.
        eps: Taken for a depth of exactly zero.
    """

    def one(vertices, K, R, t, dist_coeffs):
        clip = calibrated(K, R, t, dist_coeffs, orig_size).clip_positions(vertices)
        depth = clip[:, 3:]
        return jnp.concatenate([clip[:, :2] / jnp.where(depth == 0, eps, depth), depth], axis=-1)

    return over_batch(one, as_vertices(vertices), **calibration(K, R, t, dist_coeffs))


def calibration(K, R, t, dist_coeffs) -> dict[str, tuple]:
    """A calibrated camera's arrays as `over_batch` takes them."""
    if t is not None and jnp.ndim(t) == 3:
        t = jnp.reshape(t, (-1, 3))
    # No distortion is the default, and finding out how far one goes costs time.
    if dist_coeffs is not None and _checks.is_concrete(dist_coeffs) and not np.any(np.asarray(dist_coeffs)):
        dist_coeffs = None
    return {"K": (K, 2), "R": (R, 2), "t": (t, 1), "dist_coeffs": (dist_coeffs, 1)}


def calibrated(K, R, t, dist_coeffs, orig_size, near: ArrayLike = 0.1, far: ArrayLike = 100) -> jnr.Camera:
    """One item's calibrated camera."""
    for name, value in (("K", K), ("R", R), ("t", t)):
        if value is None:
            raise ValueError(f"{name} must be given where camera_mode is 'projection', got None.")
    size = (orig_size, orig_size)
    return jnr.Camera.from_opencv(K, R, t, size, distortion=dist_coeffs, near=near, far=far, pixel_center=0.5)


def vertices_to_faces(
    vertices: Float[Array, "batch vertices 3"], faces: Int[Array, "batch faces 3"]
) -> Float[Array, "batch faces 3 3"]:
    """The corners of each face; zeros for padding (index -1)."""
    vertices = as_vertices(vertices)
    return jax.vmap(lambda v, f: corner_values(v, f).swapaxes(0, 1))(vertices, as_faces(faces, vertices))


def lighting(
    faces: Float[Array, "batch faces 3 3"],
    textures: Float[Array, "batch faces t t t channels"],
    intensity_ambient: ArrayLike = 0.5,
    intensity_directional: ArrayLike = 0.5,
    color_ambient: ArrayLike | Sequence[float] = (1, 1, 1),
    color_directional: ArrayLike | Sequence[float] = (1, 1, 1),
    direction: ArrayLike | Sequence[float] = (0, 1, 0),
) -> Float[Array, "batch faces t t t channels"]:
    """Texture cubes times the light on each face, as new arrays.

    A face is lit on the side from which it is clockwise in right-handed space, the one that a mirrored picture shows.

    Gradients: reach all arguments; faces through their normals.

    Args:
        faces: Corners of the faces in the world, from `vertices_to_faces`.
        textures: Texture cubes.
        intensity_ambient: Factor on `color_ambient`.
        intensity_directional: Factor on `color_directional`.
        color_ambient: One number a channel, or (batch, channels).
        color_directional: One number a channel, or (batch, channels).
        direction: Where the light comes from, used as it is; (3,) or (batch, 3).
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


def _seen(pose, vertices):
    x, y, z, _ = transform(pose.camera_from_world(), vertices).T
    return jnp.stack([x, y, -z], axis=-1)


def corners(faces: Float[Array, "faces 3 3"]) -> Int[Array, "faces 3"]:
    """Vertex indices of faces that share no vertices."""
    return jnp.asarray(np.arange(3 * faces.shape[0], dtype=np.int32).reshape(-1, 3))
