"""How setuptools compiles the C++ kernels. Not part of the library; imported when jnr is built."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools.command.build_ext import build_ext

# Products and sums are not contracted, so that every processor computes the same bits. No function with a vector
# argument or result is called across object files, so GCC's warnings about their ABI do not apply.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
FLAGS += ["-Wno-psabi"]


def _is_small(source):
    return not Path(source).name.startswith("kernels")


class BuildKernels(build_ext):
    """Compiles against the headers of the installed jax: XLA loads custom calls of its own and of older versions."""

    def finalize_options(self):
        """Makes the headers part of the source distribution, and a change of one a reason to compile again."""
        super().finalize_options()
        headers = [path.as_posix() for pattern in ("*.h", "*.inc") for path in Path("jnr/_ops").rglob(pattern)]
        for ext in self.extensions or []:
            ext.depends = sorted(headers)

    def build_extension(self, ext):
        """Adds what pyproject.toml cannot express. Without jax or a compiler, jnr is installed without kernels."""
        try:
            import jax
        except ImportError:
            self.warn("jax is not installed: building without the C++ kernels")
            return
        ext.include_dirs.append(jax.ffi.include_dir())
        ext.extra_compile_args += FLAGS
        compile_files = self.compiler.compile

        def compile_in_parallel(sources, **options):
            """Two of the files take most of the time, the kernels for the two kinds of processors."""
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_files([source], **options), sorted(sources, key=_is_small))
                return [name for names in objects for name in names]

        self.compiler.compile = compile_in_parallel
        super().build_extension(ext)

    def get_export_symbols(self, ext):
        """Returns no symbols: the library is loaded with ctypes and is no Python module."""
        return []
