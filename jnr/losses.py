"""Losses on images, point sets and mesh shape.

Every loss returns a scalar and supports forward mode, reverse mode and higher orders. Integer arguments (`faces`,
`edges`, `pairs`) are constants. Two losses hold a floating point quantity constant:

- `chamfer` differentiates by both point sets, with the nearest neighbours held fixed;
- `cotangent_laplacian` differentiates by `vertices`, with the cotangent weights held fixed.

The derivatives of all others are exact: of `silhouette_iou` by `alpha` and `target`, of `squared_error` by `image`
and `target`, of `total_variation` by `images` and `mask`, of `laplacian`, `edge_length`, `edge_length_variance`,
`flatness` and `normal_consistency` by `vertices`.
Where a term is not differentiable (edges of zero length, faces of zero area), its derivative is zero.
"""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Real

from jnr import _checks
from jnr._geometry import check_vertices, corner_values, face_normals, unique_edges as _unique_edges
from jnr._ops.indexing import gather_in_bounds
from jnr._ops.normals.definition import is_noise


def silhouette_iou(
    alpha: Real[ArrayLike, "*batch height width"], target: Real[ArrayLike, "*batch height width"]
) -> Float[Array, ""]:
    """Returns one minus the intersection over union of two silhouettes, averaged over the batch.

    The intersection is the sum of `alpha * target` and the union the sum of `alpha + target - alpha * target`.

    Gradients: reach `alpha` and `target`; zero where both silhouettes are empty.

    Args:
        alpha: Rendered coverage in [0, 1].
        target: Target coverage in [0, 1].

    Returns:
        0 for equal binary silhouettes, including two empty ones; 1 for disjoint silhouettes.

    Raises:
        TypeError: If an argument is not an array of real numbers.
        ValueError: If the shapes differ or have fewer than two axes.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.1.
    """
    alpha, target = _alike(_checks.as_float(alpha, "alpha"), _checks.as_float(target, "target"))
    if alpha.shape != target.shape or alpha.ndim < 2:
        raise ValueError(
            f"alpha and target must have the same shape (..., height, width), got {alpha.shape} and {target.shape}."
        )
    intersection = jnp.sum(alpha * target, axis=(-2, -1))
    union = jnp.sum(alpha + target - alpha * target, axis=(-2, -1))
    empty = union == 0
    return jnp.mean(jnp.where(empty, 0, 1 - intersection / jnp.where(empty, 1, union)))


