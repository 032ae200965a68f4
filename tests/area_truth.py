"""The derivative of the area-integrated picture, against which a gradient of visibility is judged.

The pixel grid is moved over a fixed scene. A loss that is the sum over pixels of a weight times the hard image is, on
average over all positions of the grid, the integral of weight times picture over the image's area. Its derivative is
found by central differences of hard images with many samples per pixel, and knows nothing of edges.

Which weights are fair? A gradient that weighs the change between neighbours p and q by (g_p + g_q) / 2 sees the weights
through a box of two pixels along the motion. On average over positions of the grid it

- agrees with the integral if the weights are linear along rows and along columns, as `bilinear` ones are: no symmetric
  kernel changes those;
- is below it by the share (2 pi / wavelength)^2 / 6 for waves, 1.6 % at 20 pixels;
- differs for weights that are independent from pixel to pixel: those see the filter itself, which is not the box of one
  pixel. `filtered` has the truth for this case.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jnr

CHANNELS = {"rgb": [0, 1, 2], "alpha": [3], "depth": [4]}


class Scene(NamedTuple):
    """A mesh, its textures and a camera. `lit` is whether faces are lit, each by its own angle."""

    vertices: np.ndarray  # (vertices, 3)
    faces: np.ndarray  # (faces, 3)
    textures: Any
    clip_from_world: np.ndarray  # (4, 4)
    far: float = 5.0
    lit: bool = False


class Grid(NamedTuple):
    """A square grid of samples on an image of `size` x `size` pixels: `extent` pixels right and below of a point."""

    size: int
    samples: int
    extent: float
    column: float = 0.0
    row: float = 0.0

    def matrix(self):
        """Enlarges what the grid covers to the whole of clip space."""
        scale = self.size / self.extent
        matrix = np.diag([scale, scale, 1.0, 1.0])
        matrix[0, 3] = scale - 1 - 2 * self.column / self.extent
        matrix[1, 3] = 1 - scale + 2 * self.row / self.extent
        return matrix

    def bilinear(self, coefficients):
        """Weights `(samples, samples, channels)`, bilinear in the place in the image, from `(channels, 4)`."""
        centres = (np.arange(self.samples) + 0.5) * self.extent / self.samples
        x, y = np.meshgrid((centres + self.column) / self.size - 0.5, (centres + self.row) / self.size - 0.5)
        return np.stack([np.ones_like(x), x, y, x * y], axis=-1) @ coefficients.T

    def fading(self):
        """A factor `(samples, samples, 1)` of weights that falls to zero at the image's border.

        Half of the pixels at the border has no neighbour towards which a boundary could move.
        """
        centres = (np.arange(self.samples) + 0.5) * self.extent / self.samples
        x, y = (np.clip((centres + place) / self.size, 0, 1) for place in (self.column, self.row))
        return (np.sin(np.pi * y)[:, None] * np.sin(np.pi * x))[..., None]


def moved_grids(size, number):
    """Pixel grids at `number` positions that are spread evenly within a pixel."""
    places = (np.arange(number)[:, None] * [0.7548776662466927, 0.5698402909980532] + 0.5) % 1 - 0.5
    return [Grid(size, size, size, column, row) for column, row in places]


@functools.partial(jax.jit, static_argnames=("size", "gradient", "lit"))
def picture(vertices, faces, textures, clip_from_world, far, *, size, gradient, lit):
    """Colour, coverage and depth `(size, size, 5)`."""
    lights = (jnr.AmbientLight(0.4), jnr.DirectionalLight(0.6, direction=(0.3, 0.5, 1.0))) if lit else ()
    rendering = jnr.render(
        vertices,
        faces,
        textures,
        camera=jnr.Camera.from_matrix(clip_from_world, far=far),
        lights=lights,
        image_size=size,
        background=jnp.array([0.1, 0.2, 0.3]),
        gradient=gradient,
    )
    return jnp.concatenate([rendering.rgb, rendering.alpha[..., None], rendering.depth[..., None]], axis=-1)


def _seen(scene, vertices, grid):
    """The hard picture at the samples of a grid, in float64."""
    matrix = jnp.asarray(grid.matrix() @ scene.clip_from_world, jnp.float32)
    vertices = jnp.asarray(vertices, jnp.float32)
    image = picture(
        vertices, scene.faces, scene.textures, matrix, scene.far, size=grid.samples, gradient=None, lit=scene.lit
    )
    return np.asarray(image, np.float64)


def differences(loss, vertices, directions, step):
    """Central differences of a loss along motions of the vertices `(directions, vertices, 3)`."""
    return np.array([(loss(vertices + step * d) - loss(vertices - step * d)) / (2 * step) for d in directions])


def true_derivatives(scene, directions, weights, grid, step=0.25):
    """Derivative of the integral of weights times picture along each direction, `(directions, channels)`."""
    weights = weights * (grid.extent / grid.samples) ** 2

    def loss(vertices):
        return np.einsum("hwc,hwc->c", _seen(scene, vertices, grid), weights)

    return differences(loss, scene.vertices, directions, step)


def filtered(weights, samples, axis, pixels):
    """Weights of pixels, averaged over positions of the grid, as they are seen through a box some pixels wide.

    Args:
        weights: One `(size, size, channels)`.
        samples: Samples per pixel of the result.
        axis: Axis of the image along which the box lies.
        pixels: Width of the box.
    """
    fine = weights.repeat(samples, axis=0).repeat(samples, axis=1)
    half = pixels * samples // 2
    before = np.cumsum(np.pad(fine, [(half, half) if k == axis else (0, 0) for k in range(3)]), axis=axis)
    length = weights.shape[axis] * samples
    before = np.concatenate([np.zeros_like(before.take([0], axis)), before], axis)
    after = before.take(np.arange(length) + 2 * half, axis)
    return (after - before.take(np.arange(length), axis)) / (2 * half)


@functools.partial(jax.jit, static_argnames=("size", "gradient", "lit"))
def _gradients(vertices, faces, textures, matrices, far, weights, *, size, gradient, lit):
    def loss(vertices, matrix, weight):
        return jnp.sum(weight * picture(vertices, faces, textures, matrix, far, size=size, gradient=gradient, lit=lit))

    return jax.vmap(jax.grad(loss), (None, 0, 0))(vertices, matrices, weights)


def found_derivatives(scene, directions, weights, grids, output, gradient="boundary"):
    """What `gradient` says along each direction at each position of the pixel grid, `(grids, directions)`.

    Args:
        scene: The scene.
        directions: Motions of the vertices, `(directions, vertices, 3)`.
        weights: Of the pixels, one `(size, size, channels)` per grid.
        grids: From `moved_grids`.
        output: One of `CHANNELS`, the others have no weight.
        gradient: Name of the gradient.
    """
    others = [c not in CHANNELS[output] for c in range(5)]
    weights = np.where(others, 0, np.stack(weights))
    matrices = np.stack([grid.matrix() @ scene.clip_from_world for grid in grids])
    vertices, matrices, weights = (jnp.asarray(x, jnp.float32) for x in (scene.vertices, matrices, weights))
    options = {"size": grids[0].size, "gradient": gradient, "lit": scene.lit}
    gradients = _gradients(vertices, scene.faces, scene.textures, matrices, scene.far, weights, **options)
    return np.einsum("gvk,dvk->gd", np.asarray(gradients, np.float64), directions)


def pixel_speeds(scene, directions, size, change=1e-4):
    """The largest motion of each direction, in pixels: in the image, or in depth as if a pixel were 0.1 units."""

    def places(vertices):
        clip = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1) @ scene.clip_from_world.T
        front = clip[:, 3] > 0.2
        return np.where(front[:, None], clip[:, :2] / np.where(front, clip[:, 3], 1)[:, None], 0) * size / 2

    used = np.unique(scene.faces[scene.faces[:, 0] >= 0])
    moved = np.stack([places(scene.vertices + change * motion) for motion in directions])
    seen = np.abs(moved - places(scene.vertices))[:, used].max(axis=(1, 2)) / change
    return np.maximum(seen, 10 * np.abs(directions).max(axis=(1, 2)))


def relative_errors(found, truth, floor):
    """Mitsuba's measure: |found - truth| / max(|truth|, floor)."""
    return np.abs(found - truth) / np.maximum(np.abs(truth), floor)
