"""Normals, areas, volume, division and sampling of meshes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.gather import gather
from jnr._ops.indexing import drop_negative, gather_in_bounds, gather_or_fill
from jnr._ops.pixel_space import power_of_two_scale


def check_vertices(vertices: ArrayLike) -> jax.Array:
    """Positions `(vertices, 3)` as an array of floats."""
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    return vertices


def face_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "faces 3"]:
    """Unit normals of faces, towards the side from which they are counter-clockwise; zero for degenerate faces.

    Gradients: reach `vertices`; zero at degenerate faces.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    return flat_normals(vertices, faces, backend="xla")


@inline_jit("backend")
def flat_normals(vertices, faces, *, backend) -> jax.Array:
    """`face_normals` for arguments that have been checked, with a backend for the gather."""
    return unit(_cross_products(vertices, faces, backend=backend))


def vertex_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "vertices 3"]:
    """Unit normals of a smooth surface through the vertices: the mean of the faces' around each, by their areas.

    Zero for vertices without a face that has an area. Vertices at the same place that are not one vertex have normals
    of their own, so a seam stays an edge.

    Gradients: reach `vertices`.

    References:
        Gouraud, Continuous shading of curved surfaces, 1971.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    return smooth_normals(vertices, faces)


def face_areas(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, " faces"]:
    """Areas of faces; zero for padding.

    Gradients: reach `vertices`; zero at faces without an area.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    products = _cross_products(vertices, faces, rescaled=False)
    squared = jnp.sum(products * products, axis=-1)
    some = squared > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1)) / 2, 0)


