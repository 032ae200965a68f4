"""Renderings of meshes: camera, rasterizer, shading, visibility gradient and averaging of samples put together."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Real

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._camera import Camera, check_camera, view_of
from jnr._geometry import check_vertices
from jnr._inline_jit import inline_jit
from jnr._lights import Light, check_lights, depends_on_position, diffuse
from jnr._mesh import Mesh
from jnr._ops.barycentrics.definition import weight_slopes
from jnr._ops.boundary import Boundary, attach_boundary
from jnr._ops.edge_sweep import EdgeSweep
from jnr._ops.gather import gather, weighted_gather
from jnr._ops.interpolate import as_attributes, check_attributes, interpolate_unchecked
from jnr._ops.lighting import lit_colors, surface_rows
from jnr._ops.normals import every_face, face_normals, face_sides, unit_vectors, vertex_normals
from jnr._ops.normals.definition import with_size, with_unit_size, without_size
from jnr._ops.opendr import OpenDR
from jnr._ops.rasterize import Cull, Fragments, rasterize_unchecked
from jnr._ops.visibility import Gradient, attach_gradient
from jnr._shading import Lambert, Phong, Shader, Surface, is_built_in, lambert, light_rows, match_channels
from jnr._textures import (
    CheckedUV,
    Textures,
    check_textures,
    has_opacity,
    is_vertex_colors,
    sample_textures,
    split_opacity,
)

GradientName = Literal["edge_sweep", "opendr", "boundary"]


class Rendering(NamedTuple):
    """A rendering of a mesh.

    With antialiasing `rgb`, `alpha`, `depth`, `normals` and `attributes` are means over the pixel's samples, background
    included. So a normal at a silhouette is shorter than 1, and a depth there lies between the mesh's and the camera's
    `far`. To exclude the background, divide by alpha: `(depth - far * (1 - alpha)) / alpha`. This formula needs an
    opaque texture, since opacity multiplies alpha and not depth.

    `face_index`, `instance`, `position` and `uv` belong to one point per pixel: what the sample nearest the pixel's
    centre sees. With n x n samples that is the one in row n // 2 and column n // 2; if n is even, four are equally
    near, and this is the lower right one. Opacity does not change these fields; where a mask leaves the surface out,
    they are those of background.

    Attributes:
        rgb: Colour over the background.
        alpha: Coverage: the part of the pixel that the mesh covers, 0 or 1 without antialiasing; times the opacity of
            a texture with `UVTexture.alpha`.
        depth: Distance along the view axis, in world units; the camera's `far` on background.
        normals: Unit normals in world space, on the visible side of the face; zero on background.
        attributes: `render`'s attributes, interpolated, without channels if none were given; zero on background.
        face_index: The face that is seen, int32; -1 on background.
        instance: `render`'s `instance` of that face, int32, 0 for every face if none was given; -1 on background.
        position: The point that is seen, in world space; zero on background.
        uv: Its texture coordinates, without channels if the texture is no `UVTexture`; zero on background.
    """

    rgb: Float[Array, "height width channels"]
    alpha: Float[Array, "height width"]
    depth: Float[Array, "height width"]
    normals: Float[Array, "height width 3"]
    attributes: Float[Array, "height width attributes"]
    face_index: Int[Array, "height width"]
    instance: Int[Array, "height width"]
    position: Float[Array, "height width 3"]
    uv: Float[Array, "height width uv"]

    @property
    def rgba(self) -> Float[Array, "height width channels+1"]:
        """`rgb` and `alpha` as one image; with `background=None` it is what a PNG file stores."""
        return jnp.concatenate([self.rgb, self.alpha[..., None].astype(self.rgb.dtype)], axis=-1)


def render(
    vertices: Float[ArrayLike, "vertices 3"] | Mesh,
    faces: Int[ArrayLike, "faces 3"] | None = None,
    textures: Textures | None = None,
    *,
    camera: Camera | None = None,
    lights: Sequence[Light] | None = None,
    shader: Shader | None = None,
    normals: Literal["flat", "smooth"] | Float[ArrayLike, "vertices 3"] | Float[ArrayLike, "faces 3 3"] = "flat",
    attributes: Real[ArrayLike, "vertices attributes"] | Real[ArrayLike, "faces 3 attributes"] | None = None,
    instance: Int[ArrayLike, " faces"] | None = None,
    image_size: int | tuple[int, int] = 256,
    background: ArrayLike | Sequence[float] | None = 0.0,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = "edge_sweep",
    interior: bool = False,
    eps: float | None = None,
    backend: Backend | None = None,
) -> Rendering:
    """Renders a mesh.

    Composes with `jit`, `grad` and `vmap`, which is the batch. Under `jit` outputs that are not used cost nothing.

    Gradients: `rgb` has the ordinary derivatives with respect to textures, lights, normals, attributes and background,
    and with respect to vertices through the angles of the light. `gradient` determines how the movement of the mesh in
    the image reaches vertices and camera, from `rgb`, `alpha`, `normals` and `attributes` together:

    - `"edge_sweep"`: Neural Renderer's gradient, reverse mode only. It replaces the derivative of colours through the
      barycentrics; `interior=True` adds that derivative.
    - `"opendr"`: OpenDR's gradient in its place, reverse mode only.
    - `"boundary"`: the derivative of the picture whose pixels are means over their areas, for these images and `depth`,
      the derivative inside of faces included; in forward and reverse mode.
    - a function: a gradient of your own, see `jnr.gradients`.
    - None: the derivative through the barycentrics alone, in forward and reverse mode. It is exact where no silhouette
      edge is near, and does not see edges.

    `depth`, `position` and `uv` have the ordinary derivative at the points that are seen, and no visibility gradient
    (`depth` has one with `"boundary"`). To give one to depth or positions, pass them as `attributes`. `face_index` and
    `instance` are constants.

    Args:
        vertices: Positions in world space, in any unit; or a `Mesh`, instead of `vertices` and `faces`.
        faces: Vertex indices of each face, counter-clockwise seen from outside.
        textures: Vertex colours (vertices, channels), texture cubes (faces, t, t, t, channels), a `UVTexture`, or None
            for white (for a `Mesh`, its own textures).
        camera: The camera; None stands at (0, 0, 2.732) and looks at the origin with a field of view of 60 degrees.
        lights: Their sum multiplies the texture, on the visible side of each face. None is a soft light from the upper
            right of the default camera; an empty sequence shows the texture unlit.
        shader: Computes colours from the visible surface: `Phong`, or a function of a `Surface`. None is `Lambert`, or
            the unlit texture if `lights` is empty.
        normals: `"flat"`, `"smooth"` (`vertex_normals`), or normals per vertex or per corner, of any length, on the
            side from which faces are counter-clockwise.
        attributes: Values to interpolate, for the shader and as an output.
        instance: Which instance each face belongs to, as `Scene.place` returns it, for the output `instance`.
        image_size: Height and width, or one int for both.
        background: Colour where there is no mesh: a number, one value per channel, or an image. None excludes the
            background: `rgb` is then the mean colour of the mesh within the pixel, and zero where there is none.
        antialias: Supersampling factor per axis: n x n samples per pixel, averaged.
        cull: `"back"` omits faces that are clockwise in the image, `"front"` the others.
        gradient: `"edge_sweep"`, `"opendr"`, `"boundary"`, a function, or None, see above.
        interior: Whether the derivative of colours through the barycentrics is added to the edge sweep or to a
            function; the other gradients contain it.
        eps: Option of `gradient="edge_sweep"`, see `edge_sweep`; None is its default.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform. A gradient object with a backend of its
            own keeps it.

    Returns:
        The rendering, row 0 at the top.

    Raises:
        ValueError: If a shape, size, index, number or name is not allowed.
        TypeError: If an argument is missing or not an array of the right kind of numbers.

    Example:
        >>> mesh = jnr.shapes.icosphere(2)
        >>> image = jnr.render(mesh.vertices, mesh.faces).rgb
        >>> image.shape
        (256, 256, 3)

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018.
    """
    samples = _Samples(vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend)
    vertices, faces, textures = samples.vertices, samples.faces, _textures_of(vertices, textures)
    lights, shader = check_lights(lights), _check_shader(shader)
    _checks.check_flag(interior, "interior")
    checked_textures = check_textures(textures, faces, vertices.shape[0])
    normals = _check_normals(normals, vertices.shape[0], faces.shape[0])
    instance = None if instance is None else _check_instance(instance, faces.shape[0], 2**31)
    if samples.gradient is None or isinstance(samples.gradient, Boundary):
        interior = True
    elif isinstance(samples.gradient, OpenDR):
        interior = False  # OpenDR's gradient contains it.
    is_diffuse = shader is None and not any(map(depends_on_position, lights))

    def draw(seen):
        # Colours keep their place in the image unless the derivative inside of faces is wanted.
        fragments, clip_positions = seen, samples.clip_positions
        if not interior:
            fragments = seen._replace(barycentric=lax.stop_gradient(seen.barycentric))
            clip_positions = lax.stop_gradient(clip_positions)
        covered = samples.covered
        albedo = sample_textures(checked_textures, faces, fragments, clip_positions, backend=backend)
        albedo, opacity, kept = split_opacity(checked_textures, albedo, fragments)
        values = samples.interpolate(_check_attributes(attributes, vertices, faces, albedo.dtype), fragments)
        shading = samples.normals(normals, fragments)
        normal = shading.image
        if shader is None and not lights:
            color = albedo
        elif is_diffuse and shading.of_face is not None:
            color = samples.flat_lit(checked_textures, albedo, shading.of_face, lights, fragments)
        elif is_built_in(shader, lights):
            color = samples.lit(shader, albedo, shading, lights, fragments)
        elif is_diffuse:
            color = lambert(albedo, lights, jnp.zeros_like(normal), normal)
        else:
            color = samples.shaded(Lambert() if shader is None else shader, albedo, normal, values, lights, fragments)
        if kept is not None:
            covered &= kept
            color, normal, values = (jnp.where(kept, image, 0) for image in (color, normal, values))
        alpha = samples.coverage(covered)
        if opacity is not None:
            alpha, color = alpha * opacity.astype(alpha.dtype), color * opacity.astype(color.dtype)
        if background is not None and not _checks.is_zero(background):
            behind = samples.background(background, color)
            if opacity is None:
                color = jnp.where(covered, color, behind)
            else:
                color = color + (1 - alpha).astype(color.dtype) * behind
        return (color, alpha, normal, values), (samples.depth(seen, covered),), kept

    images, kept = samples.attach_gradient(draw)
    rgb, alpha, normal, values, depth = map(samples.average, images)
    if background is None and (samples.antialias > 1 or has_opacity(checked_textures)):
        seen = alpha > 0
        rgb = jnp.where(seen, rgb / jnp.where(seen, alpha, 1).astype(rgb.dtype), 0)
    point = samples.central(kept)
    position = samples.interpolate(vertices.astype(depth.dtype), point)
    uv = samples.uv(checked_textures, point)
    instance = _instance_image(instance, point.face_index)
    return Rendering(rgb, alpha[..., 0], depth[..., 0], normal, values, point.face_index, instance, position, uv)


def render_silhouette(
    vertices: Float[ArrayLike, "vertices 3"] | Mesh,
    faces: Int[ArrayLike, "faces 3"] | None = None,
    *,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = "edge_sweep",
    eps: float | None = None,
    backend: Backend | None = None,
) -> Float[Array, "height width"]:
    """Renders the coverage of each pixel, without shading.

    Gradients: reach vertices and camera through `gradient`; with None there are none.

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
    samples = _Samples(vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend)
    (alpha,), _ = samples.attach_gradient(lambda _: ((samples.coverage(samples.covered),), (), None), varying=False)
    return samples.average(alpha)[..., 0]