def _alike(a, b):
    """Both arrays in the wider of their dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.promote_types(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def squared_error(
    image: Real[ArrayLike, "*batch height width channels"], target: Real[ArrayLike, "*batch height width channels"]
) -> Float[Array, ""]:
    """Returns the mean squared difference between two images, over pixels, channels and batch.

    It is `jnp.mean((image - target) ** 2)`, in a form that XLA vectorizes on CPUs also for three channels.

    Gradients: reach `image` and `target`.

    Args:
        image: Rendered image, with any number of channels.
        target: Target image of the same shape. uint8 and uint16 are scaled to [0, 1].

    Raises:
        TypeError: If an argument is not an array of colours.
        ValueError: If the shapes differ, have fewer than three axes or no elements.
    """
    image = _checks.widened(_checks.as_color(image, "image"))
    target = _checks.widened(_checks.as_color(target, "target"))
    image, target = _alike(image, target)
    if image.shape != target.shape or image.ndim < 3:
        raise ValueError(
            f"image and target must have the same shape (..., height, width, channels), got {image.shape} and "
            f"{target.shape}."
        )
    if 0 in image.shape:
        raise ValueError(f"image must not be empty, got shape {image.shape}.")
    # XLA for the CPU does not vectorize a lone subtraction where the last axis has three elements, but vectorizes a sum
    # of products. The factor makes it one, and is exact.
    half = 0.5 * (image - target)
    return jnp.vdot(half, half, precision=lax.Precision.HIGHEST) * (4 / half.size)


def total_variation(
    images: Float[ArrayLike, "*batch height width channels"], mask: Real[ArrayLike, "*batch height width"] | None = None
) -> Float[Array, ""]:
    """Returns the sum of squared differences between each pixel and its right and lower neighbours.

    The sum runs over pixels and channels; it is averaged over the batch.

    Gradients: reach `images` and `mask`.

    Args:
        images: Images, channels last.
        mask: Pixel weights, such as a rendering's `alpha` to exclude the background. A difference is multiplied by the
            weights of its two pixels. None weighs all pixels 1.

    Raises:
        TypeError: If an argument is not an array of real numbers.
        ValueError: If `images` has fewer than three axes or `mask` does not match it.

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
    points: Float[ArrayLike, "points coordinates"], others: Float[ArrayLike, "others coordinates"], *, chunk: int = 1024
) -> Float[Array, ""]:
    """Returns the symmetric Chamfer distance: the two mean squared nearest-neighbour distances, added.

    The first term averages, over `points`, the squared distance to the nearest of `others`. The second exchanges the
    two sets.

    Gradients: reach `points` and `others`. The nearest-neighbour assignment is constant; among equally near points the
    one with the lowest index is chosen.

    Args:
        points: A set of points of any dimension.
        others: Another set of the same dimension.
        chunk: Number of points of each set that are compared at once. Memory grows with `chunk**2` and with the number
            of points, not with the product of the two numbers of points.

    Raises:
        TypeError: If an argument is not an array of real numbers, or `chunk` is not an int.
        ValueError: If a set is empty, the dimensions differ, or `chunk` is less than 1.
    """
    points, others = _alike(_checks.as_compute(points, "points"), _checks.as_compute(others, "others"))
    _checks.check_shape(points, "points", "points", "coordinates")
    _checks.check_shape(others, "others", "others", *points.shape[1:])
    for array, name in ((points, "points"), (others, "others")):
        if 0 in array.shape:
            raise ValueError(f"{name} must not be empty, got shape {array.shape}.")
    chunk = _checks.as_count(chunk, "chunk")
    return _mean_squared_distance(points, others, chunk) + _mean_squared_distance(others, points, chunk)


def _mean_squared_distance(points, others, chunk):
    """Mean squared distance from each point to the nearest of `others`."""
    # stop_gradient: the search saves nothing for the backward pass.
    index = _nearest_index(lax.stop_gradient(points), lax.stop_gradient(others), chunk)
    offset = points - gather_in_bounds(others, index)
    return jnp.mean(jnp.sum(offset * offset, axis=-1))


def _nearest_index(points: jax.Array, others: jax.Array, chunk: int) -> jax.Array:
    """Index into `others` of the nearest neighbour of each point."""
    rows, columns = min(chunk, points.shape[0]), min(chunk, others.shape[0])
    blocks = _blocks(others, columns, jnp.inf)
    first = jnp.arange(blocks.shape[0], dtype=jnp.int32) * columns

    def search(block):
        def compare(best, other):
            start, candidates = other
            squared = jnp.zeros((rows, columns), block.dtype)
            # Differences, not |a|^2 - 2ab + |b|^2, which cancels for near points.
            for axis in range(block.shape[1]):
                squared = squared + (block[:, None, axis] - candidates[None, :, axis]) ** 2
            candidate = jnp.argmin(squared, axis=1)
            distance = jnp.take_along_axis(squared, candidate[:, None], axis=1)[:, 0]
            closer = distance < best[0]
            return (
                jnp.where(closer, distance, best[0]),
                jnp.where(closer, candidate.astype(jnp.int32) + start, best[1]),
            ), None

        start = jnp.full(rows, jnp.inf, block.dtype), jnp.zeros(rows, jnp.int32)
        return lax.scan(compare, start, (first, blocks))[0][1]

    found = lax.map(search, _blocks(points, rows, 0)).reshape(-1)[: points.shape[0]]
    # A point with NaN is nearer to nothing, so its index is not meaningful; the clip keeps it in range.
    return jnp.clip(found, 0, others.shape[0] - 1)


