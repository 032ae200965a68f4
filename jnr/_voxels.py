"""Voxelization: the cells of a grid that lie inside a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jnr import _checks
from jnr._geometry import check_vertices, corner_values

Rule = Literal["winding", "parity"]

# Faces per scan step, each intersected with all columns of the grid; bounds the memory.
_CHUNK = 64


def voxelize(
    vertices: Float[ArrayLike, "vertices 3"],
    faces: Int[ArrayLike, "faces 3"],
    size: int = 32,
    *,
    low: ArrayLike | Sequence[float] = -1.0,
    high: ArrayLike | Sequence[float] = 1.0,
    rule: Rule = "winding",
) -> Bool[Array, "size size size"]:
    """Returns whether the centre of each grid cell lies inside a mesh.

    Cell (i, j, k) has its centre at `low + (i + 0.5, j + 0.5, k + 0.5) * (high - low) / size`; the first axis is x.
    A centre exactly on the surface may be classified either way. Parts of the mesh outside the grid are taken into
    account.

    Three rays start at each centre, one along each positive axis. The centre is inside if at least two rays classify it
    as inside. For a closed mesh all three agree. For a mesh with holes, the majority corrects a ray that passes through
    a hole in one direction. An open sheet has no inside.

    Works under `jit` and `vmap`. Not differentiable: the result is boolean.

    Args:
        vertices: Positions. Faces with a non-finite corner are skipped.
        faces: Vertex indices of each face; padding faces (-1) are skipped.
        size: Number of cells along each axis, at most 1024.
        low: Lower corner of the grid: a scalar, or one value per axis.
        high: Upper corner of the grid: a scalar, or one value per axis.
        rule: `"winding"`: a centre is inside where the winding number is not zero, so overlapping parts form a union;
            all faces must be oriented outwards. `"parity"`: a centre is inside where a ray crosses the surface an odd
            number of times; the orientation of faces is ignored, and the overlap of two parts is outside.

    Returns:
        True for cells whose centre is inside.

    Raises:
        TypeError: If an argument is not an array of the right kind of numbers, or `size` is not an int.
        ValueError: If a shape is wrong, an index out of range, `size` not from 1 to 1024, `rule` unknown, a corner not
            finite, or `low` not less than `high`.

    Example:
        >>> ball = jnr.shapes.icosphere(3)
        >>> jnr.voxelize(ball.vertices, ball.faces).mean() * 8  # about 4/3 pi

    References:
        Edelsbrunner and Mücke, Simulation of simplicity, 1990, for rays that hit edges and vertices.
    """
    vertices = check_vertices(vertices)
    faces = _checks.as_faces(faces, vertices.shape[0])
    size = _checks.as_count(size, "size", most=1024)
    _checks.check_choice(rule, "rule", ("winding", "parity"))
    low, high = (_corner(value, name).astype(vertices.dtype) for value, name in ((low, "low"), (high, "high")))
    if _checks.is_concrete((low, high)) and not bool(jnp.all(low < high)):
        raise ValueError(f"low must be less than high, got {low.tolist()} and {high.tolist()}.")
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((size, size, size), bool)
    # Grid coordinates, in which cell centres are at integers.
    corners = corner_values((vertices - low[None]) / (high - low)[None] * size - 0.5, faces).swapaxes(0, 1)
    valid = jnp.all(faces >= 0, axis=1) & jnp.all(jnp.isfinite(corners), axis=(1, 2))
    # Invalid faces collapse to a point, which no ray crosses.
    corners = jnp.where(valid[:, None, None], corners, 0)
    votes = jnp.zeros((size, size, size), jnp.int32)
    for axis in range(3):
        # The ray's axis last; the permutation is cyclic, so it keeps the orientation of faces.
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        inside = _inside(corners[..., jnp.array(order)], size, rule)
        inverse = [order.index(k) for k in range(3)]
        votes = votes + jnp.transpose(inside, inverse).astype(jnp.int32)
    return votes >= 2


def voxel_iou(a: Bool[ArrayLike, "*grid"], b: Bool[ArrayLike, "*grid"]) -> Float[Array, ""]:
    """Returns the intersection over union of two occupancy grids; 1 if both are empty.

    All axes are summed, so the value of a batch is not the mean of its items. Not differentiable.

    Args:
        a: Occupied cells.
        b: Occupied cells, of the same shape.

    Raises:
        TypeError: If an argument is not an array of bools or numbers.
        ValueError: If the shapes differ.
    """
    a, b = _occupied(a, "a"), _occupied(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {a.shape} and {b.shape}.")
    intersection, union = (jnp.sum(cells.astype(jnp.float32)) for cells in (a & b, a | b))
    return jnp.where(union > 0, intersection / jnp.maximum(union, 1), 1)


def _occupied(cells, name):
    cells = _checks.as_array(cells, name)
    return cells if cells.dtype == bool else _checks.as_float(cells, name) != 0


@partial(jax.jit, static_argnames=("size", "rule"))
def _inside(corners, size, rule):
    """Returns the grid `(size, size, size)` of centres that a ray along the positive last axis classifies as inside."""
    count = corners.shape[0]
    padding = -count % _CHUNK
    blocks = jnp.pad(corners, ((0, padding), (0, 0), (0, 0))).reshape(-1, _CHUNK, 3, 3)
    columns = jnp.indices((size, size), jnp.int32)

    def cross(crossings, block):
        sign, height = _crossings(block, size)
        # Centres 0 to below - 1 of a column lie below the crossing; `below` is the first centre that does not.
        below = jnp.clip(jnp.ceil(height), 0, size).astype(jnp.int32)
        row, column = (jnp.broadcast_to(index, below.shape) for index in columns)
        return crossings.at[row, column, below].add(sign, mode="drop"), None

    crossings, _ = lax.scan(cross, jnp.zeros((size, size, size + 1), jnp.int32), blocks)
    above = jnp.flip(jnp.cumsum(jnp.flip(crossings, -1), axis=-1), -1)[..., 1:]
    return above != 0 if rule == "winding" else above % 2 != 0


def _crossings(block, size):
    """Returns, per face and column, the sign of the crossing (1 upward, -1 downward, 0 none) and its height."""
    center = jnp.arange(size, dtype=block.dtype)[None, None]
    # Edges from corner p to corner q, as (edge, faces), in one operation: both faces of an edge must get equal values,
    # and a compiler may contract a product and a sum in one operation and not in another.
    p, q = (jnp.stack([block[:, (k + step) % 3] for k in range(3)]) for step in (1, 2))
    # Order the ends by coordinates, so that both faces of an edge compute equal values up to the sign.
    swap = (q[..., 0] < p[..., 0]) | ((q[..., 0] == p[..., 0]) & (q[..., 1] < p[..., 1]))
    first, second = jnp.where(swap[..., None], q, p), jnp.where(swap[..., None], p, q)
    turn = jnp.where(swap, -1, 1)[..., None, None]
    (x0, y0), (x1, y1) = ((end[..., 0, None] - center, end[..., 1, None] - center) for end in (first, second))
    area = x0[..., :, None] * y1[..., None, :] - y0[..., None, :] * x1[..., :, None]  # (edge, faces, size, size)
    # Tie rule for a column on the line of an edge: displace it infinitesimally towards +x, infinitely less towards +y.
    right, up = first[..., 1] - second[..., 1], second[..., 0] - first[..., 0]
    tie = jnp.where(right != 0, right, up)[..., None, None]
    sides = jnp.sign(jnp.where(area != 0, area, tie)).astype(jnp.int32) * turn
    weights = area * turn.astype(area.dtype)
    # A degenerate edge has no side; rounding errors must not give it one.
    point = jnp.all(p[..., :2] == q[..., :2], axis=(0, 2))[:, None, None]
    same = (sides[0] == sides[1]) & (sides[1] == sides[2]) & ~point
    total = jnp.sum(weights, axis=0)
    has_area = total != 0
    height = jnp.sum(weights * block[..., 2].T[..., None, None], axis=0)
    # 1 for an upward face: counter-clockwise seen from above.
    return jnp.where(same & has_area, sides[0], 0), height / jnp.where(has_area, total, 1)


def _corner(value, name):
    corner = _checks.as_compute(value, name)
    _checks.check_finite(value, name)
    if corner.shape not in ((), (3,)):
        raise ValueError(f"{name} must be a scalar or have one value per axis, shape (3,), got shape {corner.shape}.")
    return jnp.broadcast_to(corner, (3,))