def render_depth(
    vertices: Float[ArrayLike, "vertices 3"] | Mesh,
    faces: Int[ArrayLike, "faces 3"] | None = None,
    *,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    antialias: int = 1,
    cull: Cull | None = None,
    gradient: GradientName | Gradient | None = None,
    backend: Backend | None = None,
) -> Float[Array, "height width"]:
    """Renders the distance along the view axis, the camera's `far` on background.

    Gradients: reach vertices and camera at the points that are seen, in forward and reverse mode. A moving silhouette
    has the gradient that `gradient` names; `"boundary"` makes the whole the derivative of the picture.

    Args:
        vertices: As for `render`.
        faces: As for `render`.
        camera: As for `render`.
        image_size: As for `render`.
        antialias: As for `render`.
        cull: As for `render`.
        gradient: As for `render`.
        backend: As for `render`.

    Returns:
        `render(...).depth`.

    Raises:
        ValueError: As for `render`.
        TypeError: As for `render`.
    """
    samples = _Samples(vertices, faces, camera, image_size, antialias, cull, gradient, None, backend)
    (depth,), _ = samples.attach_gradient(lambda seen: ((samples.depth(seen, samples.covered),), (), None))
    return samples.average(depth)[..., 0]


def as_gradient(
    gradient: GradientName | Gradient | None, eps: float | None, backend: Backend | None
) -> Gradient | None:
    """The gradient that a name stands for, with `render`'s options; a function as it is.

    Raises:
        ValueError: If the name is unknown, or if `eps` is given for another gradient than `"edge_sweep"`.
    """
    if eps is not None and not (isinstance(gradient, str) and gradient == "edge_sweep"):
        raise ValueError(
            f'eps must be None unless gradient is "edge_sweep", got eps {eps!r} with gradient {gradient!r}. A gradient '
            "object has its own: jnr.gradients.EdgeSweep(eps=...)."
        )
    if isinstance(gradient, (EdgeSweep, Boundary)) and gradient.backend is None:
        return dataclasses.replace(gradient, backend=backend)
    if gradient is None or callable(gradient):
        return gradient
    _checks.check_choice(gradient, "gradient", (None, *get_args(GradientName)), others="a function")
    if gradient == "opendr":
        return OpenDR()
    if gradient == "boundary":
        return Boundary(backend)
    return EdgeSweep(backend=backend) if eps is None else EdgeSweep(eps, backend=backend)


