"""Calls kernels from JAX: through jax-triton on a GPU, or through Triton's interpreter on the CPU.

README.md, "Versions", lists the versions of jax-triton that work and their differences.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import math
import os
import threading
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

INSTALL = 'pip install "jnr[cuda]" installs versions that work together.'
# The interpreter runs programs one after the other, so more of them are not faster.
INTERPRETED_PROGRAMS = 2
# By default Triton writes PTX for its own assembler, but jaxlib's assembles it. This is the version of CUDA 12.9.
PTX_VERSION = 88

_mode = threading.local()
# The interpreter replaces functions of triton.language while it runs.
_interpreter_lock = threading.Lock()


@contextlib.contextmanager
def interpreted():
    """Kernels called while tracing in this context run through Triton's interpreter."""
    with _set_mode("interpreted", True):
        yield


@contextlib.contextmanager
def compile_for(compute_capability: int):
    """Kernels called while lowering in this context are compiled for this GPU, 90 being 9.0; needs no GPU."""
    with _set_mode("compute_capability", compute_capability):
        yield


@contextlib.contextmanager
def _set_mode(name, value):
    before = getattr(_mode, name, None)
    setattr(_mode, name, value)
    try:
        yield
    finally:
        setattr(_mode, name, before)


def persistent(programs: int) -> int:
    """Number of programs of a kernel whose programs stride over work, the amount of which they read from memory."""
    return INTERPRETED_PROGRAMS if getattr(_mode, "interpreted", None) else programs


def batch_step(array: jax.Array, width: int = 1) -> int:
    """Number of groups of `width` elements from one item of a batch to the next, 0 if they share the operand."""
    return math.prod(array.shape[1:]) // width if array.shape[0] > 1 else 0


def is_deterministic() -> bool:
    """Whether XLA's flags request deterministic results. Sums by float32 atomics are not deterministic."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):  # the name of a file that holds them
        flags = Path(flags).read_text() if Path(flags).is_file() else ""
    # XLA takes `--flag`, `=true` in any case, and `=1`, with or without quotes. The last of several counts.
    values = {name: value for name, _, value in (flag.partition("=") for flag in flags.split())}
    names = ("--xla_gpu_deterministic_ops", "--xla_gpu_exclude_nondeterministic_ops")
    return any(values.get(name, "0").strip("'\"").lower() in ("", "true", "1") for name in names)


def check_float32(*arrays: jax.Array) -> None:
    """Raises unless all arrays are float32."""
    for array in arrays:
        if array.dtype != jnp.float32:
            raise NotImplementedError(
                f'The Triton kernels compute in float32, got {array.dtype}. Use backend="xla" or None.'
            )


def call(
    kernel: Any,
    *args: jax.Array | int | float,
    results: Sequence[jax.ShapeDtypeStruct],
    programs: int,
    warps: int,
    zeroed: Sequence[int] = (),
    **constants: Any,
) -> Sequence[jax.Array]:
    """Calls a kernel whose parameters are `args`, then the results, then the constants by name.

    Results are uninitialized before the kernel runs, except those listed in `zeroed`. Products and sums are not
    contracted, so that the kernels agree with the plain-JAX definitions about pixels at edges.
    """
    if getattr(_mode, "interpreted", None):
        return _call_interpreter(kernel, args, tuple(results), programs, tuple(zeroed), constants)
    api = _jax_triton()
    capability = getattr(_mode, "compute_capability", None) or _machine_capability()
    if api.is_old:
        # A Python float would be a double in the kernel.
        args = [np.float32(arg) if isinstance(arg, float) else arg for arg in args]
        options = {"out_shape": list(results), "enable_fp_fusion": False}
    else:
        backend_options = {"enable_fp_fusion": False, "ptx_version": PTX_VERSION}
        options = {"out_type": list(results), "backend_options": backend_options}
    with warnings.catch_warnings():
        # 0.4 recommends zeros passed as a mutable reference instead, which 0.3 does not support.
        warnings.filterwarnings("ignore", message="zeroed_outputs is deprecated", category=DeprecationWarning)
        return api.triton_call(
            *args,
            kernel=kernel,
            grid=(programs,),
            num_warps=warps,
            num_stages=1,
            zeroed_outputs=tuple(zeroed),
            compute_capability=capability,
            **options,
            **constants,
        )


class _JaxTriton:
    def __init__(self, module, version):
        self.triton_call = module.triton_call
        self.is_old = version < (0, 4)


@functools.cache
def _jax_triton() -> _JaxTriton:
    cache = os.environ.get("TRITON_CACHE_DIR")
    try:
        module = importlib.import_module("jax_triton")
        version = tuple(int(part) for part in importlib.metadata.version("jax-triton").split(".")[:2])
        if not (0, 3) <= version < (0, 5):
            raise ImportError(f"jax-triton {'.'.join(map(str, version))} is not one of 0.3 and 0.4")
        if version >= (0, 4) and _version("triton") < (3, 7):
            raise ImportError("jax-triton 0.4 needs triton 3.7 or later")
        if version >= (0, 4) and _version("jax") >= (0, 12):
            raise ImportError("jax-triton 0.4 needs a jax before 0.12")
        if version < (0, 4) and _version("triton") >= (3, 9) and (0, 0) < _version("nvidia-cuda-nvcc") < (13, 4):
            # jax-triton 0.3 cannot request another version of PTX.
            raise ImportError("jax-triton 0.3 with triton 3.9 needs nvidia-cuda-nvcc 13.4, which reads its PTX")
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"The Triton kernels cannot be called from JAX here: {error}. Found {versions()}. {INSTALL}"
        ) from error
    finally:
        # jax-triton clears the variable. Restored, because Triton reads it for everyone else in the process.
        os.environ.pop("TRITON_CACHE_DIR", None) if cache is None else os.environ.update(TRITON_CACHE_DIR=cache)
    return _JaxTriton(module, version)


def _version(package):
    """Major and minor number of a package, zeros if it is not installed."""
    try:
        return tuple(int(part) for part in importlib.metadata.version(package).split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        return 0, 0


def versions() -> str:
    """The installed versions of the packages that the kernels need, for messages."""
    found = []
    for package in ("jax", "jax-triton", "triton", "nvidia-cuda-nvcc"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def _machine_capability():
    """Compute capability of this machine's GPUs. JAX lowers a program once for all of them, so they must be alike."""
    try:
        found = {device.compute_capability for device in jax.local_devices(backend="cuda")}
    except RuntimeError:
        found = set()
    if not found:
        raise NotImplementedError(
            "The Triton kernels are compiled for the GPU of this machine, and it has none. Use "
            "jnr.triton_kernels.launch.compile_for to lower for a GPU that is elsewhere."
        )
    if len(found) > 1:
        raise NotImplementedError(
            f"The Triton kernels are compiled for one kind of GPU, and this machine has {' and '.join(sorted(found))}. "
            "Let CUDA_VISIBLE_DEVICES name GPUs of one kind, or use jnr.triton_kernels.launch.compile_for."
        )
    return int(found.pop().replace(".", ""))


