"""Homogeneous pixel-space geometry that the kernels share; jnr/_ops/pixel_space.py has the conventions."""

import triton
import triton.language as tl


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
def to_column(x, w, width):
    """Pixel-space x from clip x and w."""
    return ((x + w) * width - w) * 0.5


@triton.jit
def to_row(y, w, height):
    """Pixel-space y from clip y and w; rows grow downwards."""
    return ((w - y) * height - w) * 0.5


@triton.jit
def edge_function(px, py, pw, qx, qy, qw, swap):
    """Coefficients of `a x + b y + c`, positive on the inner side of edge p -> q of a front face.

    The products are formed in an order of the vertices that both faces of an edge share; the sign comes after.
    """
    ax, bx = tl.where(swap, qx, px), tl.where(swap, px, qx)
    ay, by = tl.where(swap, qy, py), tl.where(swap, py, qy)
    aw, bw = tl.where(swap, qw, pw), tl.where(swap, pw, qw)
    outward = tl.where(swap, 1.0, -1.0)
    return outward * (ay * bw - aw * by), outward * (aw * bx - ax * bw), outward * (ax * by - ay * bx)


@triton.jit
def power_of_two_scale(x0, y0, w0, x1, y1, w1, x2, y2, w2):
    """A power of two that brings the largest of the absolute values near 1: an exact rescaling."""
    largest = tl.maximum(tl.maximum(tl.abs(x0), tl.abs(y0)), tl.abs(w0))
    largest = tl.maximum(tl.maximum(largest, tl.abs(x1)), tl.maximum(tl.abs(y1), tl.abs(w1)))
    largest = tl.maximum(tl.maximum(largest, tl.abs(x2)), tl.maximum(tl.abs(y2), tl.abs(w2)))
    # 2**-126 and 2**126: outside, the exponent's field alone is no power of two with an inverse.
    largest = tl.minimum(tl.maximum(largest, 1.1754943508222875e-38), 8.507059173023462e37)
    exponent = largest.to(tl.int32, bitcast=True) & 0x7F800000
    return (0x7F000000 - exponent).to(tl.float32, bitcast=True)
