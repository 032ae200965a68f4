"""Losses on silhouettes and on the shape of meshes. All are differentiable in their floating point arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr._xla.geometry import take
from jnr.geometry import face_normals

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def silhouette_iou(
    alpha: Float[Array, "*batch height width"], target: Float[Array, "*batch height width"]
) -> Float[Array, ""]:
    """One minus the intersection of two silhouettes over their union, meaned over a batch.

    Args:
        alpha: Rendered coverage in [0, 1].
        target: Wanted coverage in [0, 1].

    Returns:
        0 where they agree, also if both are empty; 1 where they are apart.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.1.
    """
    alpha, target = _checks.as_float(alpha, "alpha"), _checks.as_float(target, "target")
    if alpha.shape != target.shape or alpha.ndim < 2:
        raise ValueError(
            f"alpha and target must have one shape (..., height, width), got {alpha.shape} and {target.shape}."
        )
    both = jnp.sum(alpha * target, axis=(-2, -1))
    either = jnp.sum(alpha + target - alpha * target, axis=(-2, -1))
    empty = either == 0
    return jnp.mean(jnp.where(empty, 0, 1 - both / jnp.where(empty, 1, either)))


def unique_edges(faces: Int[Array, "faces 3"]) -> tuple[Int[Array, "edges 2"], Int[Array, "pairs 2"]]:
    """Edges of a mesh, and the pairs of faces that share one. Runs outside `jit`.

    Args:
        faces: Concrete vertex indices; padding faces (-1) are passed over.

    Returns:
        Vertex indices of each edge once, lower first; and for each edge of exactly two faces, the two faces.
    """
    if not _checks.is_concrete(faces):
        raise TypeError(
            "faces must be concrete to find their edges: call unique_edges outside jit and pass the result."
        )
    array = np.asarray(_checks.as_faces(faces, 2**31 - 1))
    number = np.flatnonzero(np.all(array >= 0, axis=1))
    kept = array[number]
    ends = np.sort(np.concatenate([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]), axis=1)
    edges, inverse, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    first = np.cumsum(count) - count
    twice = first[count == 2]
    owner = np.tile(number, 3)
    pairs = np.stack([owner[order[twice]], owner[order[twice + 1]]], axis=1) if len(number) else np.zeros((0, 2))
    return jnp.asarray(edges.reshape(-1, 2), jnp.int32), jnp.asarray(pairs, jnp.int32)


def laplacian(vertices: Float[Array, "vertices 3"], edges: Int[Array, "edges 2"]) -> Float[Array, ""]:
    """Mean squared distance from vertices to the mean of their neighbours (uniform weights).

    Args:
        vertices: Positions.
        edges: From `unique_edges`. Vertices without an edge do not count.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    sums = jnp.zeros_like(vertices).at[start].add(take(vertices, end)).at[end].add(take(vertices, start))
    degree = jnp.zeros(vertices.shape[0], vertices.dtype).at[start].add(1).at[end].add(1)
    joined = degree > 0
    offset = vertices - sums / jnp.where(joined, degree, 1)[:, None]
    squared = jnp.where(joined, jnp.sum(offset * offset, axis=-1), 0)
    return jnp.sum(squared) / jnp.sum(joined.astype(vertices.dtype))


def edge_length(vertices: Float[Array, "vertices 3"], edges: Int[Array, "edges 2"]) -> Float[Array, ""]:
    """Mean squared length of edges.

    Args:
        vertices: Positions.
        edges: From `unique_edges`.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    along = take(vertices, start) - take(vertices, end)
    return jnp.mean(jnp.sum(along * along, axis=-1))


def normal_consistency(
    vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], pairs: Int[Array, "pairs 2"]
) -> Float[Array, ""]:
    """Mean of one minus the cosine between the normals of faces that share an edge: 0 where the mesh is flat.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face.
        pairs: From `unique_edges`.
    """
    normals = face_normals(vertices, faces)
    pairs = _checks.as_indices(pairs, "pairs", 2, normals.shape[0], "face indices")
    if pairs.shape[0] == 0:
        return jnp.zeros((), normals.dtype)
    return jnp.mean(1 - jnp.sum(take(normals, pairs[:, 0]) * take(normals, pairs[:, 1]), axis=-1))


def _vertices_and_edges(vertices, edges) -> tuple[jax.Array, jax.Array]:
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    edges = _checks.as_indices(edges, "edges", 2, vertices.shape[0], "vertex indices")
    return vertices, edges.T