def volume(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, ""]:
    """Volume that a closed mesh encloses; negative where faces are clockwise seen from outside.

    Where parts overlap, what lies in both counts twice. An open mesh has no volume; what comes out for it is that of
    the cones from its middle to its faces.

    Gradients: reach `vertices`.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((), vertices.dtype)
    # From the middle of the faces: far from the origin the cones would be large and nearly cancel.
    corners = corner_values(vertices, faces)
    count = jnp.maximum(jnp.sum((faces >= 0).astype(vertices.dtype)), 1)
    middle = lax.stop_gradient(jnp.sum(corners, axis=(0, 1)) / count)
    # Padding's corners stay at zero.
    first, second, third = jnp.where(faces.T[..., None] >= 0, corners - middle, 0)
    return jnp.sum(first * jnp.cross(second, third)) / 6


class Subdivision(NamedTuple):
    """Faces divided in four, and what the new vertices are midpoints of.

    Attributes:
        faces: Four faces in place of each, in their order: at its three corners, then the one in the middle.
        edges: The two ends of each edge, whose midpoint is a new vertex; the new vertices come after the old.
        parents: The face that each came from.
    """

    faces: Int[Array, "4*faces 3"]
    edges: Int[Array, "edges 2"]
    parents: Int[Array, " 4*faces"]

    def values(self, values: Float[Array, "vertices channels"]) -> Float[Array, "vertices+edges channels"]:
        """Positions or other values of the old vertices, with those of the midpoints behind them; differentiable."""
        values = _checks.as_float(values, "values")
        return jnp.concatenate(
            [values, (gather_in_bounds(values, self.edges[:, 0]) + gather_in_bounds(values, self.edges[:, 1])) / 2]
        )


def subdivision(faces: Int[Array, "faces 3"], num_vertices: int) -> Subdivision:
    """Divides every face in four at the midpoints of its sides. Runs outside `jit`.

    Neighbours share the midpoint between them, so a closed mesh stays closed. The surface stays the same.

    Args:
        faces: Concrete vertex indices; padding faces (-1) become four padding faces.
        num_vertices: Of the mesh, the index of the first new vertex.

    Raises:
        TypeError: If `faces` is traced.

    Example:
        >>> cube = jnr.shapes.cube()
        >>> finer = jnr.subdivision(cube.faces, 8)
        >>> vertices = finer.values(cube.vertices)
    """
    if not _checks.is_concrete(faces):
        raise TypeError("faces must be concrete to be divided: call subdivision outside jit and use its result inside.")
    corners = np.asarray(_checks.as_faces(faces, num_vertices))
    sides = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1), axis=-1)  # (faces, 3, 2)
    sound = np.all(corners >= 0, axis=1)
    edges, number = np.unique(sides[sound].reshape(-1, 2), axis=0, return_inverse=True)
    middles = np.full(corners.shape, -1, np.int64)
    middles[sound] = number.reshape(-1, 3) + num_vertices
    (a, b, c), (ab, bc, ca) = corners.T, middles.T
    children = np.stack([(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]).transpose(2, 0, 1)
    children[~sound] = -1
    return Subdivision(
        jnp.asarray(children.reshape(-1, 3), jnp.int32),
        jnp.asarray(edges.reshape(-1, 2), jnp.int32),
        jnp.asarray(np.arange(len(corners)).repeat(4), jnp.int32),
    )


def unique_edges(faces: Int[Array, "faces 3"]) -> tuple[Int[Array, "edges 2"], Int[Array, "pairs 2"]]:
    """Returns the edges of a mesh and the pairs of faces that share an edge.

    Runs on the host with NumPy: `faces` must be concrete, so call it outside `jit` and pass the results in. Nothing is
    differentiable; the results depend on the topology alone.

    Args:
        faces: Vertex indices of each face. Padding faces (-1) are skipped.

    Returns:
        Edges: the two vertex indices of each edge, lower index first, every edge once in lexicographic order.
        Pairs: the indices of the two faces of each edge that exactly two faces share.

    Raises:
        TypeError: If `faces` is traced or is not an array of integers.
        ValueError: If `faces` does not have shape (faces, 3) or an index is less than -1.

    Example:
        >>> edges, pairs = jnr.unique_edges(jnr.shapes.cube().faces)
        >>> edges.shape, pairs.shape
        ((18, 2), (18, 2))
    """
    if not _checks.is_concrete(faces):
        raise TypeError(
            "faces must be concrete to find their edges, got a traced array. Call unique_edges outside jit and pass "
            "the result."
        )
    array = np.asarray(_checks.as_faces(faces, 2**31 - 1))
    face_index = np.flatnonzero(np.all(array >= 0, axis=1))
    kept = array[face_index]
    ends = np.sort(np.concatenate([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]), axis=1)
    edges, inverse, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    # Sorted by edge, the occurrences of edge e are order[first[e] : first[e] + count[e]].
    order = np.argsort(inverse.ravel(), kind="stable")
    first = np.cumsum(count) - count
    shared = first[count == 2]
    owner = np.tile(face_index, 3)
    pairs = np.stack([owner[order[shared]], owner[order[shared + 1]]], axis=1) if len(kept) else np.zeros((0, 2))
    return jnp.asarray(edges.reshape(-1, 2), jnp.int32), jnp.asarray(pairs, jnp.int32)


class SurfaceSamples(NamedTuple):
    """Points on a mesh.

    Attributes:
        points: Positions.
        face: The face that each lies on, -1 where the mesh has no area.
        barycentric: The weights of the face's corners.
    """

    points: Float[Array, "samples 3"]
    face: Int[Array, " samples"]
    barycentric: Float[Array, "samples 3"]


def sample_surface(
    key: jax.Array, vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], count: int
) -> SurfaceSamples:
    """Points spread at random over a mesh, evenly by area.

    Gradients: reach `vertices` from the points, each held to its place on its face.

    Args:
        key: Of `jax.random`.
        vertices: Positions.
        faces: Vertex indices of each face. Padding and faces without an area get no point.
        count: How many points.

    Returns:
        The points; zeros, with face -1, if the mesh has no area.

    Example:
        >>> ball, cube = jnr.shapes.icosphere(2), jnr.shapes.cube()
        >>> keys = jax.random.split(jax.random.key(0))
        >>> points, others = (jnr.sample_surface(k, *m[:2], 1000).points for k, m in zip(keys, (ball, cube)))
        >>> loss = jnr.losses.chamfer(points, others)

    References:
        Osada, Funkhouser, Chazelle and Dobkin, Shape distributions, 2002, section 3.2.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    count = _checks.as_count(count, "count")
    areas = lax.stop_gradient(face_areas(vertices, faces))
    faces = _checks.as_faces(faces, vertices.shape[0])
    dtype = vertices.dtype
    if areas.shape[0] == 0:
        nothing = jnp.zeros((count, 3), dtype)
        return SurfaceSamples(nothing, jnp.full(count, -1, jnp.int32), nothing)
    which, inward, across = jax.random.split(key, 3)
    # Sums in parallel may differ in their last digit, also across a face of no area; those give way to a neighbour.
    total = lax.cummax(jnp.cumsum(areas))
    index = jnp.arange(areas.shape[0], dtype=jnp.int32)
    nearest = lax.cummax(jnp.where(areas > 0, index, -1))
    nearest = jnp.where(nearest < 0, jnp.argmax(areas > 0).astype(jnp.int32), nearest)
    chosen = jnp.searchsorted(total, jax.random.uniform(which, (count,), dtype) * total[-1], side="right")
    face = gather_in_bounds(nearest, jnp.clip(chosen, 0, areas.shape[0] - 1))
    face = jnp.where(total[-1] > 0, face, -1)
    # The root makes the weights even over the triangle.
    root, along = jnp.sqrt(jax.random.uniform(inward, (count,), dtype)), jax.random.uniform(across, (count,), dtype)
    barycentric = jnp.stack([1 - root, root * (1 - along), root * along], axis=-1)
    barycentric = jnp.where(face[:, None] >= 0, barycentric, 0)
    rows = gather_or_fill(faces, face)
    first, second, third = (barycentric[:, k, None] * gather_or_fill(vertices, rows[:, k]) for k in range(3))
    points = first + second + third
    return SurfaceSamples(points, face, barycentric)


