"""The compiled Triton kernel of the edge sweep on the PTX emulator; needs no GPU."""

import golden as reference_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import NOTHING_HIDES, check_sweep, depth_limit_of, golden_soup, padded

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


def sweep(clips, faces, height, width, deterministic=False, shared_image=False, occlusion=False, **options):
    face_index = plain_rasterize(clips, faces, height=height, width=width, cull=None)
    image, cotangent = np.random.default_rng(0).normal(size=(2, len(face_index), height, width, 3)).astype(np.float32)
    limit = NOTHING_HIDES
    if occlusion:
        limit = np.concatenate([depth_limit_of(clips[i], faces[0], face_index[i][None]) for i in range(len(clips))])
    operands = image[:1] if shared_image else image, cotangent, clips, faces, face_index, limit
    out = edge_sweep.edge_sweep_bwd(*map(jnp.asarray, operands), eps=1e-3, deterministic=deterministic, **options)
    expected = np.asarray(plain_edge_sweep(*operands, eps=1e-3, **options))
    assert np.abs(expected).max() > 0
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
