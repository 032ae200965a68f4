"""The point of its face that each pixel sees."""

from __future__ import annotations

from functools import partial

import jax
from jax.interpreters import ad

from jnr import _cpu
from jnr._backend import Backend
from jnr._ops._primitive import batched_primitive, vary_alike
from jnr._ops.rows import take_rows
from jnr._program import program
from jnr._xla import resolve as xla


def _shape(*operands, **_):
    *_, face_index = operands
    return (*face_index.shape[1:], 3), operands[0].dtype


resolve_p = batched_primitive("jnr_resolve", xla.resolve, _shape, cpu=_cpu.resolve, split=False)
resolve_tangent_p = batched_primitive("jnr_resolve_tangent", xla.resolve_tangent, _shape, split=False)
resolve_bwd_p = batched_primitive(
    "jnr_resolve_bwd",
    xla.resolve_bwd,
    lambda cotangent, clip_positions, *_, **__: (clip_positions.shape[1:], cotangent.dtype),
    cpu=_cpu.resolve_bwd,
    kernels=("rows", "resolve_bwd"),
    split=False,
)


@program("backend")
def resolve(
    clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, backend: Backend | None = None
) -> jax.Array:
    """Perspective-correct barycentrics at each pixel, zero on background.

    Gradients: reach `clip_positions`, in any mode and order.

    Args:
        clip_positions: `(vertices, 4)`.
        faces: `(faces, 3)`.
        face_index: `(height, width)`, -1 on background.
        backend: `"xla"`, `"cpu"`, or another, which is plain JAX here, or None to choose by platform.

    Returns:
        `(height, width, 3)`.
    """
    operands = vary_alike(clip_positions, faces, face_index)
    return resolve_p.bind(*(operand[None] for operand in operands), backend=backend)[0]


def face_corners(faces: jax.Array, face_index: jax.Array, *, backend: Backend | None = None) -> jax.Array:
    """Vertex index of each corner of the face a pixel sees, `(height, width, 3)`; -1 on background."""
    return take_rows(faces, face_index, backend=backend)


def _resolve_jvp(primals, tangents, **params):
    tangent = ad.instantiate_zeros(tangents[0])
    return resolve_p.bind(*primals, **params), resolve_tangent_p.bind(tangent, *primals, **params)


def _tangent_transpose(cotangent, tangent, *primals, backend):
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(tangent.aval), None, None, None
    sums = tangent.aval.shape[0]
    return resolve_bwd_p.bind(cotangent, *primals, sums=sums, backend=backend), None, None, None


def _plain_jvp(function, primals, tangents, *, backend, **params):
    """Derivatives beyond the first are those of plain JAX."""
    del backend
    (first, clip_positions, *rest), (first_tangent, clip_tangent, *_) = primals, tangents
    return jax.jvp(
        lambda *moved: function(*moved, *rest, **params),
        (first, clip_positions),
        tuple(map(ad.instantiate_zeros, (first_tangent, clip_tangent))),
    )


ad.primitive_jvps[resolve_p] = _resolve_jvp
ad.primitive_jvps[resolve_tangent_p] = partial(_plain_jvp, xla.resolve_tangent)
ad.primitive_jvps[resolve_bwd_p] = partial(_plain_jvp, xla.resolve_bwd)
ad.primitive_transposes[resolve_tangent_p] = _tangent_transpose
