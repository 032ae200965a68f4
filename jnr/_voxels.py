"""Which cells of a grid lie inside of a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jnr import _checks
from jnr._geometry import corner_values

Rule = Literal["winding", "parity"]

# Faces crossed with all columns of the grid at a time.
_CHUNK = 64


def voxelize(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    size: int = 32,
    *,
    low: ArrayLike | Sequence[float] = -1.0,
    high: ArrayLike | Sequence[float] = 1.0,
    rule: Rule = "winding",
) -> Bool[Array, "size size size"]:
    """Whether the centre of each cell of a grid lies inside of a mesh.

    Cell (i, j, k) has its centre at `low + (i + 0.5, j + 0.5, k + 0.5) * (high - low) / size`: the first axis is x.
    A centre on the surface itself may fall either way. Parts of the mesh outside of the grid count as they should.

    Through each centre go three rays, up the axes; it is inside where two of them say so. For a closed mesh all
    three agree. For one with holes the majority forgives those that a ray in one direction sees through; a sheet
    has no inside. Works under `jit` and `vmap`; there is no gradient.

    Args:
        vertices: Positions. Faces with a corner that is not finite are passed over.
        faces: Vertex indices of each face.
        size: Cells along each side.
        low: Least coordinates of the grid, one number or one an axis.
        high: Greatest ones.
        rule: `"winding"`: inside is where the surface goes round, so that overlapping parts join, if their faces are
            all turned outwards. `"parity"`: inside is where a ray crosses the surface an odd number of times, whichever
            way faces are turned; where two parts overlap is outside.

    Returns:
        True inside.

    Example:
        >>> ball = jnr.shapes.icosphere(3)
        >>> jnr.voxelize(ball.vertices, ball.faces).mean() * 8  # about 4/3 pi

    References:
        Edelsbrunner and Mücke, Simulation of simplicity, 1990, for rays that meet edges.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(faces, vertices.shape[0])
    size = _checks.as_count(size, "size")
    _checks.check_choice(rule, "rule", ("winding", "parity"))
    low, high = (_corner(value, name).astype(vertices.dtype) for value, name in ((low, "low"), (high, "high")))
    if _checks.is_concrete((low, high)) and not bool(jnp.all(low < high)):
        raise ValueError(f"low must be less than high, got {low.tolist()} and {high.tolist()}.")
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((size, size, size), bool)
    # In the grid's units centres are at whole numbers.
    corners = corner_values((vertices - low) / (high - low) * size - 0.5, faces).swapaxes(0, 1)
    sound = jnp.all(faces >= 0, axis=1) & jnp.all(jnp.isfinite(corners), axis=(1, 2))
    # A point: it has no side.
    corners = jnp.where(sound[:, None, None], corners, 0)
    votes = jnp.zeros((size, size, size), jnp.int32)
    for axis in range(3):
        # Cyclic, so that orientation stays: the ray's axis last.
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        inside = _inside(corners[..., jnp.array(order)], size, rule)
        back = [order.index(k) for k in range(3)]
        votes = votes + jnp.transpose(inside, back).astype(jnp.int32)
    return votes >= 2


def voxel_iou(a: Bool[Array, "*grid"], b: Bool[Array, "*grid"]) -> Float[Array, ""]:
    """Cells in both grids over those in either; 1 where both are empty.

    Raises:
        ValueError: If the shapes differ.
    """
    a, b = jnp.asarray(a, bool), jnp.asarray(b, bool)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {a.shape} and {b.shape}.")
    both, either = (jnp.sum(cells.astype(jnp.float32)) for cells in (a & b, a | b))
    return jnp.where(either > 0, both / jnp.maximum(either, 1), 1)


@partial(jax.jit, static_argnames=("size", "rule"))
def _inside(corners, size, rule):
    """Grid `(size, size, size)` of the centres from which a ray up the last axis says inside."""
    count = corners.shape[0]
    padding = -count % _CHUNK
    blocks = jnp.pad(corners, ((0, padding), (0, 0), (0, 0))).reshape(-1, _CHUNK, 3, 3)
    columns = jnp.indices((size, size), jnp.int32)

    def cross(crossings, block):
        sign, height = _crossings(block, size)
        # Centres 0 to below - 1 of the column lie under the crossing; entry `below` is the first that does not.
        below = jnp.clip(jnp.ceil(height), 0, size).astype(jnp.int32)
        row, column = (jnp.broadcast_to(index, below.shape) for index in columns)
        return crossings.at[row, column, below].add(sign, mode="drop"), None

    crossings, _ = lax.scan(cross, jnp.zeros((size, size, size + 1), jnp.int32), blocks)
    above = jnp.flip(jnp.cumsum(jnp.flip(crossings, -1), axis=-1), -1)[..., 1:]
    return above != 0 if rule == "winding" else above % 2 != 0


def _crossings(block, size):
    """For each face and column whether the face goes up (1), down (-1) or not (0) through it, and how high."""
    center = jnp.arange(size, dtype=block.dtype)
    # Edges from corner p to corner q, as (edge, faces). All in one operation: both faces of an edge must get the same
    # numbers, and a compiler may contract a product and a sum in one place and not in another.
    p, q = (jnp.stack([block[:, (k + step) % 3] for k in range(3)]) for step in (1, 2))
    # Ends in an order that both faces agree on, so that their numbers are the same but for the sign.
    swap = (q[..., 0] < p[..., 0]) | ((q[..., 0] == p[..., 0]) & (q[..., 1] < p[..., 1]))
    first, second = jnp.where(swap[..., None], q, p), jnp.where(swap[..., None], p, q)
    turn = jnp.where(swap, -1, 1)[..., None, None]
    (x0, y0), (x1, y1) = ((end[..., 0, None] - center, end[..., 1, None] - center) for end in (first, second))
    area = x0[..., :, None] * y1[..., None, :] - y0[..., None, :] * x1[..., :, None]  # (edge, faces, size, size)
    # Column on the line of an edge: as if it stood a little to the right and far less up.
    right, up = first[..., 1] - second[..., 1], second[..., 0] - first[..., 0]
    tie = jnp.where(right != 0, right, up)[..., None, None]
    sides = jnp.sign(jnp.where(area != 0, area, tie)).astype(jnp.int32) * turn
    weights = area * turn.astype(area.dtype)
    # A point has no side, whatever rounding says.
    point = jnp.all(p[..., :2] == q[..., :2], axis=(0, 2))[:, None, None]
    same = (sides[0] == sides[1]) & (sides[1] == sides[2]) & ~point
    total = jnp.sum(weights, axis=0)
    whole = total != 0
    height = jnp.sum(weights * block[..., 2].T[..., None, None], axis=0)
    # One sign for an upward face: counter-clockwise seen from above.
    return jnp.where(same & whole, sides[0], 0), height / jnp.where(whole, total, 1)


def _corner(value, name):
    corner = _checks.as_compute(value, name)
    if corner.shape not in ((), (3,)):
        raise ValueError(f"{name} must be a number or have one for each of the 3 axes, got shape {corner.shape}.")
    return jnp.broadcast_to(corner, (3,))
