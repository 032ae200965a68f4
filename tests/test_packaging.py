"""What is installed, and what importing it needs."""

import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_import_needs_only_jax_and_numpy():
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
    assert set(extra) <= {"jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy"}


def test_readme_example_runs_and_fits():
    text = (ROOT / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout.split(":")[1]) < 0.1