def _textures_of(mesh, textures):
    """The textures that were given, else those of a mesh that was given in place of vertices."""
    return mesh.textures if textures is None and isinstance(mesh, Mesh) else textures


def _check_shader(shader: Shader | None) -> Shader | None:
    if shader is not None and not callable(shader):
        raise TypeError(f"shader must be a function of a surface or None, got {type(shader).__name__}.")
    return shader


def _check_normals(normals: Any, num_vertices: int, num_faces: int) -> Any:
    if isinstance(normals, str):
        _checks.check_choice(normals, "normals", ("flat", "smooth"), others="an array (vertices, 3) or (faces, 3, 3)")
        return normals
    normals = _checks.as_compute(normals, "normals")
    if normals.shape not in ((num_vertices, 3), (num_faces, 3, 3)):
        raise ValueError(
            f"normals must have shape ({num_vertices}, 3), or ({num_faces}, 3, 3) per corner, got {normals.shape}."
        )
    return normals


def _check_instance(instance: Any, num_faces: int, count: int) -> jax.Array:
    """The instance of each face as int32; -1 is none."""
    return _checks.as_numbers(instance, "instance", num_faces, count, "numbers of instances", lowest=-1)


def _check_attributes(attributes, vertices, faces, dtype):
    if attributes is None:
        return jnp.zeros((vertices.shape[0], 0), dtype)
    attributes = as_attributes(attributes)
    check_attributes(attributes, vertices.shape[0], faces.shape[0])
    return attributes


