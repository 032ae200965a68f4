"""Pictures of meshes: camera, rasterizer, shading, visibility gradient and averaging put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from jnr import _checks
from jnr._backend import Backend
from jnr._ops.edge_sweep import EdgeSweep
from jnr._ops.interpolate import interpolate
from jnr._ops.opendr import OpenDR
from jnr._ops.rasterize import Cull, Fragments, rasterize
from jnr._ops.visibility import Gradient, images_with_gradient
from jnr._xla.geometry import take
from jnr.camera import Camera, transform
from jnr.shading import DEFAULT_LIGHTS, Light, check_lights, face_light, sample_texture

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int

GradientName = Literal["edge_sweep", "opendr"]


class Rendering(NamedTuple):
    """A picture of a mesh.

    Attributes:
        rgb: Colour over the background.
        alpha: Part of the pixel that the mesh covers, 0 or 1 without antialiasing.
        depth: Distance along the view axis, in world units; the camera's `far` on background. With antialiasing
            the mean over the pixel's samples, background included.
    """

    rgb: Float[Array, "height width channels"]
    alpha: Float[Array, "height width"]
    depth: Float[Array, "height width"]


def render(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    textures: Float[Array, "vertices channels"] | Float[Array, "faces t t t channels"] | None = None,
    *,
    camera: Camera | None = None,
    lights: Sequence[Light] | None = None,
    image_size: int | tuple[int, int] = 256,
    background: ArrayLike | Sequence[float] = 0.0,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = "edge_sweep",
    interior: bool = False,
    eps: float = 1e-3,
    backend: Backend | None = None,
) -> Rendering:
    """Renders a mesh.

    Works under `jit`, `grad` and `vmap` (the batch). Outputs that are not used cost nothing under `jit`.

    Gradients: `rgb` reaches textures, lights and background, and vertices through the lights' angles. How a pixel
    changes when the mesh moves in the image reaches vertices and camera by `gradient`, from `rgb` and `alpha`
    together: `"edge_sweep"` is Neural Renderer's gradient, which replaces the derivative of colours through the
    barycentrics (`interior=True` adds that derivative to it) and has no forward mode; `"opendr"` is OpenDR's, in its
    place; a function is one of your own, see `jnr.gradients`; None is the derivative through the barycentrics
    alone, exact where no edge is near and blind to edges. `depth` reaches vertices and camera at the points that
    are seen, and has no gradient of visibility.

    Args:
        vertices: Positions in the world, any unit.
        faces: Vertex indices of each face, counter-clockwise seen from outside.
        textures: Vertex colours, texture cubes, or None for white.
        camera: Where the picture is taken from; None stands at (0, 0, 2.732) and looks at the origin with a field
            of view of 60 degrees.
        lights: Added up and multiplied with the texture, on the side of a face that is seen; None is a soft light
            from the upper right of the default camera, an empty sequence shows the texture as it is.
        image_size: Height and width, or one int for both.
        background: Colour where there is no mesh: a number, one a channel, or an image.
        antialias: Samples a pixel each way, averaged.
        cull: `"back"` leaves out faces that are clockwise in the image, `"front"` the others.
        gradient: `"edge_sweep"`, `"opendr"`, a function, or None for the derivative without visibility.
        interior: Whether the derivative of colours through the barycentrics is added to `gradient`.
        eps: Of the edge sweep, see `edge_sweep`.
        backend: `"xla"`, `"triton"`, `"interpret"`, or None to choose by platform.

    Returns:
        The picture, row 0 at the top.

    Raises:
        ValueError: If a shape, size, index, number or name is not allowed.
        TypeError: If an argument is not an array of the right kind of numbers.

    Example:
        >>> mesh = jnr.shapes.icosphere(2)
        >>> image = jnr.render(mesh.vertices, mesh.faces).rgb
        >>> image.shape
        (256, 256, 3)

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018.
    """
    scene = _Scene(vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend)
    fragments = scene.fragments
    if gradient is not None and not interior:
        fragments = fragments._replace(barycentric=lax.stop_gradient(fragments.barycentric))
    covered = fragments.face_index >= 0
    color = sample_texture(textures, scene.faces, fragments, scene.vertices.shape[0])
    lights = DEFAULT_LIGHTS if lights is None else check_lights(lights)
    if lights and 0 not in (scene.faces.shape[0], scene.vertices.shape[0]):
        light = face_light(scene.vertices, scene.faces, lights, scene.clip_from_world, scene.clip_positions)
        channels = color.shape[-1]
        if light.shape[-1] not in (1, channels):
            raise ValueError(f"lights must have one colour channel or the textures' {channels}, got {light.shape[-1]}.")
        color = color * jnp.where(covered[..., None], take(light, jnp.maximum(fragments.face_index, 0)), 0).astype(
            color.dtype
        )
    color = jnp.where(covered[..., None], color, scene.background(background, color))
    rgb, alpha = scene.with_gradient(color, scene.coverage())
    return Rendering(scene.average(rgb), scene.average(alpha)[..., 0], scene.average(scene.depth())[..., 0])


def render_silhouette(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    *,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = "edge_sweep",
    eps: float = 1e-3,
    backend: Backend | None = None,
) -> Float[Array, "height width"]:
    """Renders the part of each pixel that the mesh covers, without shading it.

    Gradients: reach vertices and camera by `gradient`; with None there are none.

    Args:
        vertices: As for `render`.
        faces: As for `render`.
        camera: As for `render`.
        image_size: As for `render`.
        antialias: As for `render`.
        cull: As for `render`.
        gradient: As for `render`.
        eps: As for `render`.
        backend: As for `render`.

    Returns:
        `render(...).alpha`.

    Raises:
        ValueError: As for `render`.
        TypeError: As for `render`.
    """
    scene = _Scene(vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend)
    (alpha,) = scene.with_gradient(scene.coverage())
    return scene.average(alpha)[..., 0]


def render_depth(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    *,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    antialias: int = 1,
    cull: Cull | None = None,
    backend: Backend | None = None,
) -> Float[Array, "height width"]:
    """Renders the distance along the view axis, the camera's `far` on background.

    Gradients: reach vertices and camera at the points that are seen, in forward and reverse mode. Moving a
    silhouette has no gradient here.

    Args:
        vertices: As for `render`.
        faces: As for `render`.
        camera: As for `render`.
        image_size: As for `render`.
        antialias: As for `render`.
        cull: As for `render`.
        backend: As for `render`.

    Returns:
        `render(...).depth`.

    Raises:
        ValueError: As for `render`.
        TypeError: As for `render`.
    """
    scene = _Scene(vertices, faces, camera, image_size, antialias, cull, None, 0.0, backend)
    return scene.average(scene.depth())[..., 0]


def as_gradient(gradient: GradientName | Gradient | None, eps: float, backend: Backend | None) -> Gradient | None:
    """The function that a gradient's name stands for."""
    if gradient is None or callable(gradient):
        return gradient
    _checks.check_choice(gradient, "gradient", (None, "edge_sweep", "opendr"), others="a function")
    return EdgeSweep(eps, backend=backend) if gradient == "edge_sweep" else OpenDR()


