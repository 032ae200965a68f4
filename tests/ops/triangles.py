"""Recorded triangles, and the gradients that each of their pixels has alone."""

import golden
import jax
import jax.numpy as jnp
import numpy as np

import jnr

NAMES = ["opendr_tri16", "opendr_tri64"]
FACES = jnp.array([[0, 1, 2]])


def clip_and_size(case):
    """Clip positions (w = 1) and image size of a recorded triangle, whose vertices are in pixels, y down."""
    pixels, size = case["vertices_px"], int(case["image_size"])
    ndc = (2 * pixels + 1) / size - 1
    clip = np.stack([ndc[:, 0], -ndc[:, 1], 0 * ndc[:, 0], 1 + 0 * ndc[:, 0]], axis=-1)
    return jnp.asarray(clip, jnp.float32), size


def single_pixel_gradients(clip, size, gradient):
    """NDC gradients (y up) of the vertices for making one pixel darker and brighter, and the alpha image.

    The gradients have shape (2, size, size, 3, 2).
    """
    fragments = jnr.rasterize(clip, FACES, size)
    alpha = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
    pixels = jnp.eye(size * size).reshape(-1, size, size, 1)

    @jax.jit
    def of_each(cotangents):
        return jax.lax.map(lambda c: gradient(alpha, c, clip, FACES, fragments)[:, :2], cotangents, batch_size=64)

    gradients = np.stack([of_each(sign * pixels).reshape(size, size, 3, 2) for sign in (1, -1)])
    return gradients, np.asarray(alpha)[..., 0]


def small_triangle(make_gradient):
    """The 16 x 16 triangle: its case, covered pixels, distances to the outline, and single-pixel gradients.

    `make_gradient` returns the gradient of visibility for the recorded case.
    """
    case = golden.load("opendr_tri16")
    clip, size = clip_and_size(case)
    corners = case["vertices_px"]
    pixel = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    distance = np.full((size, size), np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        t = np.clip(((pixel - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(pixel - a - t[..., None] * (b - a), axis=-1))
    gradients, alpha = single_pixel_gradients(clip, size, make_gradient(case))
    return {"case": case, "inside": alpha > 0, "distance": distance, "gradients": gradients}
