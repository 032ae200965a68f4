"""The compiled Triton kernel of the edge sweep on the PTX emulator; needs no GPU."""

import golden as reference_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NOTHING_HIDES, SCENES, check_sweep, depth_limit_of, golden_soup, padded

pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

from jnr._ops.edge_sweep import definition
from jnr._ops.rasterize.definition import rasterize
from jnr.triton_kernels import edge_sweep

plain_rasterize = jax.jit(rasterize, static_argnames=("height", "width", "cull"))
plain_edge_sweep = jax.jit(definition.edge_sweep_bwd, static_argnames=("eps", "silhouettes_only"))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scene", ["degenerate", "near_plane", "not_finite", "padding"])
def test_gradient_agrees_with_plain_jax(scene, deterministic, launches):
    clip, faces = padded(scene)
    sweep(clip[None], faces[None], 12, 18, deterministic)


@pytest.mark.parametrize("shared", ["faces", "clip_positions", "image"])
def test_batch_of_gradients_shares_operands_of_batch_size_one(shared, launches):
    clip, faces = padded("odd_sizes")
    clips, many_faces = np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)]), np.stack([faces, faces[::-1]])
    clips = clips[:1] if shared == "clip_positions" else clips
    many_faces = many_faces[:1] if shared == "faces" else many_faces
    sweep(clips, many_faces, 12, 18, shared_image=shared == "image")


@pytest.mark.parametrize("option", ["occlusion", "silhouettes_only"])
def test_gradient_with_an_option_agrees_with_plain_jax(option, launches):
    clip, faces = padded("odd_sizes" if option == "occlusion" else "padding")
    clips = np.stack([clip, clip * np.array([-1, 1, 1, 1], np.float32)])
    sweep(clips, faces[None], 16, 16, **{option: True})


# Few faces, whose sweeps have several lanes and share their active pixels among programs; or many, in several groups.
# Five channels are more than the lists hold.
@pytest.mark.parametrize(
    ("scene", "height", "width", "channels", "options"),
    [
        ("wider_than_a_block", 2, 300, 1, {}),
        ("wider_than_a_block", 150, 3, 5, {}),
        ("more_faces_than_a_block", 3, 300, 4, {}),
        ("more_faces_than_a_block", 140, 2, 1, {"occlusion": True}),
        ("wider_than_a_block", 1, 140, 1, {"deterministic": True}),
    ],
)
@pytest.mark.parametrize("programs", [edge_sweep.PROGRAMS, 0], ids=["shared", "alone"])
def test_gradient_of_long_lines_agrees_with_plain_jax(
    scene, height, width, channels, options, programs, launches, monkeypatch
):
    monkeypatch.setattr(edge_sweep, "PROGRAMS", programs)
    clip, faces, *_ = SCENES[scene]
    sweep(clip[None], faces[None], height, width, channels=channels, **options)


# Triton compiles other code for an operand of 1.
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 37), (37, 1)])
def test_gradient_of_images_one_pixel_high_or_wide_agrees_with_plain_jax(height, width, launches):
    clip, faces, *_ = SCENES["one_pixel" if height == width else "odd_sizes"]
    sweep(clip[None], faces[None], height, width, some=height != width)


def test_gradient_without_eps_agrees_with_plain_jax(launches):
    # The face's corners are at pixel centres: its crossings there are no distance away.
    corners = [[-0.75, 0.75], [0.75, 0.75], [0.25, -0.75]]
    clip = np.array([[x, y, 0, 1] for x, y in corners], np.float32)
    sweep(clip[None], np.array([[[0, 1, 2]]], np.int32), 4, 4, eps=0.0)


def sweep(
    clips,
    faces,
    height,
    width,
    deterministic=False,
    shared_image=False,
    occlusion=False,
    channels=3,
    eps=1e-3,
    some=True,
    **options,
):
    face_index = plain_rasterize(clips, faces, height=height, width=width, cull=None)
    shape = 2, len(face_index), height, width, channels
    image, cotangent = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    limit = NOTHING_HIDES
    if occlusion:
        limit = np.concatenate([depth_limit_of(clips[i], faces[0], face_index[i][None]) for i in range(len(clips))])
    operands = image[:1] if shared_image else image, cotangent, clips, faces, face_index, limit
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=eps, deterministic=deterministic, **options)
    expected = np.asarray(plain_edge_sweep(*operands, eps=eps, **options))
    assert np.any(expected) == some
    check_sweep(np.asarray(out), expected)


@pytest.mark.parametrize("case", ["soup_F64_is32", "soup_F8_is64"])
def test_gradient_agrees_with_the_original_renderer(case, launches):
    clip, faces, data = golden_soup(case)
    face_index = np.ascontiguousarray(data["face_index_map"][:, ::-1])
    image, cotangent = (np.ascontiguousarray(data[key][:, ::-1]) for key in ("rgb_map", "g_rgb"))
    operands = image, cotangent, clip, faces, face_index, NOTHING_HIDES
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=float(data["eps"]))
    depth = data["faces_xyz"][..., 2:]
    out = np.asarray(out)[..., :2].reshape(*depth.shape[:-1], 2) * depth
    kept = ~data["trunc_quirk_faces"]
    # Tolerance: README.md of the golden data, section 6.
    assert reference_data.relative_l2(out[kept], data["grad_faces_rgb"][kept][..., :2]) < 2e-3
