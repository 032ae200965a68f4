"""The compiled Triton kernels, launched as jaxlib would launch them, on the PTX emulator; needs no GPU."""

import re

import golden as reference_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NAMES, SCENES, golden_soup, padded, skip_unless_launched_from_jax
from test_edge_sweep import check

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

import ptx_emulator

from jnr._xla.edge_sweep import edge_sweep_bwd as edge_sweep_bwd_xla
from jnr._xla.rasterize import rasterize as rasterize_xla
from jnr.triton_kernels import edge_sweep, rasterize

plain_rasterize = jax.jit(rasterize_xla, static_argnames=("height", "width", "cull"))
plain_edge_sweep = jax.jit(edge_sweep_bwd_xla, static_argnames="eps")


@pytest.fixture
def launches(monkeypatch):
    """The kernels that a test launches on the emulated GPU, in a list that grows."""
    skip_unless_launched_from_jax()
    # Fewer programs than blocks of work, so that each loops.
    monkeypatch.setattr(rasterize, "PROGRAMS", 3)
    with ptx_emulator.emulated_gpu() as launches:
        yield launches


@pytest.mark.parametrize("cull", [None, "back"])
@pytest.mark.parametrize("scene", NAMES)
def test_faces_equal_plain_jax(scene, cull, launches):
    clip, faces, height, width = SCENES[scene]
    arguments = {"height": height, "width": width, "cull": cull}
    out = rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), **arguments)
    np.testing.assert_array_equal(out, plain_rasterize(clip[None], faces[None], **arguments))


@pytest.mark.parametrize("shared", ["faces", "clip_positions"])
def test_batch_shares_operands_of_batch_size_one(shared, launches):
    clip, faces, height, width = SCENES["odd_sizes"]
    clips, many_faces = np.stack([clip, clip * np.float32([-1, 1, 1, 1])]), np.stack([faces, faces[::-1, [1, 0, 2]]])
    operands = (clips, many_faces[:1]) if shared == "faces" else (clips[:1], many_faces)
    out = rasterize.rasterize(*map(jnp.asarray, operands), height=height, width=width, cull="back")
    np.testing.assert_array_equal(out, plain_rasterize(*operands, height=height, width=width, cull="back"))
    assert not np.array_equal(*out)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scene", ["degenerate", "near_plane", "not_finite", "padding"])
def test_gradient_agrees_with_plain_jax(scene, deterministic, launches):
    clip, faces = padded(scene)
    sweep(clip[None], faces[None], 12, 18, deterministic)


@pytest.mark.parametrize("shared", ["faces", "clip_positions", "image"])
def test_batch_of_gradients_shares_operands_of_batch_size_one(shared, launches):
    clip, faces = padded("odd_sizes")
    clips, many_faces = np.stack([clip, clip * np.float32([-1, 1, 1, 1])]), np.stack([faces, faces[::-1]])
    clips = clips[:1] if shared == "clip_positions" else clips
    many_faces = many_faces[:1] if shared == "faces" else many_faces
    sweep(clips, many_faces, 12, 18, shared_image=shared == "image")


def sweep(clips, faces, height, width, deterministic=False, shared_image=False):
    face_index = plain_rasterize(clips, faces, height=height, width=width, cull=None)
    image, cotangent = np.random.default_rng(0).normal(size=(2, len(face_index), height, width, 3)).astype(np.float32)
    operands = image[:1] if shared_image else image, cotangent, clips, faces, face_index
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=1e-3, deterministic=deterministic)
    expected = np.asarray(plain_edge_sweep(*operands, eps=1e-3))
    assert np.abs(expected).max() > 0
    check(np.asarray(out), expected)


@pytest.mark.parametrize("case", ["soup_F64_is32", "soup_F8_is64"])
def test_gradient_agrees_with_the_original_renderer(case, launches):
    clip, faces, data = golden_soup(case)
    face_index = np.ascontiguousarray(data["face_index_map"][:, ::-1])
    image, cotangent = (np.ascontiguousarray(data[key][:, ::-1]) for key in ("rgb_map", "g_rgb"))
    operands = image, cotangent, clip, faces, face_index
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=float(data["eps"]))
    depth = data["faces_xyz"][..., 2:]
    out = np.asarray(out)[..., :2].reshape(*depth.shape[:-1], 2) * depth
    kept = ~data["trunc_quirk_faces"]
    # Tolerance: README.md of the golden data, section 6.
    assert reference_data.relative_l2(out[kept], data["grad_faces_rgb"][kept][..., :2]) < 2e-3


def test_ptx_version_is_one_that_older_assemblers_read(launches):
    clip, faces, height, width = SCENES["one_pixel"]
    rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), height=height, width=width, cull=None)
    versions = [re.search(r"\.version (\d+)\.(\d+)", launched.code).groups() for launched, _ in launches]
    # jax-triton 0.3 cannot choose the version; pyproject.toml then requires an nvidia-cuda-nvcc that reads 9.4.
    newest = max((int(major), int(minor)) for major, minor in versions)
    assert newest <= ((9, 4) if launch._jax_triton().is_old else divmod(launch.PTX_VERSION, 10))
