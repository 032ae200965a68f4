"""Pictures of meshes: camera, rasterizer, shading, visibility gradient and averaging put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jnr import _checks
from jnr._backend import Backend
from jnr._ops.edge_sweep import EdgeSweep
from jnr._ops.interpolate import interpolate
from jnr._ops.opendr import OpenDR
from jnr._ops.rasterize import Cull, Fragments, rasterize
from jnr._ops.rows import blend_rows, take_rows
from jnr._ops.visibility import Gradient, images_with_gradient
from jnr._program import program
from jnr.camera import Camera
from jnr.geometry import flat_normals, unit, vertex_normals
from jnr.lights import Light, check_lights, diffuse
from jnr.shading import Lambert, Shader, Surface, face_sides, fitting
from jnr.textures import Textures, sample_texture, vertex_colors

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int

GradientName = Literal["edge_sweep", "opendr"]


class Rendering(NamedTuple):
    """A picture of a mesh.

    With antialiasing every field is the mean over the pixel's samples, background included, so a unit normal gets
    shorter at an edge, and a silhouette's depth lies between the mesh's and the camera's `far`. Where only what is seen
    shall count, divide by alpha: `(depth - far * (1 - alpha)) / alpha`.

    Attributes:
        rgb: Colour over the background.
        alpha: Part of the pixel that the mesh covers, 0 or 1 without antialiasing.
        depth: Distance along the view axis, in world units; the camera's `far` on background.
        normals: Unit normals in the world, on the side that is seen; zero on background.
        attributes: The attributes that `render` was given, no channels where there were none; zero on background.
    """

    rgb: Float[Array, "height width channels"]
    alpha: Float[Array, "height width"]
    depth: Float[Array, "height width"]
    normals: Float[Array, "height width 3"]
    attributes: Float[Array, "height width attributes"]

    @property
    def rgba(self) -> Float[Array, "height width channels+1"]:
        """`rgb` and `alpha` in one image; with `background=None` what a PNG file holds."""
        return jnp.concatenate([self.rgb, self.alpha[..., None].astype(self.rgb.dtype)], axis=-1)


def render(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    textures: Textures | None = None,
    *,
    camera: Camera | None = None,
    lights: Sequence[Light] | None = None,
    shader: Shader | None = None,
    normals: Literal["flat", "smooth"] | Float[Array, "vertices 3"] = "flat",
    attributes: Float[Array, "vertices attributes"] | Float[Array, "faces 3 attributes"] | None = None,
    image_size: int | tuple[int, int] = 256,
    background: ArrayLike | Sequence[float] | None = 0.0,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = "edge_sweep",
    interior: bool = False,
    eps: float = 1e-3,
    backend: Backend | None = None,
) -> Rendering:
    """Renders a mesh.

    Works under `jit`, `grad` and `vmap` (the batch). Outputs that are not used cost nothing under `jit`.

    Gradients: `rgb` reaches textures, lights, normals, attributes and background, and vertices through the lights'
    angles. How a pixel changes when the mesh moves in the image reaches vertices and camera by `gradient`, from all
    images but `depth` together: `"edge_sweep"` is Neural Renderer's gradient, which replaces the derivative of colours
    through the barycentrics (`interior=True` adds that derivative to it) and has no forward mode; `"opendr"` is
    OpenDR's, in its place; a function is one of your own, see `jnr.gradients`; None is the derivative through the
    barycentrics alone, exact where no edge is near and blind to edges. `depth` reaches vertices and camera at the
    points that are seen, and has no gradient of visibility.

    Args:
        vertices: Positions in the world, any unit.
        faces: Vertex indices of each face, counter-clockwise seen from outside.
        textures: Vertex colours (vertices, channels), texture cubes (faces, t, t, t, channels), a `UVTexture`, or
            None for white.
        camera: Where the picture is taken from; None stands at (0, 0, 2.732) and looks at the origin with a field
            of view of 60 degrees.
        lights: Added up and multiplied with the texture, on the side of a face that is seen; None is a soft light
            from the upper right of the default camera, an empty sequence shows the texture as it is.
        shader: Makes colours of the surface that is seen: `Phong`, or a function of yours from a `Surface`; None is
            `Lambert`, or the texture as it is where `lights` is empty.
        normals: `"flat"`, `"smooth"` (`vertex_normals`), or the vertices' own, on the side from which faces are
            counter-clockwise; of any length.
        attributes: Values to be interpolated, for the shader and as an output.
        image_size: Height and width, or one int for both.
        background: Colour where there is no mesh: a number, one a channel, or an image. None leaves it out: `rgb` is
            then the mean colour of what is seen in a pixel, zero where nothing is.
        antialias: Samples a pixel each way, averaged.
        cull: `"back"` leaves out faces that are clockwise in the image, `"front"` the others.
        gradient: `"edge_sweep"`, `"opendr"`, a function, or None for the derivative without visibility.
        interior: Whether the derivative of colours through the barycentrics is added to `gradient`.
        eps: Of the edge sweep, see `edge_sweep`.
        backend: `"xla"`, `"cpu"`, `"triton"`, `"interpret"`, or None to choose by platform.

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
    fragments, positions = scene.fragments, scene.clip_positions
    if gradient is not None and not interior:
        fragments = fragments._replace(barycentric=lax.stop_gradient(fragments.barycentric))
        positions = lax.stop_gradient(positions)
    lights = check_lights(lights)
    if shader is not None and not callable(shader):
        raise TypeError(f"shader must be a function of a surface or None, got {type(shader).__name__}.")
    albedo = sample_texture(textures, scene.faces, fragments, positions, backend=backend)
    if attributes is None:
        attributes = jnp.zeros((scene.vertices.shape[0], 0), albedo.dtype)
    values = interpolate(attributes, scene.faces, fragments, backend=backend)
    face_normal, normal = scene.normals(normals, fragments)
    if shader is None and face_normal is not None and not any(getattr(light, "local", True) for light in lights):
        # The light of a flat face is one everywhere: as many lights to add up as there are faces.
        color = albedo
        if lights and face_normal.shape[0]:
            light = diffuse(lights, jnp.zeros_like(face_normal), face_normal)
            color = scene.lit(textures, albedo, light, fragments)
    elif shader is None and not lights:
        color = albedo
    else:
        position = interpolate(scene.vertices, scene.faces, fragments, backend=backend)
        viewer = scene.camera.viewer(scene.aspect)
        viewer = jnp.where(scene.covered, unit(viewer[:3] - viewer[3] * position), 0)
        surface = Surface(albedo, position, normal, viewer, values, fragments, lights)
        color = (Lambert() if shader is None else shader)(surface)
        color = _checks.as_float(color, "what shader returns")
        _checks.check_shape(color, "what shader returns", *scene.covered.shape[:2], "channels")
        color = jnp.where(scene.covered, color, 0)
    transparent = background is None
    if not (transparent or _checks.is_zero(background)):
        color = jnp.where(scene.covered, color, scene.background(background, color))
    images = scene.with_gradient(color, scene.coverage(), normal, values)
    rgb, alpha, normal, values = (scene.average(image) for image in images)
    if transparent and scene.antialias > 1:
        seen = alpha > 0
        rgb = jnp.where(seen, rgb / jnp.where(seen, alpha, 1).astype(rgb.dtype), 0)
    return Rendering(rgb, alpha[..., 0], scene.average(scene.depth())[..., 0], normal, values)


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
        if camera is not None and not hasattr(camera, "clip_positions"):
            raise TypeError(f"camera must be a jnr.Camera or None, got {type(camera).__name__}.")
        self.camera = Camera() if camera is None else camera
        self.gradient, self.backend = as_gradient(gradient, eps, backend), backend
        height, width = self.image_size
        self.aspect = width / height
        self.clip_positions = self.camera.clip_positions(self.vertices, self.aspect)
        samples = height * antialias, width * antialias
        self.fragments: Fragments = rasterize(self.clip_positions, self.faces, samples, cull=cull, backend=backend)
        self.covered = (self.fragments.face_index >= 0)[..., None]

    def coverage(self):
        """1 where a sample sees a face, 0 elsewhere, as an image of one channel."""
        return self.covered.astype(self.clip_positions.dtype)

    def of_face(self, values):
        """Values of the faces that are seen, as an image; zero on background."""
        return take_rows(values, self.fragments.face_index, backend=self.backend)

    def lit(self, textures, albedo, light, fragments):
        """The texture times the light of each face, `(faces, 1 or channels)`."""
        light = fitting(light, albedo)
        colors = vertex_colors(textures)
        if colors is not None and light.shape[-1] == 1 and self.faces.size <= self.covered.size:
            # Fewer corners than pixels: they are lit.
            colors = _checks.as_compute(colors, "textures")
            face = jnp.asarray(np.repeat(np.arange(len(light), dtype=np.int32), 3))
            corner_light = take_rows(light, face, backend=self.backend)
            corners = blend_rows(colors, corner_light, self.faces.reshape(-1, 1), backend=self.backend)
            corners = corners.reshape(-1, 3, corners.shape[-1])
            return interpolate(corners, self.faces, fragments, backend=self.backend).astype(albedo.dtype)
        return albedo * self.of_face(light)

    def normals(self, normals, fragments):
        """The faces' normals on the side that is seen, None where they are not flat, and the pixels'."""
        num_vertices, num_faces = self.vertices.shape[0], self.faces.shape[0]
        is_flat = isinstance(normals, str) and normals == "flat"
        if isinstance(normals, str):
            _checks.check_choice(normals, "normals", ("flat", "smooth"), others="an array (vertices, 3)")
        else:
            normals = _checks.as_compute(normals, "normals")
            _checks.check_shape(normals, "normals", num_vertices, 3)
        if 0 in (num_vertices, num_faces):
            empty = jnp.zeros((0, 3), self.vertices.dtype)
            return empty if is_flat else None, jnp.zeros((*self.covered.shape[:2], 3), self.vertices.dtype)
        side = face_sides(
            self.clip_positions, self.faces, self.camera.clip_from_world(self.aspect), backend=self.backend
        )[:, None]
        if is_flat:
            face_normal = flat_normals(self.vertices, self.faces, backend=self.backend) * side
            return face_normal, self.of_face(face_normal)
        if isinstance(normals, str):
            normals = vertex_normals(self.vertices, self.faces)
        return None, unit(interpolate(normals, self.faces, fragments, backend=self.backend)) * self.of_face(side)

    def depth(self):
        """Distance along the view axis, as an image of one channel."""
        depth = self.camera.depth(self.vertices)[:, None]
        far = self.camera.projection.far
        return interpolate(depth, self.faces, self.fragments, background=far, backend=self.backend)

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
        return image if self.antialias == 1 else _means(image, n=self.antialias)


@program("n")
def _means(image, *, n):
    """Means over squares of n x n samples."""
    height, width, channels = image.shape
    return jnp.mean(image.reshape(height // n, n, width // n, n, channels), axis=(1, 3))