def _call_interpreter(kernel, args, results, programs, zeroed, constants):
    is_array = [isinstance(arg, jax.Array) for arg in args]

    def run(*arrays):
        values = iter(np.ascontiguousarray(array) for array in arrays)
        operands = [next(values) if array else arg for array, arg in zip(is_array, args, strict=True)]
        # All bits set: NaN as a float, -1 as an integer. So tests detect elements that a kernel does not write.
        outputs = [np.zeros(r.shape, r.dtype) for r in results]
        for i, output in enumerate(outputs):
            if i not in zeroed:
                output.view(np.uint8)[...] = 255
        tensors = [_Tensor(o) if isinstance(o, np.ndarray) and o.ndim else o for o in (*operands, *outputs)]
        with _interpreter_lock, _interpreted_language(), np.errstate(all="ignore"):
            InterpretedFunction(_interpretable(kernel.fn))[(programs,)](*tensors, **constants)
        return outputs

    arrays = [arg for arg, array in zip(args, is_array, strict=True) if array]
    return jax.pure_callback(run, list(results), *arrays)


@functools.cache
def _interpretable(function):
    """A copy of a kernel's Python function whose globals hold interpretable helpers."""
    names = dict(function.__globals__)
    own = not function.__module__.startswith("triton.")
    for name, value in function.__globals__.items():
        # Triton passes its private ones to reductions, which compare them with the originals.
        if isinstance(value, triton.JITFunction) and (own or not name.startswith("_")):
            names[name] = _Helper(value)
    # The interpreter patches the modules under these names; Triton's own functions use the second.
    names |= {"tl": tl, "core": tl.core}
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__annotations__, copy.__kwdefaults__ = function.__annotations__, function.__kwdefaults__
    return copy


class _Helper:
    """A `triton.jit` function that interpreted kernels can call."""

    def __init__(self, original):
        self.fn = original.fn

    def __call__(self, *args, **kwargs):
        return _rewritten(self.fn)(*args, **kwargs)


@functools.cache
def _rewritten(function):
    return InterpretedFunction(_interpretable(function)).rewrite()


@contextlib.contextmanager
def _interpreted_language():
    """Lets interpreted kernels call the `triton.jit` functions of `triton.language`, such as `tl.sum`."""
    originals = {name: value for name, value in vars(tl).items() if isinstance(value, triton.JITFunction)}
    for name, value in originals.items():
        setattr(tl, name, _Helper(value))
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(tl, name, value)


class _Tensor:
    """A NumPy array with the methods of a torch tensor that Triton's interpreter calls."""

    def __init__(self, array):
        self.array = array

    @property
    def dtype(self):
        return self.array.dtype

    def data_ptr(self):
        return self.array.ctypes.data

    def untyped_storage(self):
        return self

    def cpu(self):
        return self

    def copy_(self, other):
        assert other.array is self.array

    def new_empty(self, *_, **__):
        return _Tensor(self.array)

    def set_(self, storage, *_):
        self.array = storage.array

    def storage_offset(self):
        return 0

    def size(self):
        return self.array.shape

    def stride(self):
        return tuple(s // self.array.itemsize for s in self.array.strides)
