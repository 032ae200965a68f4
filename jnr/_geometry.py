"""Normals, areas, volume, subdivision and sampling of meshes."""

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
from jnr._ops import normals
from jnr._ops.gather import gather
from jnr._ops.indexing import gather_in_bounds, gather_or_fill
from jnr._ops.normals import definition


def check_vertices(vertices: ArrayLike, name: str = "vertices", count: int | str = "vertices") -> jax.Array:
    """Positions `(vertices, 3)` as an array of floats."""
    vertices = _checks.as_compute(vertices, name)
    _checks.check_shape(vertices, name, count, 3)
    return vertices


def face_normals(vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"]) -> Float[Array, "faces 3"]:
    """Unit normals of faces, on the side from which they are counter-clockwise; zero for degenerate faces.

    Gradients: reach `vertices`; zero at degenerate faces.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    return normals.face_normals(vertices, faces, normals.every_face(faces), backend="xla")


def vertex_normals(
    vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"]
) -> Float[Array, "vertices 3"]:
    """Unit normals of a smooth surface through the vertices: means of the adjacent faces' normals, weighted by area.

    Zero for vertices without a face of nonzero area, and for those whose faces' normals cancel but for rounding errors,
    as on a closed surface that is pressed flat. Different vertices at the same position have different normals, so a
    seam stays an edge.

    Gradients: reach `vertices`; zero where the normal is zero.

    References:
        Gouraud, Continuous shading of curved surfaces, 1971.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    return normals.vertex_normals(vertices, faces, backend="xla")


def face_areas(vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"]) -> Float[Array, " faces"]:
    """Areas of faces; zero for padding.

    Gradients: reach `vertices`; zero at faces of zero area.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    products = definition.products(vertices, faces)
    squared = jnp.sum(products * products, axis=-1)
    some = squared > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1)) / 2, 0)


def volume(vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"]) -> Float[Array, ""]:
    """Volume that a closed mesh encloses; negative if faces are clockwise seen from outside.

    Overlapping parts count twice. An open mesh has no volume: the result is the volume of the cones from its centre to
    its faces.

    Gradients: reach `vertices`.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((), vertices.dtype)
    # Cones from the centre of the faces: far from the origin, cones from there would be large and nearly cancel.
    corners = corner_values(vertices, faces)
    count = jnp.maximum(jnp.sum((faces >= 0).astype(vertices.dtype)), 1)
    middle = lax.stop_gradient(jnp.sum(corners, axis=(0, 1), keepdims=True) / count)
    # The corners of padding stay at zero.
    first, second, third = jnp.where(faces.T[..., None] >= 0, corners - middle, 0)
    return jnp.sum(first * jnp.cross(second, third)) / 6


class Subdivision(NamedTuple):
    """Faces divided into four, and the edges whose midpoints are the new vertices.

    Attributes:
        faces: Four faces per original face, in order: at its three corners, then in its middle.
        edges: The two ends of each edge, whose midpoint is a new vertex; new vertices follow the original ones.
        parents: The original face of each face.
    """

    faces: Int[Array, "4*faces 3"]
    edges: Int[Array, "edges 2"]
    parents: Int[Array, " 4*faces"]

    def values(self, values: Float[ArrayLike, "vertices channels"]) -> Float[Array, "vertices+edges channels"]:
        """Positions or other values of the original vertices, followed by those of the midpoints; differentiable."""
        values = _checks.as_float(values, "values")
        return jnp.concatenate(
            [values, (gather_in_bounds(values, self.edges[:, 0]) + gather_in_bounds(values, self.edges[:, 1])) / 2]
        )


def subdivision(faces: Int[ArrayLike, "faces 3"], num_vertices: int) -> Subdivision:
    """Divides every face into four at the midpoints of its sides. Runs outside of `jit`.

    Neighbouring faces share the midpoint of their edge, so a closed mesh stays closed. The surface does not change.

    Args:
        faces: Concrete vertex indices; a padding face (-1) becomes four padding faces.
        num_vertices: Number of vertices of the mesh, which is the index of the first new vertex.

    Raises:
        TypeError: If `faces` is traced, or an argument is not of the right kind.
        ValueError: If a shape is wrong or an index out of range.

    Example:
        >>> cube = jnr.shapes.cube()
        >>> finer = jnr.subdivision(cube.faces, 8)
        >>> vertices = finer.values(cube.vertices)
    """
    if not _checks.is_concrete(faces):
        raise TypeError("faces must be concrete to be divided: call subdivision outside jit and use its result inside.")
    num_vertices = _checks.as_count(num_vertices, "num_vertices", least=0)
    corners = np.asarray(_checks.as_faces(faces, num_vertices))
    sides = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1), axis=-1)  # (faces, 3, 2)
    valid = np.all(corners >= 0, axis=1)
    edges, number = np.unique(sides[valid].reshape(-1, 2), axis=0, return_inverse=True)
    middles = np.full(corners.shape, -1, np.int64)
    middles[valid] = number.reshape(-1, 3) + num_vertices
    (a, b, c), (ab, bc, ca) = corners.T, middles.T
    children = np.stack([(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]).transpose(2, 0, 1)
    children[~valid] = -1
    return Subdivision(
        jnp.asarray(children.reshape(-1, 3), jnp.int32),
        jnp.asarray(edges.reshape(-1, 2), jnp.int32),
        jnp.asarray(np.arange(len(corners)).repeat(4), jnp.int32),
    )


def unique_edges(faces: Int[ArrayLike, "faces 3"]) -> tuple[Int[Array, "edges 2"], Int[Array, "pairs 2"]]:
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
        face: The face of each point, -1 if the mesh has no area.
        barycentric: Weights of the face's corners.
    """

    points: Float[Array, "samples 3"]
    face: Int[Array, " samples"]
    barycentric: Float[Array, "samples 3"]


def sample_surface(
    key: jax.Array, vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"], count: int
) -> SurfaceSamples:
    """Random points on a mesh, distributed uniformly by area.

    Gradients: reach `vertices` from the points, which keep their barycentrics.

    Args:
        key: A key of `jax.random`.
        vertices: Positions.
        faces: Vertex indices of each face. Padding and faces of zero area receive no points.
        count: Number of points, at most 2**26.

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
    count = _checks.as_count(count, "count", most=2**26)
    areas = lax.stop_gradient(face_areas(vertices, faces))
    faces = _checks.as_faces(faces, vertices.shape[0])
    dtype = vertices.dtype
    if areas.shape[0] == 0:
        nothing = jnp.zeros((count, 3), dtype)
        return SurfaceSamples(nothing, jnp.full(count, -1, jnp.int32), nothing)
    which, inward, across = jax.random.split(key, 3)
    # Parallel sums may differ in their last digit, also across a face of zero area, which a neighbour then replaces.
    total = lax.cummax(jnp.cumsum(areas))
    index = jnp.arange(areas.shape[0], dtype=jnp.int32)
    nearest = lax.cummax(jnp.where(areas > 0, index, -1))
    nearest = jnp.where(nearest < 0, jnp.argmax(areas > 0).astype(jnp.int32), nearest)
    chosen = jnp.searchsorted(total, jax.random.uniform(which, (count,), dtype) * total[-1], side="right")
    face = gather_in_bounds(nearest, jnp.clip(chosen, 0, areas.shape[0] - 1))
    face = jnp.where(total[-1] > 0, face, -1)
    # The square root makes the distribution uniform over the triangle.
    root, along = jnp.sqrt(jax.random.uniform(inward, (count,), dtype)), jax.random.uniform(across, (count,), dtype)
    barycentric = jnp.stack([1 - root, root * (1 - along), root * along], axis=-1)
    barycentric = jnp.where(face[:, None] >= 0, barycentric, 0)
    rows = gather_or_fill(faces, face)
    first, second, third = (barycentric[:, k, None] * gather_or_fill(vertices, rows[:, k]) for k in range(3))
    points = first + second + third
    return SurfaceSamples(points, face, barycentric)


@inline_jit("backend")
def corner_values(values, faces, *, backend: Backend | None = "xla") -> jax.Array:
    """Per-vertex values at each corner of the faces, `(3, faces, channels)`; zero for padding.

    Defaults to plain JAX so that callers stay exportable.
    """
    return gather(values, faces.T, backend=backend)
