"""The choice of backends, and the errors for missing, broken or mismatched ones."""

import importlib.util
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr import _backend
from jnr._ops import cpp

TRIANGLE = jnp.array([[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]]), jnp.array([[0, 1, 2]])


def test_rendering_needs_neither_triton_nor_jax_triton():
    code = (
        "import sys, jnr, jax; mesh = jnr.shapes.icosphere(0)\n"
        "jax.block_until_ready(jnr.render_silhouette(mesh.vertices, mesh.faces, image_size=4))\n"
        "print(sorted({'triton', 'jax_triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.validation
def test_unknown_backend_is_an_error():
    with pytest.raises(ValueError, match="backend must be None or one of"):
        jnr.rasterize(*TRIANGLE, 4, backend="cuda")  # pyright: ignore[reportArgumentType]: wrong on purpose


def test_cpu_kernels_are_built_if_there_is_a_compiler():
    compiler = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    assert _backend.has_cpu_kernels()


@pytest.mark.parametrize(("backend", "calls"), [(None, True), ("cpu", True), ("xla", False)])
def test_cpu_kernels_run_unless_another_backend_is_named(backend, calls):
    if jax.default_backend() != "cpu" or not _backend.has_cpu_kernels():
        pytest.skip("needs the C++ kernels and a CPU as default device")
    text = jax.jit(lambda c, f: jnr.rasterize(c, f, 4, backend=backend).face_index).lower(*TRIANGLE).as_text()
    assert ("jnr_rasterize_float32" in text) == calls


@pytest.mark.validation
def test_missing_cpu_kernels_are_an_error(monkeypatch):
    monkeypatch.setattr(cpp, "library", lambda: None)
    with pytest.raises(ImportError, match="C\\+\\+ compiler"):
        jnr.rasterize(*TRIANGLE, 4, backend="cpu")


@pytest.mark.validation
def test_broken_cpu_kernels_are_an_error_with_its_cause(monkeypatch, tmp_path):
    broken = tmp_path / "_kernels.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(cpp, "library", lambda: broken)
    monkeypatch.setattr(cpp, "_load", cpp._load.__wrapped__)  # without the cache, which holds the working library
    with pytest.raises(ImportError, match=r"cannot be loaded: .*_kernels\.so"):
        cpp.target.__wrapped__("rasterize", "float32")


@pytest.mark.validation
def test_triton_without_an_nvidia_gpu_is_an_error():
    if jax.default_backend() == "gpu" or not _backend.has_triton():
        pytest.skip("needs jax-triton and no GPU")
    with pytest.raises(NotImplementedError, match="NVIDIA GPUs only"):
        jnr.rasterize(*TRIANGLE, 4, backend="triton")


@pytest.mark.validation
@pytest.mark.parametrize("backend", ["triton", "interpret"])
def test_missing_triton_is_an_error_with_the_install_command(backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"jnr\[cuda\]"):
        jnr.rasterize(*TRIANGLE, 4, backend=backend)


@pytest.mark.parametrize(
    ("missing", "named"), [(("jax_triton",), "jax-triton"), (("triton", "jax_triton"), "triton and")]
)
def test_plain_jax_on_a_gpu_for_want_of_triton_is_told_once(missing, named, monkeypatch):
    monkeypatch.setattr(_backend, "_installed", lambda name: name not in missing)
    _backend.warn_of_missing_triton.cache_clear()

    def lower(size, backend=None):
        run = jax.jit(lambda c, f: jnr.rasterize(c, f, size, backend=backend).face_index)
        return run.trace(*TRIANGLE).lower(lowering_platforms=("cuda",)).as_text()

    with warnings.catch_warnings(action="error"):
        lower(4, backend="xla")
        with jax.enable_x64(True):
            jax.jit(lambda c: jnr.rasterize(c, TRIANGLE[1], 4).face_index).trace(
                jax.ShapeDtypeStruct((3, 4), "float64")
            ).lower(lowering_platforms=("cuda",))
    with pytest.warns(UserWarning, match=rf"plain JAX.*{named}.*jnr\[cuda\]"):
        text = lower(5)
    assert "triton_kernel_call" not in text
    with warnings.catch_warnings(action="error"):
        lower(6)
    _backend.warn_of_missing_triton.cache_clear()


@pytest.mark.validation
def test_broken_triton_kernels_are_an_error_with_cause_and_install_command(monkeypatch):
    monkeypatch.setattr(_backend, "_installed", lambda name: True)
    monkeypatch.setitem(sys.modules, "jnr.triton_kernels.rasterize", None)
    with pytest.raises(ImportError, match=r"^The Triton kernels cannot be loaded: .*rasterize.*jnr\[cuda\]"):
        _backend.load_launch_function("rasterize", "rasterize")


@pytest.mark.validation
@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"jax-triton": "0.9.1", "triton": "1.2.3"}, r"jax-triton 0\.9\.1, triton 1\.2\.3.*jnr\[cuda\]"),
        (
            {"jax-triton": "0.3.1", "triton": "3.9.0", "nvidia-cuda-nvcc": "13.0.88"},
            r"needs nvidia-cuda-nvcc 13\.4, .*nvidia-cuda-nvcc 13\.0\.88.*jnr\[cuda\]",
        ),
    ],
)
def test_mismatched_versions_are_an_error_with_both_versions(versions, message, monkeypatch):
    launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)
    if not _backend._installed("jax_triton"):
        pytest.skip("jax-triton is not installed")
    launch._jax_triton.cache_clear()
    monkeypatch.setattr(launch.importlib.metadata, "version", lambda name: versions.get(name, "1.2.3"))
    with pytest.raises(ImportError, match=message):
        launch._jax_triton()
    launch._jax_triton.cache_clear()


