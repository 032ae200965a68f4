"""Homogeneous pixel-space geometry that the kernels share. jnr/_ops/pixel_space.py states the conventions."""

from typing import NamedTuple

import triton
import triton.language as tl


class Point(NamedTuple):
    """A point in pixel space: x / w is a column and y / w a row."""

    x: tl.tensor
    y: tl.tensor
    w: tl.tensor


class Linear(NamedTuple):
    """The function `a x + b y + c` of a column x and a row y."""

    a: tl.tensor
    b: tl.tensor
    c: tl.tensor


@triton.jit
def is_finite(value):
    # False for NaN too.
    return tl.abs(value) <= 3.4028234663852886e38


@triton.jit
def minimum(a, b):
    # NaN wins, as in jnp.minimum: a face with NaN must not pass a comparison.
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, value))


@triton.jit
def pixel_space(x, y, w, height, width):
    """The pixel-space point of a clip-space position; rows grow downwards."""
    return Point(((x + w) * width - w) * 0.5, ((w - y) * height - w) * 0.5, w)


@triton.jit
def load_vertex(face_ptr, corner, num_vertices, mask):
    """The vertex of a corner of the faces that pixels see."""
    vertex = tl.load(face_ptr + corner, mask=mask, other=0)
    # The rasterizer yields valid faces only, but a caller's `face_index` may not. Clamped, no address is out of range.
    return tl.minimum(tl.maximum(vertex, 0), num_vertices - 1)


@triton.jit
def load_point(vertex_ptr, height, width, mask):
    """The pixel-space point of a vertex from a pointer to its clip position."""
    x = tl.load(vertex_ptr, mask=mask, other=0.0)
    y = tl.load(vertex_ptr + 1, mask=mask, other=0.0)
    w = tl.load(vertex_ptr + 3, mask=mask, other=1.0)
    return pixel_space(x, y, w, height, width)


@triton.jit
def power_of_two_scale(p0, p1, p2):
    """A power of two that brings the largest of the absolute values near 1: an exact rescaling."""
    largest = tl.maximum(tl.maximum(tl.abs(p0.x), tl.abs(p0.y)), tl.abs(p0.w))
    largest = tl.maximum(tl.maximum(largest, tl.abs(p1.x)), tl.maximum(tl.abs(p1.y), tl.abs(p1.w)))
    largest = tl.maximum(tl.maximum(largest, tl.abs(p2.x)), tl.maximum(tl.abs(p2.y), tl.abs(p2.w)))
    # 2**-126 and 2**126: outside, the exponent's field alone is no power of two with an inverse.
    largest = tl.minimum(tl.maximum(largest, 1.1754943508222875e-38), 8.507059173023462e37)
    exponent = largest.to(tl.int32, bitcast=True) & 0x7F800000
    return (0x7F000000 - exponent).to(tl.float32, bitcast=True)


@triton.jit
def relative_to(point, column, row, scale):
    """The point in units of 1 / scale, with a pixel as the origin: its column and row become 0."""
    w = point.w * scale
    return Point(point.x * scale - column * w, point.y * scale - row * w, w)


@triton.jit
def cross(p, q):
    """The cross product of two points: a linear function that is zero on their line.

    Faces that share an edge form it from the same points in the same order. So they get the same numbers, and no pixel
    on the edge is missed by both.
    """
    return Linear(p.y * q.w - p.w * q.y, p.w * q.x - p.x * q.w, p.x * q.y - p.y * q.x)


@triton.jit
def precedes(p, q):
    """Whether a point comes before another in the order of positions."""
    return (p.x < q.x) | ((p.x == q.x) & ((p.y < q.y) | ((p.y == q.y) & (p.w < q.w))))
