"""The ops as C++ kernels for the CPU, custom calls of XLA's foreign function interface.

They are compiled when jnr is installed where there is a C++ compiler. What they compute is defined by jnr/_xla, whose
functions they stand in for.
"""

import ctypes
import functools
import importlib.machinery
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jnr._xla import rows as rows_xla

CULL = {None: 0, "back": 1, "front": 2}
FLOATS = ("float32", "float64")
KERNELS = {
    "rasterize": FLOATS,
    "edge_sweep_bwd": FLOATS,
    "resolve": FLOATS,
    "resolve_bwd": FLOATS,
    "take_rows": (*FLOATS, "int32"),
    "add_rows": FLOATS,
    "blend_rows": FLOATS,
    "spread_rows": FLOATS,
    "match_rows": FLOATS,
}


@functools.cache
def library() -> Path | None:
    """The compiled kernels, None where jnr was installed without them."""
    candidates = (Path(__file__).parent / f"_kernels{s}" for s in importlib.machinery.EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def register() -> None:
    """Makes the kernels known to XLA, once."""
    try:
        kernels = ctypes.CDLL(str(library()))
        for name, dtypes in KERNELS.items():
            for dtype in dtypes:
                target = f"jnr_{name}_{dtype}"
                jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(kernels, target)), platform="cpu")
    except (OSError, AttributeError) as error:
        raise ImportError(f"The kernels for the CPU cannot be loaded: {error}. Reinstall jnr.") from error


def rasterize(clip_positions: jax.Array, faces: jax.Array, *, height: int, width: int, cull: str | None) -> jax.Array:
    """As `jnr._xla.rasterize.rasterize`."""
    register()
    batch = max(clip_positions.shape[0], faces.shape[0])
    result = jax.ShapeDtypeStruct((batch, height, width), jnp.int32)
    call = jax.ffi.ffi_call(f"jnr_rasterize_{clip_positions.dtype}", result)
    return call(clip_positions, faces, cull=np.int64(CULL[cull]))


def edge_sweep_bwd(
    image: jax.Array,
    cotangent: jax.Array,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    *,
    eps: float,
    deterministic: bool = False,
) -> jax.Array:
    """As `jnr._xla.edge_sweep.edge_sweep_bwd`; the order of additions is fixed."""
    del deterministic
    register()
    operands = image, cotangent, clip_positions, faces, face_index
    batch = max(operand.shape[0] for operand in operands)
    result = jax.ShapeDtypeStruct((batch, *clip_positions.shape[1:]), clip_positions.dtype)
    return jax.ffi.ffi_call(f"jnr_edge_sweep_bwd_{clip_positions.dtype}", result)(*operands, eps=np.float64(eps))


def resolve(clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array) -> jax.Array:
    """As `jnr._xla.resolve.resolve`."""
    register()
    operands = clip_positions, faces, face_index
    batch = max(operand.shape[0] for operand in operands)
    result = jax.ShapeDtypeStruct((batch, *face_index.shape[1:], 3), clip_positions.dtype)
    return jax.ffi.ffi_call(f"jnr_resolve_{clip_positions.dtype}", result)(*operands)


def resolve_bwd(
    cotangent: jax.Array, clip_positions: jax.Array, faces: jax.Array, face_index: jax.Array, *, sums: int
) -> jax.Array:
    """As `jnr._xla.resolve.resolve_bwd`; the order of additions is fixed."""
    register()
    result = jax.ShapeDtypeStruct((sums, *clip_positions.shape[1:]), clip_positions.dtype)
    call = jax.ffi.ffi_call(f"jnr_resolve_bwd_{clip_positions.dtype}", result)
    return call(cotangent, clip_positions, faces, face_index)


def take_rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """As `jnr._xla.rows.take_rows`."""
    if table.dtype not in KERNELS["take_rows"]:
        return rows_xla.take_rows(table, index)
    register()
    batch = max(table.shape[0], index.shape[0])
    result = jax.ShapeDtypeStruct((batch, index.shape[1], table.shape[2]), table.dtype)
    return jax.ffi.ffi_call(f"jnr_take_rows_{table.dtype}", result)(table, index)


def add_rows(values: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """As `jnr._xla.rows.add_rows`; the order of additions is fixed."""
    if values.dtype not in KERNELS["add_rows"]:
        return rows_xla.add_rows(values, index, rows=rows, sums=sums)
    register()
    result = jax.ShapeDtypeStruct((sums, rows, values.shape[2]), values.dtype)
    return jax.ffi.ffi_call(f"jnr_add_rows_{values.dtype}", result)(values, index)


def blend_rows(table: jax.Array, weights: jax.Array, index: jax.Array) -> jax.Array:
    """As `jnr._xla.rows.blend_rows`."""
    register()
    batch = max(operand.shape[0] for operand in (table, weights, index))
    result = jax.ShapeDtypeStruct((batch, index.shape[1], table.shape[2]), table.dtype)
    return jax.ffi.ffi_call(f"jnr_blend_rows_{table.dtype}", result)(table, weights, index)


def spread_rows(values: jax.Array, weights: jax.Array, index: jax.Array, *, rows: int, sums: int) -> jax.Array:
    """As `jnr._xla.rows.spread_rows`; the order of additions is fixed."""
    register()
    result = jax.ShapeDtypeStruct((sums, rows, values.shape[2]), values.dtype)
    return jax.ffi.ffi_call(f"jnr_spread_rows_{values.dtype}", result)(values, weights, index)


def match_rows(values: jax.Array, table: jax.Array, index: jax.Array, *, weights: int) -> jax.Array:
    """As `jnr._xla.rows.match_rows`."""
    register()
    batch = max(operand.shape[0] for operand in (values, table, index))
    result = jax.ShapeDtypeStruct((batch, index.shape[1], weights), values.dtype)
    return jax.ffi.ffi_call(f"jnr_match_rows_{values.dtype}", result)(values, table, index)