def test_the_former_name_of_clip_w_is_a_deprecated_alias():
    fragments = jnr.rasterize(*TRIANGLE, 4)
    with pytest.warns(DeprecationWarning, match=r"Fragments\.depth is now Fragments\.clip_w"):
        assert fragments.depth is fragments.clip_w


BAD_FRAGMENTS = [
    (lambda f: None, TypeError, r"fragments must be a jnr\.Fragments, .* got NoneType"),
    (lambda f: f.face_index, TypeError, r"fragments must be a jnr\.Fragments, .* got ArrayImpl"),
    (
        lambda f: f._replace(barycentric=f.barycentric[..., :2]),
        ValueError,
        r"fragments\.barycentric .*, got \(4, 4, 2\)",
    ),
    (
        lambda f: f._replace(face_index=f.face_index.astype(float)),
        TypeError,
        r"face_index must be integers, .* float32",
    ),
    (lambda f: f._replace(face_index=f.face_index[None]), ValueError, r"fragments\.face_index .*, got \(1, 4, 4\)"),
]


@pytest.mark.validation
@pytest.mark.parametrize(("change", "error", "message"), BAD_FRAGMENTS)
def test_fragments_of_other_kinds_or_shapes_are_errors_that_name_the_field(change, error, message):
    fragments = change(jnr.rasterize(*TRIANGLE, 4))
    image = jnp.zeros((4, 4, 1))
    for call in (
        lambda: jnr.interpolate(jnp.ones((3, 1)), TRIANGLE[1], fragments),
        lambda: jnr.edge_sweep(image, TRIANGLE[0], TRIANGLE[1], fragments),
        lambda: jnr.opendr(image, TRIANGLE[0], TRIANGLE[1], fragments),
        lambda: jnr.sample_cubes(jnp.ones((1, 2, 2, 2, 1)), fragments),
    ):
        with pytest.raises(error, match=message):
            call()


def test_ops_run_with_jit_disabled():
    expected = jnr.rasterize(*TRIANGLE, 4)
    with jax.disable_jit():
        found = jnr.rasterize(*TRIANGLE, 4)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
