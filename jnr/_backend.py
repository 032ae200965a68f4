"""Which implementation of an op runs."""

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Literal, get_args

from jnr._ops import cpp

Backend = Literal["xla", "cpu", "triton", "interpret"]

# Modules that a backend needs beside jax.
NEEDS = {"triton": ("triton", "jax_triton"), "interpret": ("triton",)}
INSTALL = 'pip install "jnr[cuda]" installs versions that work together; backend="xla" or None needs neither.'


def check_backend(backend: str | None) -> None:
    """Raises if `backend` is not the name of a backend, or if a package that it needs is not installed."""
    if not (backend is None or (isinstance(backend, str) and backend in get_args(Backend))):
        raise ValueError(f"backend must be None or one of {', '.join(get_args(Backend))}, got {backend!r}.")
    if backend == "cpu" and not has_cpu_kernels():
        raise ImportError(
            'backend="cpu" needs the compiled kernels, and this jnr was installed without a C++ compiler. Reinstall it '
            'with one at hand, or use backend="xla" or None.'
        )
    missing = [name.replace("_", "-") for name in NEEDS.get(backend or "", ()) if not _installed(name)]
    if missing:
        raise ImportError(f"backend={backend!r} needs {' and '.join(missing)}, not installed here. {INSTALL}")


def has_cpu_kernels() -> bool:
    """Whether the kernels for the CPU were compiled when jnr was installed."""
    return cpp.library() is not None


def has_triton() -> bool:
    """Whether the packages that the Triton kernels need are installed, whether or not they work."""
    return all(map(_installed, NEEDS["triton"]))


@functools.cache
def warn_of_missing_triton() -> None:
    """Warns, once per process, that plain JAX runs on an NVIDIA GPU where the Triton kernels would."""
    missing = " and ".join(name.replace("_", "-") for name in NEEDS["triton"] if not _installed(name))
    warnings.warn(
        f"jnr runs plain JAX on this GPU, since {missing} is missing. Programs compile and run much longer than with "
        'the Triton kernels. pip install "jnr[cuda]" installs what they need; backend="xla" asks for plain JAX.',
        stacklevel=2,
    )


def load_launch_function(file: str, name: str) -> Callable:
    """A function of a module of `jnr.triton_kernels`."""
    try:
        return getattr(importlib.import_module(f"jnr.triton_kernels.{file}"), name)
    except (ImportError, AttributeError, OSError) as error:
        raise ImportError(f"The Triton kernels cannot be loaded: {error}. {INSTALL}") from error


def interpreted():
    """Context in which launch functions run through Triton's interpreter."""
    return load_launch_function("launch", "interpreted")()


def _installed(name):
    return importlib.util.find_spec(name) is not None