@inline_jit()
def smooth_normals(vertices, faces) -> jax.Array:
    """`vertex_normals` for arguments that have been checked."""
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros_like(vertices)
    # One scale for the whole mesh, so that areas compare.
    sound = jnp.where(jnp.all(jnp.isfinite(vertices), axis=-1, keepdims=True), vertices, 0)
    scale = lax.stop_gradient(power_of_two_scale(jnp.max(jnp.abs(sound - sound[:1]))))
    products = _cross_products(vertices * scale, faces, rescaled=False)
    total = jnp.zeros_like(vertices)
    for k in range(3):
        total = total.at[drop_negative(faces[:, k], vertices.shape[0])].add(products, mode="drop")
    return unit(_near_one(total))


@inline_jit("rescaled", "backend")
def _cross_products(vertices, faces, *, rescaled=True, backend: Backend | None = "xla"):
    """A vector along each face's normal, twice its area long unless rescaled; zero for faces that have none."""
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((faces.shape[0], 3), vertices.dtype)
    corner = corner_values(vertices, faces, backend=backend)
    # Masked before the product: its derivative would be NaN times zero.
    sound = jnp.all(faces >= 0, axis=-1) & jnp.all(jnp.isfinite(corner), axis=(0, 2))
    corner = jnp.where(sound[:, None], corner, 0)
    # Around corner 1 as in Neural Renderer: where a face lies along the light, the last bit decides.
    forward, back = corner[2] - corner[1], corner[0] - corner[1]
    if rescaled:
        forward, back = _near_one(forward), _near_one(back)
    product = jnp.cross(forward, back)
    return jnp.where(is_noise(product, forward, back)[..., None], 0, product)


def is_noise(product, forward, back):
    """Whether a cross product is no more than the rounding of its terms, as it is for vectors along one line.

    Compilers contract products and sums where they like, so that not even that of a vector with itself is zero.
    """
    largest, *sides = (
        jnp.maximum(jnp.maximum(abs(v[..., 0]), abs(v[..., 1])), abs(v[..., 2])) for v in (product, forward, back)
    )
    return largest < 2 * jnp.finfo(product.dtype).eps * sides[0] * sides[1]


@inline_jit()
def unit(normal: jax.Array) -> jax.Array:
    """Vectors along the last axis brought to length 1, zero where they have no direction."""
    # Not jnp.sum, whose order of terms depends on the shape of the array.
    x, y, z = (normal[..., i : i + 1] for i in range(3))
    squared = x * x + y * y + z * z
    sound = (squared > 0) & jnp.isfinite(squared)
    # Not rsqrt, whose last bit depends on the size of the array.
    return jnp.where(sound, normal, 0) / jnp.sqrt(jnp.where(sound, squared, 1))


@inline_jit()
def _near_one(vectors):
    """The same directions, scaled so that products of their coordinates neither overflow nor vanish."""
    scale = power_of_two_scale(*(vectors[..., i] for i in range(3)))
    return vectors * lax.stop_gradient(scale)[..., None]


@inline_jit("backend")
def corner_values(values, faces, *, backend: Backend | None = "xla") -> jax.Array:
    """Rows of per-vertex values at each corner of the faces, `(3, faces, channels)`.

    Zeros for padding, which gives back no cotangent.

    Plain JAX where there is no say in it, so that what it is part of can be exported.
    """
    return gather(values, faces.T, backend=backend)