def _blocks(array, size, padding):
    """Splits rows into blocks of `size`, `(blocks, size, columns)`; the last block is filled with `padding`."""
    count = -(-array.shape[0] // size)
    padded = jnp.pad(array, ((0, count * size - array.shape[0]), (0, 0)), constant_values=padding)
    return padded.reshape(count, size, -1)


def unique_edges(faces: Int[ArrayLike, "faces 3"]) -> tuple[Int[Array, "edges 2"], Int[Array, "pairs 2"]]:
    """Deprecated alias of `jnr.unique_edges`; emits a DeprecationWarning."""
    warnings.warn(
        "jnr.losses.unique_edges is deprecated and will be removed in the next version: use jnr.unique_edges.",
        DeprecationWarning,
        stacklevel=2,
    )
    return _unique_edges(faces)


def laplacian(vertices: Float[ArrayLike, "vertices 3"], edges: Int[ArrayLike, "edges 2"]) -> Float[Array, ""]:
    """Returns the mean squared distance from each vertex to the mean of its neighbours (uniform weights).

    Gradients: reach `vertices`.

    Args:
        vertices: Positions.
        edges: Vertex indices of each edge, from `jnr.unique_edges`. Vertices without an edge are not averaged.

    Returns:
        The loss in squared units of length; 0 for a mesh without edges.

    Raises:
        TypeError: If `vertices` are not real numbers or `edges` not integers.
        ValueError: If a shape is wrong or an index out of range.

    References:
        Sorkine, Laplacian mesh processing, Eurographics STAR 2005, for the uniform Laplacian.
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


def cotangent_laplacian(vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"]) -> Float[Array, ""]:
    """Returns the mean squared distance from each vertex to the cotangent-weighted mean of its neighbours.

    The weight of an edge is the sum of the cotangents of the angles opposite to it. The interior vertices of a plane
    lie at the weighted mean of their neighbours for every triangulation. Unlike `laplacian`, this loss therefore
    smooths the surface without making edge lengths equal. It pulls open boundaries inwards.

    Gradients: reach `vertices`. The weights are constants, because their derivative is unbounded at thin faces.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face. Padding and faces of zero area contribute nothing; a vertex without any
            other face is not averaged.

    Returns:
        The loss in squared units of length; 0 for a mesh without faces.

    Raises:
        TypeError: If `vertices` are not real numbers or `faces` not integers.
        ValueError: If a shape is wrong or an index out of range.

    References:
        Pinkall and Polthier, Computing discrete minimal surfaces and their conjugates, 1993.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    count = vertices.shape[0]
    if 0 in (count, faces.shape[0]):
        return jnp.zeros((), vertices.dtype)
    corners = corner_values(lax.stop_gradient(vertices), faces)
    sums, weights = jnp.zeros_like(vertices), jnp.zeros(count, vertices.dtype)
    differentiable = corner_values(vertices, faces)
    for k in range(3):
        first, second = (k + 1) % 3, (k + 2) % 3
        ahead, behind = corners[first] - corners[k], corners[second] - corners[k]
        product = jnp.cross(ahead, behind)
        doubled = jnp.linalg.norm(product, axis=-1)
        valid = (doubled > 0) & jnp.isfinite(doubled) & ~is_noise(product, ahead, behind)
        cotangent = jnp.where(valid, jnp.sum(ahead * behind, axis=-1) / jnp.where(valid, doubled, 1), 0)
        for vertex, neighbor in ((first, second), (second, first)):
            row = jnp.where(valid, faces[:, vertex], count)
            sums = sums.at[row].add(cotangent[:, None] * differentiable[neighbor], mode="drop")
            weights = weights.at[row].add(cotangent, mode="drop")
    # Positive for every vertex of a face with nonzero area: any two cotangents of a triangle have a positive sum.
    joined = weights > 0
    offset = vertices - sums / jnp.where(joined, weights, 1)[:, None]
    squared = jnp.where(joined, jnp.sum(offset * offset, axis=-1), 0)
    return jnp.sum(squared) / jnp.maximum(jnp.sum(joined.astype(vertices.dtype)), 1)


def edge_length(vertices: Float[ArrayLike, "vertices 3"], edges: Int[ArrayLike, "edges 2"]) -> Float[Array, ""]:
    """Returns the mean squared edge length.

    Gradients: reach `vertices`.

    Args:
        vertices: Positions.
        edges: Vertex indices of each edge, from `jnr.unique_edges`.

    Returns:
        The loss in squared units of length; 0 for a mesh without edges.

    Raises:
        TypeError: If `vertices` are not real numbers or `edges` not integers.
        ValueError: If a shape is wrong or an index out of range.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    offset = gather_in_bounds(vertices, start) - gather_in_bounds(vertices, end)
    return jnp.mean(jnp.sum(offset * offset, axis=-1))


def edge_length_variance(
    vertices: Float[ArrayLike, "vertices 3"], edges: Int[ArrayLike, "edges 2"]
) -> Float[Array, ""]:
    """Returns the variance of the edge lengths: 0 where all edges have the same length, whatever that length is.

    Gradients: reach `vertices`; the length of a zero-length edge has derivative zero.

    Args:
        vertices: Positions.
        edges: Vertex indices of each edge, from `jnr.unique_edges`.

    Returns:
        The loss in squared units of length; 0 for a mesh without edges.

    Raises:
        TypeError: If `vertices` are not real numbers or `edges` not integers.
        ValueError: If a shape is wrong or an index out of range.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, the authors' 3D DeepDream code, whose loss is this
        variance times the number of faces.
    """
    vertices, (start, end) = _vertices_and_edges(vertices, edges)
    if start.size == 0:
        return jnp.zeros((), vertices.dtype)
    offset = gather_in_bounds(vertices, start) - gather_in_bounds(vertices, end)
    squared = jnp.sum(offset * offset, axis=-1)
    length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    # Not mean(length**2) - mean(length)**2, which cancels.
    return jnp.mean((length - jnp.mean(length)) ** 2)


def flatness(
    vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"], pairs: Int[ArrayLike, "pairs 2"]
) -> Float[Array, ""]:
    """Returns the sum of (cos θ + 1)² over face pairs, θ being the dihedral angle: 0 for a flat mesh (θ = 180°).

    This is the smoothness loss of the paper. It grows with the fourth power of small deviations from flatness, so it
    penalizes them less than `normal_consistency` does. It is a sum, not divided by the number of edges.

    Gradients: reach `vertices`; faces of zero area receive none.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face. Neighbouring faces must have the same orientation.
        pairs: Indices of two adjacent faces each, from `jnr.unique_edges`.

    Raises:
        TypeError: If `vertices` are not real numbers, or `faces` or `pairs` not integers.
        ValueError: If a shape is wrong or an index out of range.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.2.
    """
    return jnp.sum(_normal_deviations(vertices, faces, pairs) ** 2)


def normal_consistency(
    vertices: Float[ArrayLike, "vertices 3"], faces: Int[ArrayLike, "faces 3"], pairs: Int[ArrayLike, "pairs 2"]
) -> Float[Array, ""]:
    """Returns the mean of one minus the cosine between the normals of adjacent faces: 0 for a flat mesh.

    Gradients: reach `vertices`; faces of zero area receive none.

    Args:
        vertices: Positions.
        faces: Vertex indices of each face. Neighbouring faces must have the same orientation.
        pairs: Indices of two adjacent faces each, from `jnr.unique_edges`.

    Returns:
        The loss in [0, 2]; 0 for a mesh without pairs.

    Raises:
        TypeError: If `vertices` are not real numbers, or `faces` or `pairs` not integers.
        ValueError: If a shape is wrong or an index out of range.
    """
    deviations = _normal_deviations(vertices, faces, pairs)
    return jnp.mean(deviations) if deviations.size else jnp.zeros((), deviations.dtype)


def _normal_deviations(vertices, faces, pairs):
    """One minus the cosine between the two normals of each pair of faces."""
    normals = face_normals(vertices, faces)
    pairs = _checks.as_indices(pairs, "pairs", 2, normals.shape[0], "face indices")
    return 1 - jnp.sum(gather_in_bounds(normals, pairs[:, 0]) * gather_in_bounds(normals, pairs[:, 1]), axis=-1)


def _vertices_and_edges(vertices, edges) -> tuple[jax.Array, jax.Array]:
    """Returns checked vertices, and edges as `(2, edges)`."""
    vertices = check_vertices(vertices)
    edges = _checks.as_indices(edges, "edges", 2, vertices.shape[0], "vertex indices")
    return vertices, edges.T
