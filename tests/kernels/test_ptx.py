"""The instructions that Triton compiles the kernels to, run as jaxlib would start them; no GPU is needed."""

import contextlib
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
    """What is launched on the emulated GPU."""
    skip_unless_launched_from_jax()
    # Fewer programs than there is work for.
    monkeypatch.setattr(rasterize, "PROGRAMS", 3)
    with ptx_emulator.emulated_gpu() as launches:
        yield launches


@pytest.mark.parametrize("cull", [None, "back"])
@pytest.mark.parametrize("scene", NAMES)
def test_faces_are_plain_jax_s(scene, cull, launches):
    clip, faces, height, width = SCENES[scene]
    arguments = {"height": height, "width": width, "cull": cull}
    out = rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), **arguments)
    np.testing.assert_array_equal(out, plain_rasterize(clip[None], faces[None], **arguments))


@pytest.mark.parametrize("shared", ["faces", "clip_positions"])
def test_batch_shares_what_has_no_batch(shared, launches):
    clip, faces, height, width = SCENES["odd_sizes"]
    clips, many_faces = np.stack([clip, clip * np.float32([-1, 1, 1, 1])]), np.stack([faces, faces[::-1, [1, 0, 2]]])
    operands = (clips, many_faces[:1]) if shared == "faces" else (clips[:1], many_faces)
    out = rasterize.rasterize(*map(jnp.asarray, operands), height=height, width=width, cull="back")
    np.testing.assert_array_equal(out, plain_rasterize(*operands, height=height, width=width, cull="back"))
    assert not np.array_equal(*out)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scene", ["degenerate", "near_plane", "not_finite", "padding"])
def test_gradient_is_plain_jax_s(scene, deterministic, launches):
    clip, faces = padded(scene)
    sweep(clip[None], faces[None], 12, 18, deterministic)


@pytest.mark.parametrize("shared", ["faces", "clip_positions", "image"])
def test_batch_of_gradients_shares_what_has_no_batch(shared, launches):
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
def test_gradient_is_the_original_s(case, launches):
    clip, faces, data = golden_soup(case)
    face_index = np.ascontiguousarray(data["face_index_map"][:, ::-1])
    image, cotangent = (np.ascontiguousarray(data[key][:, ::-1]) for key in ("rgb_map", "g_rgb"))
    operands = image, cotangent, clip, faces, face_index
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=float(data["eps"]))
    depth = data["faces_xyz"][..., 2:]
    out = np.asarray(out)[..., :2].reshape(*depth.shape[:-1], 2) * depth
    kept = ~data["trunc_quirk_faces"]
    # README.md of the golden data, section 6
    assert reference_data.relative_l2(out[kept], data["grad_faces_rgb"][kept][..., :2]) < 2e-3


def test_code_is_for_assemblers_that_may_be_older_than_triton_s(launches):
    clip, faces, height, width = SCENES["one_pixel"]
    rasterize.rasterize(jnp.asarray(clip[None]), jnp.asarray(faces[None]), height=height, width=width, cull=None)
    versions = {tuple(map(int, re.search(r"\.version (\d+)\.(\d+)", told.code).groups())) for told, _ in launches}
    # What pyproject.toml asks of nvidia-cuda-nvcc where the version cannot be chosen.
    assert max(versions) <= ((9, 4) if launch._jax_triton().is_old else divmod(launch.PTX_VERSION, 10))


def program(text, threads=64):
    return ptx_emulator.Launch(
        "k",
        ".visible .entry k(\n.param .u64 .ptr k_param_0,\n.param .u64 .ptr k_param_1,\n.param .u64 .ptr k_param_2\n)\n"
        f".reqntid {threads}\n{{\n{text}\nret;\n}}",
        threads // 32,
        256,
        1,
        (("array", 0),),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("st.shared.b32 [%r2], %r1; bar.sync 0; ld.shared.b32 %r3, [%r4];", None),
        ("st.shared.b32 [%r2], %r1; ld.shared.b32 %r3, [%r4];", "no barrier"),
        ("ld.shared.b32 %r3, [%r4]; st.shared.b32 [%r2], %r1;", "no barrier"),
        ("st.shared.b32 [global_smem], %r1;", "different values|no barrier"),
        ("st.shared.b32 [%r2+4], %r1;", "outside of the program's shared memory"),
        ("st.global.b32 [%rd2+4], %r1;", "outside of the results"),
        ("ld.global.v2.b32 {%r3, %r4}, [%rd2+-4];", "multiple of its size"),
        ("@%p1 bar.sync 0;", "others of their program have ended"),
        ("@%p1 bra $L; bar.sync 0; bra $M; $L: bar.sync 0; $M:", "different barriers"),
        ("@%p1 shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;", "not all of the warp are there"),
    ],
)
def test_emulated_gpu_finds_faults(text, fault):
    start = """mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; xor.b32 %r4, %r2, 128; setp.lt.u32 %p1, %r1, 7;
        ld.param.b64 %rd1, [k_param_0]; mad.wide.u32 %rd2, %r1, 4, %rd1;"""
    lines = re.sub(r"([;:]) ", r"\1\n", f"{start} {text}")
    with contextlib.nullcontext() if fault is None else pytest.raises(ptx_emulator.GpuError, match=fault):
        ptx_emulator.run(program(lines), [], [np.zeros(64, np.int32)])