class _Normals(NamedTuple):
    """Normals of the surface that each sample sees, zero on background.

    Attributes:
        image: Unit normals on the visible side, `(height, width, 3)`.
        side: 1 where `seen_vectors` point to the visible side, -1 elsewhere, `(height, width)`.
        vectors: The normals per vertex or corner, of any length and with their sizes as `unit_vectors` takes them; None
            for a flat surface.
        seen_vectors: `vectors`, interpolated, `(height, width, 4)`; None for a flat surface.
        of_face: Unit normals on the visible side per face, None unless the surface is flat and the faces are few.
    """

    image: jax.Array
    side: jax.Array
    vectors: jax.Array | None = None
    seen_vectors: jax.Array | None = None
    of_face: jax.Array | None = None


class _Samples:
    """A mesh rasterized at the samples of an image: checked arguments, fragments, and the way from samples to pixels.

    An image is `(height, width, channels)`, with the samples' height and width.
    """

    def __init__(self, vertices, faces, camera, image_size, antialias, cull, gradient, eps, backend):
        if isinstance(vertices, Mesh):
            if faces is not None:
                raise TypeError("faces must not be given with a mesh: write render(mesh) or render(vertices, faces).")
            vertices, faces = vertices.vertices, vertices.faces
        elif faces is None:
            raise TypeError("faces must be given: write render(vertices, faces), or render(mesh) for a jnr.Mesh.")
        self.vertices = check_vertices(vertices)
        self.faces = _checks.as_faces(faces, self.vertices.shape[0])
        self.image_size = height, width = _checks.as_image_size(image_size)
        self.antialias = antialias = _checks.as_count(antialias, "antialias")
        _checks.check_choice(cull, "cull", (None, "back", "front"))
        check_backend(backend)
        camera = check_camera(camera)
        self.gradient, self.backend = as_gradient(gradient, eps, backend), backend
        self.view = view_of(camera, width / height, self.vertices)
        self.clip_positions = self.view.clip_positions(self.vertices)
        size = _checks.as_image_size((height * antialias, width * antialias), "image_size times antialias")
        self.fragments: Fragments = rasterize_unchecked(
            self.clip_positions, self.faces, height=size[0], width=size[1], cull=cull, backend=backend
        )
        self.covered = _covered(self.fragments.face_index)
        # Fewer corners than samples: what depends on the face alone is computed per face.
        self.has_few_faces = self.faces.size <= self.covered.size

    def coverage(self, covered):
        """1 where a sample is covered, 0 elsewhere: `(height, width, 1)`."""
        return covered.astype(self.clip_positions.dtype)

    def interpolate(self, attributes, fragments):
        """Attributes of vertices or corners as an image, zero on background."""
        return interpolate_unchecked(attributes, self.faces, fragments, backend=self.backend)

    def of_seen_face(self, values):
        """Values per face `(faces, channels)` as an image, zero on background."""
        return gather(values, self.fragments.face_index, backend=self.backend)

    def normals(self, normals, fragments):
        """The surface's normals, on the visible side of each face."""
        is_flat = isinstance(normals, str) and normals == "flat"
        if 0 in (self.vertices.shape[0], self.faces.shape[0]):
            image = jnp.zeros((*self.covered.shape[:2], 3), self.vertices.dtype)
            return _Normals(image, image[..., 0], of_face=image[0, :0] if is_flat else None)
        mesh = self.clip_positions, self.faces
        index = every_face(self.faces) if self.has_few_faces else fragments.face_index
        side = face_sides(*mesh, index, self.view.clip_from_world, backend=self.backend)[..., None]
        if is_flat:
            values = face_normals(self.vertices, self.faces, index, backend=self.backend) * side
            image = self.of_seen_face(values) if self.has_few_faces else values
            return _Normals(image, jnp.ones_like(image[..., 0]), of_face=values if self.has_few_faces else None)
        if self.has_few_faces:
            side = self.of_seen_face(side)
        if isinstance(normals, str):
            # A mark per vertex takes less than a normal where most vertices are not seen.
            seen = None if self.has_few_faces else fragments.face_index
            vectors = with_unit_size(vertex_normals(self.vertices, self.faces, seen, backend=self.backend))
        else:
            vectors = with_size(normals)
        seen_vectors = self.interpolate(vectors, fragments)
        image = unit_vectors(seen_vectors, backend=self.backend) * side
        return _Normals(image, side[..., 0], vectors, seen_vectors)

    def lit(self, shader, albedo, normals, lights, fragments):
        """What a shader of jnr returns under lights that are the same everywhere: one pass over the image."""
        rows, highlight = light_rows(shader, lights, channels=albedo.shape[-1], like=normals.image)
        surface = self.surface(normals, fragments, with_position=isinstance(shader, Phong))
        operands = surface, _checks.widened(albedo), normals.side, rows, highlight, self.view.viewer()
        dtype = jnp.result_type(*operands)
        color = lit_colors(*(x.astype(dtype) for x in operands), backend=self.backend)
        return color.astype(albedo.dtype)

    def surface(self, normals, fragments, *, with_position):
        """Normals of any length with their sizes and positions at each sample, as the op `lit_colors` takes them."""
        vectors, positions = normals.vectors, self.vertices
        if not with_position:
            return without_size(normals.image) if vectors is None else normals.seen_vectors
        if vectors is None:
            return surface_rows(without_size(normals.image), self.interpolate(positions, fragments))
        if vectors.ndim == 3:
            positions = gather(positions, self.faces, backend=self.backend)
        dtype = jnp.result_type(vectors, positions)
        return self.interpolate(surface_rows(vectors.astype(dtype), positions.astype(dtype)), fragments)

    def flat_lit(self, textures, albedo, face_normal, lights, fragments):
        """The texture times the light, which is the same everywhere on a face: computed once per face."""
        if not face_normal.shape[0]:
            return albedo
        light = match_channels(diffuse(lights, jnp.zeros_like(face_normal), face_normal), albedo)
        if is_vertex_colors(textures) and light.shape[-1] == 1:
            # The corners' colours are lit and interpolated.
            colors = _checks.widened(textures)
            face = jnp.asarray(np.repeat(np.arange(len(light), dtype=np.int32), 3))
            corner_light = gather(light, face, backend=self.backend)
            corners = weighted_gather(colors, corner_light, self.faces.reshape(-1, 1), backend=self.backend)
            return self.interpolate(corners.reshape(-1, 3, corners.shape[-1]), fragments).astype(albedo.dtype)
        return albedo * self.of_seen_face(light)

    def shaded(self, shader, albedo, normal, values, lights, fragments):
        """What a shader returns for the surface that is seen."""
        position = self.interpolate(self.vertices, fragments)
        viewer = self.view.viewer()
        # Every ray has a direction.
        ray = without_size(viewer[None, None, :3] - viewer[3] * position)
        viewer = jnp.where(self.covered, unit_vectors(ray, backend=self.backend), 0)
        color = shader(Surface(albedo, position, normal, viewer, values, fragments, lights))
        color = _checks.as_float(color, "what shader returns")
        _checks.check_shape(color, "what shader returns", *self.covered.shape[:2], "channels")
        return jnp.where(self.covered, color, 0)

    def uv(self, textures, fragments):
        """Texture coordinates as an image, zero on background; without channels unless there is a `UVTexture`."""
        if isinstance(textures, CheckedUV):
            return interpolate_unchecked(textures.uv, textures.uv_faces, fragments, backend=self.backend)
        return _no_channels(*self.image_size, self.clip_positions.dtype)

    def depth(self, fragments, covered):
        """Distance along the view axis, the camera's `far` where nothing is covered: `(height, width, 1)`."""
        depth = self.interpolate(self.view.depth(self.vertices)[:, None], fragments)
        return jnp.where(covered, depth, self.view.far.astype(depth.dtype))

    def background(self, background, color):
        """The background at every sample."""
        background = _checks.as_background(background, color.shape[-1], color.dtype, image_size=self.image_size)
        if background.ndim == 3:
            return background.repeat(self.antialias, axis=0).repeat(self.antialias, axis=1)
        return background

    def attach_gradient(self, draw, *, varying=True) -> tuple[tuple, Any]:
        """The images of `draw(fragments)` with the visibility gradient, and what else it returns.

        `draw` returns images that every gradient moves, others that only the derivative of the picture moves, and
        something that is constant. Without `varying` the images are constant on every face.
        """
        gradient = self.gradient
        if not isinstance(gradient, Boundary):
            images, others, constant = draw(self.fragments)
            if gradient is not None:
                images = attach_gradient(images, self.clip_positions, self.faces, self.fragments, gradient)
            return (*images, *others), constant
        if varying:
            images, slopes, constant = self.with_slopes(draw)
        else:
            images, others, constant = draw(self.fragments)
            images, slopes = (*images, *others), None
        mesh = self.clip_positions, self.faces, self.fragments.face_index
        return attach_boundary(images, slopes, *mesh, gradient), constant

    def with_slopes(self, draw):
        """The images of `draw(fragments)`, how they change within faces per column and row, and the constant."""
        fragments = self.fragments

        def drawn(barycentric, clip_w):
            images, others, constant = draw(fragments._replace(barycentric=barycentric, clip_w=clip_w))
            return (*images, *others), constant

        images, change, constant = jax.linearize(drawn, *fragments[1:], has_aux=True)
        _, barycentric, clip_w = lax.stop_gradient(fragments)
        of_face = weight_slopes(lax.stop_gradient(self.clip_positions), self.faces, *clip_w.shape)
        of_face = self.of_seen_face(of_face)
        slopes = []
        for step in (of_face[..., :3], of_face[..., 3:]):
            total = (step[..., 0] + step[..., 1] + step[..., 2]) * clip_w
            moved = step * clip_w[..., None] - barycentric * total[..., None]
            slopes.append(change(moved, -clip_w * total))
        return images, jax.tree.map(lambda *values: jnp.stack(values), *slopes), constant

    def central(self, kept):
        """The fragments of the sample nearest each pixel's centre, of background where the surface is not kept."""
        if self.antialias == 1 and kept is None:
            return self.fragments
        return _central(self.fragments, kept, n=self.antialias)

    def average(self, image):
        """Means over each pixel's samples."""
        if image.shape[-1] == 0:
            return _no_channels(*self.image_size, image.dtype)
        return image if self.antialias == 1 else _means(image, n=self.antialias)


@inline_jit()
def _covered(face_index):
    """Whether each sample sees a face: `(height, width, 1)`."""
    return (face_index >= 0)[..., None]


def _no_channels(height, width, dtype):
    """An image without channels."""
    # XLA compiles a constant without elements slowly where its other axes are long.
    return jax.device_put(np.zeros((height, width, 0), dtype))


@inline_jit("n")
def _central(fragments, kept, *, n):
    """See `_Samples.central`."""
    if kept is not None:
        fragments = fragments._replace(face_index=jnp.where(kept[..., 0], fragments.face_index, -1))
    return jax.tree.map(lambda image: image[n // 2 :: n, n // 2 :: n], fragments)


@inline_jit()
def _instance_image(instance, face_index):
    """The instance that each pixel sees, -1 on background; without instances all faces are of instance 0."""
    if instance is None:
        return jnp.minimum(face_index, 0)
    return gather(instance[:, None], face_index)[..., 0]


@inline_jit("n")
def _means(image, *, n):
    """Means over squares of n x n samples."""
    height, width, channels = image.shape
    return jnp.mean(image.reshape(height // n, n, width // n, n, channels), axis=(1, 3))
