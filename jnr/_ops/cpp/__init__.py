"""The C++ kernels: custom calls of XLA's foreign function interface, compiled when jnr is installed.

Each op has its kernels in its own folder. This folder holds what they share (vectors, threads, buffers) and how they
are compiled and found.
"""

import ctypes
import functools
import importlib.machinery
from pathlib import Path

import jax


@functools.cache
def library() -> Path | None:
    """Path of the compiled kernels, None where jnr was installed without them."""
    candidates = (Path(__file__).parent / f"_kernels{s}" for s in importlib.machinery.EXTENSION_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def target(op: str, dtype: str) -> str:
    """Name of an op's custom call, which XLA knows from now on."""
    name = f"jnr_{op}_{dtype}"
    try:
        function = getattr(_load(), name)
    except (OSError, AttributeError) as error:
        raise ImportError(f"The kernels for the CPU cannot be loaded: {error}. Reinstall jnr.") from error
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    return name


@functools.cache
def _load():
    return ctypes.CDLL(str(library()))
