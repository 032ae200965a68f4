"""Barycentrics as Triton kernels. jnr/_ops/barycentrics/README.md derives them."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from jnr._ops.barycentrics import definition
from jnr.triton_kernels import gather, launch
from jnr.triton_kernels.geometry import power_of_two_scale, to_column, to_row

# Pixels per program of one warp.
BLOCK = 32


def barycentrics(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """Arguments and result as in jnr/_ops/barycentrics/definition.py."""
    launch.check_float32(clip_positions)
    batch, (height, width) = max(map(len, (clip_positions, faces, face_index))), face_index.shape[1:]
    result = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    num_vertices, num_faces = clip_positions.shape[1], faces.shape[1]
    if 0 in (*result.shape, num_vertices, num_faces):
        return jnp.zeros(result.shape, result.dtype)
    blocks = -(-height * width // BLOCK)
    (out,) = launch.call(
        barycentrics_kernel,
        clip_positions,
        faces,
        face_index,
        *map(launch.batch_step, (clip_positions, faces, face_index)),
        height,
        width,
        num_vertices,
        num_faces,
        blocks,
        results=[result],
        programs=batch * blocks,
        warps=1,
        BLOCK=BLOCK,
    )
    return out


def barycentrics_bwd(
    cotangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, sums: int
) -> jax.Array:
    """Arguments and result as in jnr/_ops/barycentrics/definition.py. The sum over the pixels is the kernel."""
    return definition.barycentrics_bwd(
        cotangent, clip_positions, faces, face_index, sums=sums, scatter_add=gather.scatter_add
    )


@triton.jit
def _corner(clip_ptr, face_ptr, corner, height, width, num_vertices, covered):
    """Pixel-space x, y and w of a corner of the faces."""
    vertex = tl.load(face_ptr + corner, mask=covered, other=0)
    vertex_ptr = clip_ptr + tl.minimum(tl.maximum(vertex, 0), num_vertices - 1).to(tl.int64) * 4
    x = tl.load(vertex_ptr, mask=covered, other=0.0)
    y = tl.load(vertex_ptr + 1, mask=covered, other=0.0)
    w = tl.load(vertex_ptr + 3, mask=covered, other=1.0)
    return to_column(x, w, width), to_row(y, w, height), w


@triton.jit
def barycentrics_kernel(
    clip_ptr,
    faces_ptr,
    face_index_ptr,
    clip_step,
    faces_step,
    face_index_step,
    height,
    width,
    num_vertices,
    num_faces,
    blocks,
    out_ptr,
    BLOCK: tl.constexpr,
):
    """Perspective-correct barycentrics of a block of pixels, zero on background."""
    item = tl.program_id(0) // blocks
    pixel = (tl.program_id(0) - item * blocks) * BLOCK + tl.arange(0, BLOCK)
    item = item.to(tl.int64)
    exists = pixel < height * width
    row = pixel // width
    face = tl.load(face_index_ptr + item * face_index_step + pixel, mask=exists, other=-1)
    covered = (face >= 0) & (face < num_faces)
    clip_ptr += item * clip_step
    face_ptr = faces_ptr + item * faces_step + face.to(tl.int64) * 3
    x0, y0, w0 = _corner(clip_ptr, face_ptr, 0, height, width, num_vertices, covered)
    x1, y1, w1 = _corner(clip_ptr, face_ptr, 1, height, width, num_vertices, covered)
    x2, y2, w2 = _corner(clip_ptr, face_ptr, 2, height, width, num_vertices, covered)

    # Corners relative to the pixel, scaled near 1.
    scale = power_of_two_scale(x0, y0, w0, x1, y1, w1, x2, y2, w2)
    u, v = (pixel - row * width).to(tl.float32), row.to(tl.float32)
    w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
    x0, x1, x2 = x0 * scale - u * w0, x1 * scale - u * w1, x2 * scale - u * w2
    y0, y1, y2 = y0 * scale - v * w0, y1 * scale - v * w1, y2 * scale - v * w2

    # The weights are 3 x 3 minors, normalized twice as in the definition.
    m0, m1, m2 = x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1
    total = m0 + m1 + m2
    valid = covered & (total != 0)
    inverse = tl.div_rn(1.0, tl.where(valid, total, 1.0))
    m0, m1, m2 = m0 * inverse, m1 * inverse, m2 * inverse
    total = tl.where(valid, m0 + m1 + m2, 1.0)
    b0, b1, b2 = tl.div_rn(m0, total), tl.div_rn(m1, total), tl.div_rn(m2, total)
    b0 = tl.where(valid & (b0 > 0), b0, 0.0)
    b1 = tl.where(valid & (b1 > 0), b1, 0.0)
    b2 = tl.where(valid & (b2 > 0), b2, 0.0)
    total = b0 + b1 + b2
    total = tl.where(total > 0, total, 1.0)
    out_ptr += (item * height * width + pixel) * 3
    tl.store(out_ptr, tl.div_rn(b0, total), mask=exists)
    tl.store(out_ptr + 1, tl.div_rn(b1, total), mask=exists)
    tl.store(out_ptr + 2, tl.div_rn(b2, total), mask=exists)
