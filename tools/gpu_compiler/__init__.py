"""Compiles jnr's steps with XLA's compiler for NVIDIA GPUs, on a machine without a GPU.

XLA compiles for a GPU that `h100.txtpb` describes. The compiler is in the packages jax-cuda13-plugin and
jax-cuda13-pjrt. Where they are on the path, every process of jax looks for a GPU. So `.ci/install` puts them into a
folder of their own, `FOLDER`, and only the processes that compile have it on their path. The folder holds the jax that
the extra `cuda` names, which may be older than the jax beside it.

`compile_steps` compiles in one process and returns what XLA decided: the order of launches, and which buffers they get.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_compiler.dump import Program, read_program

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = Path(sys.prefix) / "cuda-compiler"


def missing() -> str | None:
    """What the compiler needs and is not installed, for a message."""
    if not (FOLDER / "jax_plugins" / "xla_cuda13").is_dir():
        return f"XLA's compiler for GPUs is not in {FOLDER}; .ci/install puts it there"
    for package in ("triton", "jax_triton", "flatbuffers"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return None


def compile_steps(names: Sequence[str], folder: Path, *, export: Sequence[str] = ()) -> dict[str, Program]:
    """Compiles the steps of these names, and writes those of `export` to `<name>.exported` in the folder, too."""
    _run(["compile", str(folder), *names, "--export", *export], folder)
    return {name: read_program(folder / "dump", name) for name in names}


def compile_exported(names: Sequence[str], folder: Path) -> dict[str, Program]:
    """Compiles the programs that `compile_steps` exported, in a process that cannot import triton or jax-triton."""
    sources = folder
    folder = folder / "without_triton"
    folder.mkdir()
    _run(["load", str(sources), *names], folder)
    return {name: read_program(folder / "dump", name) for name in names}


def assembled(folder: Path) -> int:
    """Number of kernels that the assembler was given by the process that compiled into the folder."""
    return sum("-arch=sm_90a" in line for line in (folder / "ptxas.log").read_text().splitlines())


def _run(arguments, folder):
    """Runs `__main__.py` with the compiler on the path, empty caches, and an assembler that records its calls."""
    from triton import knobs

    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    # Triton's newest assembler reads the PTX of every version in use. XLA takes the first on the path.
    assembler = Path(knobs.nvidia.ptxas_blackwell.path)
    (binaries / "ptxas").write_text(f'#!/bin/sh\necho "$*" >>"{folder}/ptxas.log"\nexec "{assembler}" "$@"\n')
    (binaries / "ptxas").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(binaries), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, ROOT, ROOT / "tools"))),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_dump_to={folder / 'dump'} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_.*step",
        "TRITON_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "gpu_compiler", *arguments]
    result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}")
