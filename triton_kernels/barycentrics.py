"""Barycentrics as Triton kernels. jnr/_ops/barycentrics/README.md derives them."""

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from jnr._ops.barycentrics import definition
from jnr.triton_kernels import gather, launch
from jnr.triton_kernels.geometry import load_point, load_vertex, power_of_two_scale, relative_to

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
def _load_corner(clip_ptr, face_ptr, corner, height, width, num_vertices, covered):
    """Pixel-space point of a corner of the faces."""
    vertex = load_vertex(face_ptr, corner, num_vertices, covered)
    return load_point(clip_ptr + vertex.to(tl.int64) * 4, height, width, covered)


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
    p0 = _load_corner(clip_ptr, face_ptr, 0, height, width, num_vertices, covered)
    p1 = _load_corner(clip_ptr, face_ptr, 1, height, width, num_vertices, covered)
    p2 = _load_corner(clip_ptr, face_ptr, 2, height, width, num_vertices, covered)

    # Relative to the pixel, so that no digits are lost far from the image's corner.
    scale = power_of_two_scale(p0, p1, p2)
    u, v = (pixel - row * width).to(tl.float32), row.to(tl.float32)
    p0, p1, p2 = relative_to(p0, u, v, scale), relative_to(p1, u, v, scale), relative_to(p2, u, v, scale)

    # The weights are 3 x 3 minors, normalized twice as in the definition.
    m0, m1, m2 = p1.x * p2.y - p1.y * p2.x, p2.x * p0.y - p2.y * p0.x, p0.x * p1.y - p0.y * p1.x
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
