"""Normals of faces, their sums at vertices, and unit vectors, in plain JAX. README.md beside this file derives them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jnr._inline_jit import inline_jit
from jnr._ops.indexing import drop_negative, gather_or_fill, map_batch
from jnr._ops.pixel_space import power_of_two_scale


def face_normals(
    vertices: jax.Array, faces: jax.Array, index: jax.Array, *, gather: Callable[..., jax.Array] = gather_or_fill
) -> jax.Array:
    """Unit normals of the faces that an index names; zero where it names none, and for degenerate faces.

    Args:
        vertices: `(1 or batch, vertices, 3)`.
        faces: `(1 or batch, faces, 3)`.
        index: `(1 or batch, count)`.
        gather: Reads rows of a table, such as the op of jnr/_ops/gather.

    Returns:
        `(batch, count, 3)`.
    """

    def normals(vertices, faces, index):
        return unit(_product(*map(near_one, _sides(vertices, gather(faces, index), gather))))

    return map_batch(normals, vertices, faces, index)


def face_turns(clip_positions: jax.Array, faces: jax.Array, index: jax.Array) -> jax.Array:
    """-1 where the corners of the face that an index names are clockwise in clip space's x, y and w, else 1.

    Args:
        clip_positions: `(1 or batch, vertices, 4)`.
        faces: `(1 or batch, faces, 3)`.
        index: `(1 or batch, count)`.

    Returns:
        `(batch, count)`.
    """

    def turns(clip_positions, faces, index):
        rows = gather_or_fill(faces, index)
        corner = [gather_or_fill(clip_positions, rows[:, k]) for k in range(3)]
        # Rescaled, since a product of three large coordinates overflows.
        scale = power_of_two_scale(*(values[:, i] for values in corner for i in (0, 1, 3)))
        (x0, y0, w0), (x1, y1, w1), (x2, y2, w2) = ([c[:, i] * scale for i in (0, 1, 3)] for c in corner)
        turn = x0 * (y1 * w2 - y2 * w1) + x1 * (y2 * w0 - y0 * w2) + x2 * (y0 * w1 - y1 * w0)
        return jnp.where(turn < 0, -1, 1).astype(clip_positions.dtype)

    return map_batch(turns, clip_positions, faces, index)


def indexed_vertices(faces: jax.Array, index: jax.Array, *, num_vertices: int) -> jax.Array:
    """1 for the corners of the faces that an index names, 0 for other vertices.

    Args:
        faces: `(1 or batch, faces, 3)`.
        index: `(1 or batch, count)`.
        num_vertices: Of the mesh.

    Returns:
        `(batch, vertices)` of int8.
    """

    def marks(faces, index):
        corners = drop_negative(gather_or_fill(faces, index).reshape(-1), num_vertices)
        return jnp.zeros(num_vertices, jnp.int8).at[corners].set(1, mode="drop")

    return map_batch(marks, faces, index)


def normal_sums(
    vertices: jax.Array,
    faces: jax.Array,
    wanted: jax.Array,
    *,
    gather: Callable[..., jax.Array] = gather_or_fill,
) -> jax.Array:
    """Per vertex, the sum of its faces' normals, of twice the faces' areas up to a factor that all vertices share.

    Behind it the sum of the normals' largest coordinates, a constant, as `unit_vectors` takes them.

    Args:
        vertices: `(1 or batch, vertices, 3)`.
        faces: `(1 or batch, faces, 3)`.
        wanted: Not 0 for vertices whose sums are used, `(1 or batch, vertices)` of int8. The sums of others may lack
            faces.
        gather: As for `face_normals`.

    Returns:
        `(batch, vertices, 4)`.
    """

    def sums(vertices, faces, wanted):
        # Left out: whether a face has a vertex that is wanted would take longer than its normal.
        del wanted
        # One scale for the whole mesh, so that areas stay comparable.
        finite = jnp.where(jnp.all(jnp.isfinite(vertices), axis=-1, keepdims=True), vertices, 0)
        scale = lax.stop_gradient(power_of_two_scale(jnp.max(jnp.abs(finite - finite[:1]))))
        of_faces = with_size(_product(*_sides(vertices * scale, faces, gather)))
        total = jnp.zeros((vertices.shape[0], 4), vertices.dtype)
        for k in range(3):
            total = total.at[drop_negative(faces[:, k], vertices.shape[0])].add(of_faces, mode="drop")
        return total

    return map_batch(sums, vertices, faces, wanted)


def unit_vectors(sums: jax.Array) -> jax.Array:
    """Sums of vectors `with_size`, normalized; zero where the vectors cancel but for the rounding of their sum.

    Args:
        sums: `(batch, count, 4)`.

    Returns:
        `(batch, count, 3)`.
    """
    vector, size = sums[..., :3], sums[..., 3:]
    # Dozens of terms round to a few units in the last place.
    rounding = 16 * float(jnp.finfo(sums.dtype).eps) * size
    remains = jnp.max(jnp.abs(vector), axis=-1, keepdims=True) > rounding
    return unit(near_one(jnp.where(remains, vector, 0)))


@inline_jit()
def products(vertices: jax.Array, faces: jax.Array) -> jax.Array:
    """A vector along each face's normal, of twice the face's area; zero for degenerate faces."""
    return _product(*_sides(vertices, faces, gather_or_fill))


def _sides(vertices, rows, gather):
    """The sides of faces at their second corners, zero for faces without three finite vertices."""
    corner = list(gather(vertices, rows.T))
    valid = jnp.all((rows >= 0) & (rows < vertices.shape[0]), axis=-1)
    for values in corner:
        valid &= jnp.all(jnp.isfinite(values), axis=-1)
    # Masked before the product: its derivative would be NaN times zero.
    corner = [jnp.where(valid[:, None], values, 0) for values in corner]
    # Around corner 1 as in Neural Renderer: for a face parallel to the light, the last bit decides.
    return corner[2] - corner[1], corner[0] - corner[1]


def _product(forward, back):
    product = jnp.cross(forward, back)
    return jnp.where(is_noise(product, forward, back)[..., None], 0, product)


def is_noise(product, forward, back):
    """Whether a cross product is within the rounding error of its terms, as it is for collinear vectors.

    Compilers may contract products and sums, so that even the product of a vector with itself need not be zero.
    """
    largest, *sides = (
        jnp.maximum(jnp.maximum(abs(v[..., 0]), abs(v[..., 1])), abs(v[..., 2])) for v in (product, forward, back)
    )
    return largest < 2 * jnp.finfo(product.dtype).eps * sides[0] * sides[1]


@inline_jit()
def unit(normal: jax.Array) -> jax.Array:
    """Vectors along the last axis normalized to length 1, zero where they have no direction."""
    # Not jnp.sum: its order of terms depends on the shape of the array.
    x, y, z = (normal[..., i : i + 1] for i in range(3))
    squared = x * x + y * y + z * z
    valid = (squared > 0) & jnp.isfinite(squared)
    # Not rsqrt: its last bit depends on the size of the array.
    return jnp.where(valid, normal, 0) / jnp.sqrt(jnp.where(valid, squared, 1))


def with_size(vectors: jax.Array) -> jax.Array:
    """Vectors with their largest coordinate behind them, a constant, as `unit_vectors` takes their sums."""
    size = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    return jnp.concatenate([vectors, lax.stop_gradient(size)], axis=-1)


def with_unit_size(vectors: jax.Array) -> jax.Array:
    """Vectors of length 1 or 0 with a size of 1 behind them."""
    return jnp.concatenate([vectors, jnp.ones_like(vectors[..., :1])], axis=-1)


def without_size(vectors: jax.Array) -> jax.Array:
    """Vectors with a size of zero behind them: each but the zero vector has a direction."""
    return jnp.concatenate([vectors, jnp.zeros_like(vectors[..., :1])], axis=-1)


@inline_jit()
def near_one(vectors):
    """The vectors scaled so that products of their coordinates neither overflow nor underflow."""
    scale = power_of_two_scale(*(vectors[..., i] for i in range(3)))
    return vectors * lax.stop_gradient(scale)[..., None]
