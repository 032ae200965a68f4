"""Checks the contents of wheel and sdist, and the requirements and side effects of importing jnr."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_folder_with_code_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "jnr").rglob("*.py") if "triton_kernels" not in path.parts}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"jnr.triton_kernels"}
    assert set(settings["packages"]) == names
    assert settings["package-dir"] == {"jnr.triton_kernels": "triton_kernels"}
    link = ROOT / "jnr" / "triton_kernels"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "triton_kernels"
    assert not (ROOT / "triton_kernels" / "__init__.py").exists()


def test_import_needs_only_jax_jaxtyping_and_numpy():
    code = """
import sys
import jax, numpy
before = set(sys.modules)
import jnr
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(name for name in new - {"jnr"} if name not in sys.stdlib_module_names))
print([name for name in ("triton", "jax_triton", "trimesh", "optax", "torch") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[1] == "[]"
    extra = eval(run.stdout.split("\n")[0])
    assert set(extra) <= {"jax", "jaxlib", "jaxtyping", "wadler_lindig", "numpy", "ml_dtypes", "opt_einsum", "scipy"}


def test_each_planted_fault_matches_one_place_of_its_file():
    from faults import FAULTS, TESTS

    named = {tests for *_, tests in FAULTS}
    assert named >= set(TESTS)
    assert all((ROOT / tests.split()[0]).is_file() for tests in named - set(TESTS))
    for description, file, before, after, _ in FAULTS:
        assert (ROOT / file).read_text().count(before) == 1, (file, description)
        assert before != after


def test_import_is_fast_and_has_no_side_effects():
    code = """
import os, sys, time
start = time.process_time()
import jax, numpy
of_jax = time.process_time() - start
environment, effects = dict(os.environ), []

def watch(event, arguments):
    writes = event == "open" and (set(arguments[1] or "") & set("wax+") or arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if writes or event.startswith(("socket", "subprocess", "shutil", "os.putenv", "os.mkdir", "os.remove")):
        effects.append((event, arguments))

sys.dont_write_bytecode = True
sys.addaudithook(watch)
start = time.process_time()
import jnr
print((time.process_time() - start) / of_jax)
jnr.render, jnr.io, jnr.shapes
assert not effects, effects
assert dict(os.environ) == environment
"""
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(3)]
    # Of the time that jax takes, so that the speed of the machine does not matter.
    assert min(float(run.stdout) for run in runs) < 0.45


def test_sdist_builds_a_complete_wheel_even_without_a_compiler(tmp_path):
    pytest.importorskip("build", reason="build is not installed")
    environment = os.environ | {"CC": "false", "CXX": "false"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", tmp_path, ROOT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        source = {name.partition("/")[2] for name in sdist.getnames()}
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        installed = set(wheel.namelist())
        metadata = wheel.read(next(name for name in installed if name.endswith("METADATA"))).decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "jnr").rglob("*.py")}
    kernels = {f"jnr/triton_kernels/{path.name}" for path in (ROOT / "triton_kernels").glob("*.py")}
    assert kernels
    assert modules | kernels <= installed
    sources = {
        str(path.relative_to(ROOT)) for path in (ROOT / "jnr").rglob("*") if path.suffix in (".cc", ".h", ".inc")
    }
    assert sources
    assert sources <= source
    assert {"LICENSE", "README.md", "pyproject.toml", "jnr/py.typed"} <= source
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert sorted(line.split()[1].partition(">")[0] for line in needed) == ["jax", "jaxtyping", "numpy"]
    assert not any(name.startswith(("tests", "tools", "examples", "benchmarks", "docs")) for name in installed)
