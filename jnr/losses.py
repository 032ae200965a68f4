"""Losses on images, points and the shape of meshes. All are differentiable in their floating point arguments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jnr import _checks
from jnr._geometry import corner_values, face_normals, is_noise
from jnr._ops.indexing import gather_in_bounds


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


def total_variation(
    images: Float[Array, "*batch height width channels"], mask: Float[Array, "*batch height width"] | None = None
) -> Float[Array, ""]:
    """Sum of squared differences between pixels and their right and lower neighbours, meaned over a batch.

    Args:
        images: Images.
        mask: Weights of the pixels, such as a rendering's `alpha`, to leave out the background; a difference counts by
            the product of its two. None counts all.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.3.
    """
    images = _checks.as_compute(images, "images")
    if images.ndim < 3:
        raise ValueError(f"images must have shape (..., height, width, channels), got {images.shape}.")
    right, down = jnp.diff(images, axis=-2), jnp.diff(images, axis=-3)
    right, down = jnp.sum(right * right, axis=-1), jnp.sum(down * down, axis=-1)
    if mask is not None:
        mask = _checks.as_compute(mask, "mask").astype(images.dtype)
        _checks.check_shape(mask, "mask", *images.shape[:-1])
        right, down = right * mask[..., :, 1:] * mask[..., :, :-1], down * mask[..., 1:, :] * mask[..., :-1, :]
    return jnp.mean(jnp.sum(right, axis=(-2, -1)) + jnp.sum(down, axis=(-2, -1)))


def chamfer(
    points: Float[Array, "points coordinates"], others: Float[Array, "others coordinates"], *, chunk: int = 1024
) -> Float[Array, ""]:
    """Mean squared distance from points to their nearest of others, plus the same the other way round.

    Gradients: reach both; each point is held to the nearest one that was found (the lowest index of several).

    Args:
        points: A set of points, of any dimension.
        others: Another set.
        chunk: How many points of either set are compared at a time. Memory grows with its square and with the number
            of points, not with the product of their numbers.

    Raises:
        ValueError: If a set is empty.
    """
    points, others = _checks.as_compute(points, "points"), _checks.as_compute(others, "others")
    _checks.check_shape(points, "points", "points", "coordinates")
    _checks.check_shape(others, "others", "others", *points.shape[1:])
    for array, name in ((points, "points"), (others, "others")):
        if 0 in array.shape:
            raise ValueError(f"{name} must not be empty, got shape {array.shape}.")
    chunk = _checks.as_count(chunk, "chunk")
    return _to_nearest(points, others, chunk) + _to_nearest(others, points, chunk)


def _to_nearest(points, others, chunk):
    # Searched without a derivative, so that nothing of the search is kept for the backward pass.
    index = _nearest(lax.stop_gradient(points), lax.stop_gradient(others), chunk)
    apart = points - gather_in_bounds(others, index)
    return jnp.mean(jnp.sum(apart * apart, axis=-1))


def _nearest(points: jax.Array, others: jax.Array, chunk: int) -> jax.Array:
    """Index of the nearest of others for each point."""
    rows, columns = min(chunk, points.shape[0]), min(chunk, others.shape[0])
    blocks = _blocks(others, columns, jnp.inf)
    first = jnp.arange(blocks.shape[0], dtype=jnp.int32) * columns

    def search(block):
        def compare(best, other):
            start, candidates = other
            squared = jnp.zeros((rows, columns), block.dtype)
            # Differences, not |a|^2 - 2ab + |b|^2, which loses the digits of near points.
            for axis in range(block.shape[1]):
                squared = squared + (block[:, None, axis] - candidates[None, :, axis]) ** 2
            here = jnp.argmin(squared, axis=1)
            distance = jnp.take_along_axis(squared, here[:, None], axis=1)[:, 0]
            closer = distance < best[0]
            return (
                jnp.where(closer, distance, best[0]),
                jnp.where(closer, here.astype(jnp.int32) + start, best[1]),
            ), None

        start = jnp.full(rows, jnp.inf, block.dtype), jnp.zeros(rows, jnp.int32)
        return lax.scan(compare, start, (first, blocks))[0][1]

    found = lax.map(search, _blocks(points, rows, 0)).reshape(-1)[: points.shape[0]]
    # Points that are not numbers are near to none.
    return jnp.clip(found, 0, others.shape[0] - 1)


def _blocks(array, size, padding):
    count = -(-array.shape[0] // size)
    padded = jnp.pad(array, ((0, count * size - array.shape[0]), (0, 0)), constant_values=padding)
    return padded.reshape(count, size, -1)


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
    sums = (
        jnp.zeros_like(vertices)
        .at[start]
        .add(gather_in_bounds(vertices, end))
        .at[end]
        .add(gather_in_bounds(vertices, start))
    )
    degree = jnp.zeros(vertices.shape[0], vertices.dtype).at[start].add(1).at[end].add(1)
    joined = degree > 0
    offset = vertices - sums / jnp.where(joined, degree, 1)[:, None]
    squared = jnp.where(joined, jnp.sum(offset * offset, axis=-1), 0)
    return jnp.sum(squared) / jnp.sum(joined.astype(vertices.dtype))


def cotangent_laplacian(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, ""]:
    """Mean squared distance from vertices to the mean of their neighbours weighted by cotangents.

    An edge weighs as much as the sum of the cotangents of the angles opposite to it. Unlike `laplacian` it leaves
    vertices free to move within a flat part, so it smooths without evening out the mesh: inner vertices of a plane
    are at the mean of their neighbours however it is divided. Boundaries are drawn inwards.

    Gradients: reach `vertices`; the weights are constants, since their derivative grows without bound at thin faces.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face. Padding and faces without an area add nothing; vertices without another
            face do not count.

    References:
        Pinkall and Polthier, Computing discrete minimal surfaces and their conjugates, 1993.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(faces, vertices.shape[0])
    count = vertices.shape[0]
    if 0 in (count, faces.shape[0]):
        return jnp.zeros((), vertices.dtype)
    corners = corner_values(lax.stop_gradient(vertices), faces)
    sums, weights = jnp.zeros_like(vertices), jnp.zeros(count, vertices.dtype)
    moving = corner_values(vertices, faces)
    for k in range(3):
        first, second = (k + 1) % 3, (k + 2) % 3
        ahead, behind = corners[first] - corners[k], corners[second] - corners[k]
        product = jnp.cross(ahead, behind)
        doubled = jnp.linalg.norm(product, axis=-1)
        sound = (doubled > 0) & jnp.isfinite(doubled) & ~is_noise(product, ahead, behind)
        cotangent = jnp.where(sound, jnp.sum(ahead * behind, axis=-1) / jnp.where(sound, doubled, 1), 0)
        for here, there in ((first, second), (second, first)):
            row = jnp.where(sound, faces[:, here], count)
            sums = sums.at[row].add(cotangent[:, None] * moving[there], mode="drop")
            weights = weights.at[row].add(cotangent, mode="drop")
    # Positive wherever there is a face with an area: two cotangents of a triangle have a positive sum.
    joined = weights > 0
    offset = vertices - sums / jnp.where(joined, weights, 1)[:, None]
    squared = jnp.where(joined, jnp.sum(offset * offset, axis=-1), 0)
    return jnp.sum(squared) / jnp.maximum(jnp.sum(joined.astype(vertices.dtype)), 1)


