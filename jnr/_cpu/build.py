"""How setuptools compiles the kernels. Not part of the library; imported when jnr is built."""

import importlib.util
from pathlib import Path

from setuptools.command.build_ext import build_ext

# Products and sums stay apart, so that every processor gives the same bits.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]


class BuildKernels(build_ext):
    """Compiles against the headers of the jaxlib that is there: XLA loads calls of its own and of older versions."""

    def build_extension(self, ext):
        """Adds what pyproject.toml cannot say. Without jaxlib or a compiler jnr is installed without kernels."""
        jaxlib = importlib.util.find_spec("jaxlib")
        if jaxlib is None or jaxlib.origin is None:
            self.warn("jaxlib is not installed: building without kernels for the CPU")
            return
        ext.include_dirs.append(str(Path(jaxlib.origin).parent / "include"))
        ext.extra_compile_args += FLAGS
        super().build_extension(ext)

    def get_export_symbols(self, ext):
        """None: the library is no Python module, it is loaded with ctypes."""
        return []
