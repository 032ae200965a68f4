"""Small scenes for the comparison of kernels with the plain-JAX definitions."""

import os
from typing import Any

import golden as reference
import jax
import numpy as np
import pytest

from jnr import _backend
from jnr._ops.edge_sweep import TIE

NEEDS = {
    "interpret": pytest.mark.skipif(not _backend._installed("triton"), reason="triton is not installed"),
    "cpu": pytest.mark.skipif(not _backend.has_cpu_kernels(), reason="jnr was installed without a C++ compiler"),
}


def on(backend, *values):
    """Parameters of a test that runs on one backend: Triton's interpreter (slow) or the C++ kernels."""
    return pytest.param(backend, *values, marks=NEEDS[backend])


# benchmarks/gpu.py is rehearsed with another backend.
GPU_BACKEND: Any = os.environ.get("JNR_GPU_BACKEND", "triton")
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPU_BACKEND == "triton" and jax.default_backend() != "gpu", reason="needs an NVIDIA GPU"),
]


def on_gpu(*values):
    """Parameters of a test that runs the Triton kernels on a GPU."""
    return pytest.param(GPU_BACKEND, *values, marks=NEEDS_GPU)


KERNELS = [on("interpret"), on("cpu")]


def skip_unless_launched_from_jax():
    """Skips a test, with the installed versions, where jax-triton does not work with the installed jax or triton."""
    from jnr.triton_kernels import launch

    try:
        launch._jax_triton()
    except ImportError as error:
        pytest.skip(str(error))


def _triangle(*corners):
    return np.array(corners, np.float32), np.array([[0, 1, 2]], np.int32)


def _soup(num_faces, seed, size=0.5):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1, 1, (num_faces, 1, 2))
    xy = centre + rng.uniform(-size, size, (num_faces, 3, 2))
    w = rng.uniform(0.5, 3, (num_faces, 3, 1))
    z = rng.uniform(-1, 1, (num_faces, 3, 1)) * w
    clip = np.concatenate([xy * w, z, w], axis=-1).reshape(-1, 4)
    return clip.astype(np.float32), np.arange(3 * num_faces, dtype=np.int32).reshape(-1, 3)


def _strip():
    """A grid with shared inner edges, some of which pass through pixel centres of an 8 x 8 image."""
    x, y = np.meshgrid(np.linspace(-0.75, 0.75, 4), np.linspace(-0.75, 0.75, 4))
    clip = np.stack([x, y, 0 * x, 0 * x + 1], axis=-1).reshape(-1, 4)
    faces = [f for i in range(3) for j in range(3) for f in _quad(4 * i + j, 4)]
    return clip.astype(np.float32), np.array(faces, np.int32)


def _quad(first, row):
    return (first, first + 1, first + row), (first + 1, first + row + 1, first + row)


def _ties():
    clip, faces = _strip()
    return clip, np.concatenate([faces, faces[::-1], faces[:, [1, 2, 0]]])


def _degenerate():
    clip, _ = _soup(4, 1)
    line = np.array([[-1, -1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]], np.float32)
    sliver = np.array([[-0.9, 0.3, 0, 1], [0.9, 0.31, 0, 1], [0.0, 0.3051, 0, 1]], np.float32)
    points = np.zeros((3, 4), np.float32)
    clip = np.concatenate([line, clip, sliver, points])
    return clip, np.arange(len(clip), dtype=np.int32).reshape(-1, 3)


def _near_plane():
    clip, faces = _soup(12, 2, size=0.8)
    clip[::3, 3] *= -0.4
    clip[1::4, 2] -= 1.5
    return clip, faces


def _not_finite():
    clip, faces = _soup(8, 3)
    clip[1, 0], clip[7, 2], clip[12, 3] = np.nan, np.inf, np.nan
    return clip, faces


def _padding():
    clip, faces = _soup(6, 4)
    faces[1], faces[4, 2] = -1, -1
    return clip, faces


def _coincident():
    """Faces listed three times, with their corners in other orders: every other one with vertices of its own."""
    clip, faces = _soup(6, 7)
    copies = [faces, faces[:, [1, 0, 2]], faces[:, [2, 0, 1]]]
    moved = [np.where(np.arange(6)[:, None] % 2, copy + len(clip) * k, copy) for k, copy in enumerate(copies)]
    return np.concatenate([clip, clip, clip]), np.concatenate(moved).astype(np.int32)


SCENES = {
    "no_faces": (np.zeros((3, 4), np.float32), np.zeros((0, 3), np.int32), 8, 8),
    "one_pixel": (*_triangle([-1, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]), 1, 1),
    "odd_sizes": (*_soup(9, 0), 13, 37),
    "wider_than_a_block": (*_soup(3, 6, size=1), 2, 40),
    "shared_edges": (*_strip(), 8, 8),
    "ties": (*_ties(), 8, 8),
    "degenerate": (*_degenerate(), 17, 16),
    "near_plane": (*_near_plane(), 16, 24),
    "not_finite": (*_not_finite(), 16, 16),
    "padding": (*_padding(), 16, 16),
    "coincident": (*_coincident(), 16, 16),
    "more_faces_than_a_block": (*_soup(150, 5, size=0.2), 20, 20),
}
NAMES = list(SCENES)


def padded(scene, num_vertices=54, num_faces=64):
    """A scene padded to a common number of vertices and faces, so that plain JAX compiles once for many scenes."""
    clip, faces, *_ = SCENES[scene]
    faces = np.pad(faces, ((0, num_faces - len(faces)), (0, 0)), constant_values=-1)
    return np.pad(clip, ((0, num_vertices - len(clip)), (0, 0))), faces


def golden_soup(case):
    """Clip positions, faces and arrays of a golden case, with one triangle soup per batch item."""
    data = reference.load(case)
    xyz = data["faces_xyz"]
    batch, num_faces = xyz.shape[:2]
    clip = np.asarray(reference.clip_from_screen(xyz, float(data["near"]), float(data["far"])))
    faces = np.arange(3 * num_faces, dtype=np.int32).reshape(1, num_faces, 3)
    return clip.reshape(batch, -1, 4), faces, data


# The edge sweep's limit of depth without occlusion.
NOTHING_HIDES = np.zeros((1, 0, 0), np.float32)


def depth_limit_of(clip, faces, face_index):
    """The edge sweep's limit of depth for the faces that the pixels of one image see, computed in float64."""
    height, width = face_index.shape[1:]
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    seen = np.asarray(face_index[0])
    corners = np.asarray(clip, np.float64)[faces[np.maximum(seen, 0)]]
    x, y, z, w = np.moveaxis(corners, -1, 0)
    ndc_x, ndc_y = ((2 * column + 1) / width - 1)[..., None], (1 - (2 * row + 1) / height)[..., None]
    # The point of the face on the pixel's ray, up to a factor: sum b (x - ndc_x w) = sum b (y - ndc_y w) = 0.
    b = np.cross(x - ndc_x * w, y - ndc_y * w)
    with np.errstate(all="ignore"):
        depth = np.sum(b * z, axis=-1) / np.sum(b * w, axis=-1)
    return np.where(seen >= 0, depth + TIE, np.inf)[None].astype(np.float32)


def check_sweep(out, expected):
    """Checks an edge sweep against another implementation."""
    # The order of the float32 sums differs, and terms as large as 1 / eps partly cancel.
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4 * scale)
    assert np.linalg.norm(out - expected) <= 1e-4 * np.linalg.norm(expected)
    np.testing.assert_array_equal(out[..., 2], 0)