def edge_length(vertices: Float[Array, "vertices 3"], edges: Int[Array, "edges 2"]) -> Float[Array, ""]:
    """Mean squared length of edges.

    Args:
        vertices: Positions.
        edges: From `unique_edges`.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    along = gather_in_bounds(vertices, start) - gather_in_bounds(vertices, end)
    return jnp.mean(jnp.sum(along * along, axis=-1))


def edge_length_variance(vertices: Float[Array, "vertices 3"], edges: Int[Array, "edges 2"]) -> Float[Array, ""]:
    """Variance of the lengths of edges: 0 where all are equally long, at whatever size.

    Gradients: reach `vertices`; edges of no length get none.

    Args:
        vertices: Positions.
        edges: From `unique_edges`.

    References:
        3D DeepDream of Kato, Ushiku and Harada, whose loss is this times the number of faces.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    along = gather_in_bounds(vertices, start) - gather_in_bounds(vertices, end)
    squared = jnp.sum(along * along, axis=-1)
    length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    # Not the mean square less the squared mean, two near numbers.
    return jnp.mean((length - jnp.mean(length)) ** 2)


def flatness(
    vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], pairs: Int[Array, "pairs 2"]
) -> Float[Array, ""]:
    """Sum of (cos θ + 1)² over edges, θ the angle between the two faces there: 0 where all are flat (θ = 180°).

    The smoothness of the paper. It forgives small angles, which it sees in the fourth power, more than
    `normal_consistency`, and is not divided by the number of edges.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face; neighbours must agree on which side is the front.
        pairs: From `unique_edges`.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.2.
    """
    return jnp.sum(_bends(vertices, faces, pairs) ** 2)


def normal_consistency(
    vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], pairs: Int[Array, "pairs 2"]
) -> Float[Array, ""]:
    """Mean of one minus the cosine between the normals of faces that share an edge: 0 where the mesh is flat.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face.
        pairs: From `unique_edges`.
    """
    bends = _bends(vertices, faces, pairs)
    return jnp.mean(bends) if bends.size else jnp.zeros((), bends.dtype)


def _bends(vertices, faces, pairs):
    """One minus the cosine between the normals of each pair of faces."""
    normals = face_normals(vertices, faces)
    pairs = _checks.as_indices(pairs, "pairs", 2, normals.shape[0], "face indices")
    return 1 - jnp.sum(gather_in_bounds(normals, pairs[:, 0]) * gather_in_bounds(normals, pairs[:, 1]), axis=-1)


def _vertices_and_edges(vertices, edges) -> tuple[jax.Array, jax.Array]:
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    edges = _checks.as_indices(edges, "edges", 2, vertices.shape[0], "vertex indices")
    return vertices, edges.T
