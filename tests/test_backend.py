import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jnr
from jnr import _backend

TRIANGLE = jnp.array([[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]]), jnp.array([[0, 1, 2]])


def test_import_needs_neither_triton_nor_jax_triton():
    code = "import sys, jnr; print(sorted({'triton', 'jax_triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_plain_backend_needs_neither():
    code = (
        "import sys, jnr, jax; mesh = jnr.shapes.icosphere(0)\n"
        "jax.block_until_ready(jnr.render_silhouette(mesh.vertices, mesh.faces, image_size=4))\n"
        "print(sorted({'triton', 'jax_triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.validation
def test_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match="backend must be None or one of"):
        jnr.rasterize(*TRIANGLE, 4, backend="cuda")


@pytest.mark.validation
def test_triton_on_another_device_is_an_error():
    if jax.default_backend() == "gpu" or not _backend.has_triton():
        pytest.skip("needs jax-triton and no GPU")
    with pytest.raises(NotImplementedError, match="NVIDIA GPUs only"):
        jnr.rasterize(*TRIANGLE, 4, backend="triton")


@pytest.mark.validation
@pytest.mark.parametrize("backend", ["triton", "interpret"])
def test_missing_triton_is_an_error_with_the_install_line(backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"jnr\[cuda\]"):
        jnr.rasterize(*TRIANGLE, 4, backend=backend)


@pytest.mark.validation
def test_mismatched_versions_are_an_error_that_names_them(monkeypatch):
    launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)
    launch._jax_triton.cache_clear()
    monkeypatch.setattr(launch.importlib.metadata, "version", lambda name: {"jax-triton": "0.9.1"}.get(name, "1.2.3"))
    with pytest.raises(ImportError, match=r"jax-triton 0\.9\.1, triton 1\.2\.3.*jnr\[cuda\]"):
        launch._jax_triton()
    launch._jax_triton.cache_clear()
