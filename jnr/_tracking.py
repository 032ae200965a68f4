"""Points of a surface in pictures: where they move from one to the next, and which vertices a camera sees."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jnr._backend import Backend
from jnr._camera import Camera, check_camera, view_of
from jnr._geometry import check_vertices
from jnr._inline_jit import inline_jit
from jnr._mesh import Mesh
from jnr._ops.gather import gather
from jnr._ops.normals import face_normals, face_sides
from jnr._ops.rasterize import Cull
from jnr._render import Samples


class Flow(NamedTuple):
    """Optical flow: how far the points that a picture sees move in the image, from `render_flow`.

    Attributes:
        displacement: Pixels to the right and pixels down, in this order; zero on background, and where the point is
            behind the next camera or nearer to it than its near plane.
        in_view: Whether the next picture contains the point: within its image and between its near and its far plane.
            The point may be hidden there by another surface.
    """

    displacement: Float[Array, "height width 2"]
    in_view: Bool[Array, "height width"]


def render_flow(
    vertices: Float[ArrayLike, "vertices 3"] | Mesh,
    faces: Int[ArrayLike, "faces 3"] | None = None,
    next_vertices: Float[ArrayLike, "vertices 3"] | Mesh | None = None,
    *,
    camera: Camera | None = None,
    next_camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    cull: Cull | None = None,
    backend: Backend | None = None,
) -> Flow:
    """Renders the optical flow from this picture to the next, in which mesh, camera or both have moved.

    Each pixel follows the point of the surface that its centre sees. A point that leaves the image, or that another
    surface hides in the next picture, has its displacement all the same. Opacity and masks of textures do not change
    the flow.

    Gradients: `displacement` has the ordinary derivative at the points that are seen, to the vertices and cameras of
    both pictures, in forward and reverse mode; no visibility gradient. `in_view` is a constant.

    Args:
        vertices: As for `render`.
        faces: As for `render`.
        next_vertices: The same vertices in the next picture, or a `Mesh` that has them; None if they do not move.
        camera: As for `render`.
        next_camera: The camera of the next picture; None if it does not move.
        image_size: As for `render`, of both pictures.
        cull: As for `render`.
        backend: As for `render`.

    Returns:
        The displacements, and which of the points lie within the next picture.

    Raises:
        ValueError: As for `render`.
        TypeError: As for `render`.

    Example:
        >>> mesh = jnr.shapes.icosphere(2)
        >>> flow = jnr.render_flow(mesh, next_vertices=mesh.vertices + jnp.array([0.1, 0, 0]), image_size=64)
        >>> right, down = jnp.moveaxis(flow.displacement, -1, 0)
    """
    samples = Samples(vertices, faces, camera, image_size, 1, cull, None, None, backend)
    height, width = samples.image_size
    moved = samples.vertices
    if next_vertices is not None:
        given = next_vertices.vertices if isinstance(next_vertices, Mesh) else next_vertices
        moved = check_vertices(given, "next_vertices", len(moved))
    view = samples.view
    if next_camera is not None:
        view = view_of(check_camera(next_camera, "next_camera"), width / height, moved)
    clip, next_clip = samples.clip_positions, view.clip_positions(moved)
    dtype = jnp.result_type(clip, next_clip)
    # The point's place in this picture is its pixel, a constant. It is interpolated too, so that the rounding errors of
    # the barycentrics cancel where a large face moves little.
    here = samples.interpolate(lax.stop_gradient(clip).astype(dtype), lax.stop_gradient(samples.fragments))
    there = samples.interpolate(_finite_or_behind(next_clip.astype(dtype)), samples.fragments)
    return Flow(*_displacement(here, there, samples.covered[..., 0]))


@inline_jit()
def _finite_or_behind(clip_positions):
    """Vertices that are not finite, placed so that no camera sees a point of a face that has one as its corner."""
    finite = jnp.all(jnp.isfinite(clip_positions), axis=-1, keepdims=True)
    return jnp.where(finite, clip_positions, jnp.array([0, 0, 0, -1e30], clip_positions.dtype))


@inline_jit()
def _displacement(here, there, covered):
    """Displacements in pixels and whether the points are in view, from the points in both clip spaces."""
    height, width = covered.shape
    x, y, z, w = (there[..., k] for k in range(4))
    in_front = covered & (w > 0) & (z >= -w)
    in_view = in_front & (jnp.abs(x) <= w) & (jnp.abs(y) <= w) & (z <= w)
    # 1 in place of a w that nothing is divided by.
    w, start = jnp.where(in_front, w, 1), jnp.where(covered, here[..., 3], 1)
    right = (x / w - here[..., 0] / start) * (width / 2)
    down = (here[..., 1] / start - y / w) * (height / 2)
    return jnp.where(in_front[..., None], jnp.stack([right, down], axis=-1), 0), in_view


# In pixels: so far may a vertex's pixel centre, whose face is compared, lie from it, per axis.
RESOLUTION = 0.5


def visible_vertices(
    vertices: Float[ArrayLike, "vertices 3"] | Mesh,
    faces: Int[ArrayLike, "faces 3"] | None = None,
    *,
    camera: Camera | None = None,
    image_size: int | tuple[int, int] = 256,
    cull: Cull | None = None,
    backend: Backend | None = None,
) -> Bool[Array, " vertices"]:
    """Finds the vertices that a camera sees.

    A vertex is visible if it lies in the image, between the near and the far plane, and not behind the face that the
    centre of its pixel sees. It is behind a face if it lies more than half a pixel beyond that face's plane. Within
    half a pixel two surfaces cannot be told apart, because the centre is up to that far from the vertex. So
    `image_size` is the resolution of the answer. A vertex without faces is a point that may be hidden. Opacity and
    masks of textures do not change what hides a vertex.

    Gradients: none, the result is boolean.

    Args:
        vertices: As for `render`.
        faces: As for `render`.
        camera: As for `render`.
        image_size: As for `render`.
        cull: As for `render`; faces that are left out hide nothing.
        backend: As for `render`.

    Returns:
        Whether each vertex is visible.

    Raises:
        ValueError: As for `render`.
        TypeError: As for `render`.

    Example:
        >>> cube = jnr.shapes.cube()
        >>> camera = jnr.Camera(jnr.LookAt((2.0, 2.5, 3.0)))
        >>> int(jnr.visible_vertices(cube, camera=camera).sum())
        7
    """
    samples = Samples(vertices, faces, camera, image_size, 1, cull, None, None, backend)
    positions, clip, faces = lax.stop_gradient((samples.vertices, samples.clip_positions, samples.faces))
    clip_from_world = lax.stop_gradient(samples.view.clip_from_world)
    face_index = samples.fragments.face_index
    seen, in_view = _face_at(clip, face_index)
    if 0 in (positions.shape[0], faces.shape[0]):
        return in_view
    side = face_sides(clip, faces, seen, clip_from_world, backend=backend)[:, None]
    normal = face_normals(positions, faces, seen, backend=backend) * side
    pixel = _pixel_size(clip_from_world, clip[:, 3], *face_index.shape)
    return _in_sight(positions, faces, seen, normal, pixel) & in_view


@inline_jit()
def _face_at(clip_positions, face_index):
    """The face at the centre of each vertex's pixel, -1 where there is none, and whether the vertex is in view."""
    height, width = face_index.shape
    x, y, z, w = (clip_positions[:, k] for k in range(4))
    in_view = (w > 0) & (jnp.abs(x) <= w) & (jnp.abs(y) <= w) & (jnp.abs(z) <= w)
    w = jnp.where(in_view, w, 1)
    places = (x / w + 1) * (width / 2), (1 - y / w) * (height / 2)
    # A point on the image's right or lower border belongs to the last pixel.
    column, row = (
        jnp.clip(jnp.where(in_view, place, 0).astype(jnp.int32), 0, size - 1)
        for place, size in zip(places, (width, height), strict=True)
    )
    seen = gather(face_index.reshape(-1, 1), row * width + column)[:, 0]
    return jnp.where(in_view, seen, -1), in_view


@inline_jit("height", "width")
def _pixel_size(clip_from_world, w, height, width):
    """The larger side of a pixel at each vertex, in world units."""
    # NDC is a row's product with the point, over w.
    x, y = (jnp.linalg.norm(clip_from_world[k, :3]) for k in range(2))
    return jnp.abs(w) * jnp.maximum(2 / (width * x), 2 / (height * y)).astype(w.dtype)


@inline_jit()
def _in_sight(vertices, faces, seen, normal, pixel):
    """Whether each vertex is not behind the face that is seen in its place."""
    corner = gather(faces[:, :1], seen)[:, 0]
    beyond = jnp.sum(normal * (gather(vertices, corner) - vertices), axis=-1)
    return (seen < 0) | (beyond <= RESOLUTION * pixel)