class _Scene:
    """What the three functions share: checked arguments, fragments at the samples, and the way back to pixels."""

    def __init__(self, vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend):
        self.vertices = _checks.as_compute(vertices, "vertices")
        _checks.check_shape(self.vertices, "vertices", "vertices", 3)
        self.faces = _checks.as_faces(faces, self.vertices.shape[0])
        self.image_size = _checks.as_image_size(image_size)
        self.antialias = antialias = _checks.as_count(antialias, "antialias")
        if camera is not None and not hasattr(camera, "clip_from_world"):
            raise TypeError(f"camera must be a jnr.Camera or None, got {type(camera).__name__}.")
        self.camera = Camera() if camera is None else camera
        self.gradient, self.backend = as_gradient(gradient, eps, backend), backend
        height, width = self.image_size
        self.clip_from_world = self.camera.clip_from_world(width / height)
        self.clip_positions = transform(self.clip_from_world, self.vertices)
        samples = height * antialias, width * antialias
        self.fragments: Fragments = rasterize(self.clip_positions, self.faces, samples, cull=cull, backend=backend)

    def coverage(self):
        """1 where a sample sees a face, 0 elsewhere, as an image of one channel."""
        return (self.fragments.face_index >= 0)[..., None].astype(self.clip_positions.dtype)

    def depth(self):
        """Distance along the view axis, as an image of one channel."""
        depth = self.camera.depth(self.vertices)[:, None]
        return interpolate(depth, self.faces, self.fragments, background=self.camera.projection.far)

    def background(self, background, color):
        """The background at every sample."""
        background = _checks.as_background(background, color.shape[-1], color.dtype, image_size=self.image_size)
        if background.ndim == 3:
            return background.repeat(self.antialias, axis=0).repeat(self.antialias, axis=1)
        return background

    def with_gradient(self, *images) -> tuple:
        """The images with the gradient of visibility."""
        if self.gradient is None:
            return images
        return images_with_gradient(images, self.clip_positions, self.faces, self.fragments, self.gradient)

    def average(self, image):
        """Mean over each pixel's samples."""
        if self.antialias == 1:
            return image
        (height, width), n = self.image_size, self.antialias
        return jnp.mean(image.reshape(height, n, width, n, -1), axis=(1, 3))
