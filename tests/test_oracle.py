"""Compares the oracle (tests/oracle.py) with the original implementations, and jnr with the oracle on random scenes.

`JNR_NIGHTLY=1 python -m pytest tests/test_oracle.py -n 0 -s` runs thousands of scenes and prints the counts.
"""

import os
from collections import Counter
from functools import partial

import golden
import jax
import numpy as np
import oracle
import pytest
from jax import lax

import jnr
from jnr import _backend
from jnr._ops.rasterize import definition as rasterize

NIGHTLY = os.environ.get("JNR_NIGHTLY", "0") != "0"
BATCHES = 40 if NIGHTLY else 3
BATCH, FACES, VERTICES = 40, 10, 24
COUNTS = Counter()
PIXELS = "pixels compared", "pixels excluded"
GRADIENTS = "vertex gradients compared", "vertex gradients excluded"
BACKENDS = ["xla", *(["cpu"] if _backend.has_cpu_kernels() else [])]


CASES = [
    name for name in golden.KERNEL_CASES if (golden.FOLDERS[0] / f"{name}.npz").is_file() and "illcond" not in name
]


@pytest.mark.parametrize("name", CASES)
def test_oracle_equals_the_originals(name):
    data = golden.load(name)
    size, eps = int(data["image_size"]), float(data["eps"])
    depths = data["faces_xyz"][..., 2]
    # jnr differs on purpose for faces behind the camera and ends of sweeps (quirks 7 and 3 in golden/README.md).
    items = [item for item in range(len(depths)) if depths[item].min() > 0][: 2 if len(depths[0]) > 8 else 4]
    clip = np.asarray(golden.clip_from_screen(data["faces_xyz"], float(data["near"]), float(data["far"])), np.float64)
    for item in items:
        positions, faces = clip[item].reshape(-1, 4), np.arange(3 * clip.shape[1]).reshape(-1, 3)
        seen = oracle.rasterize(positions, faces, size, size, cull="back")
        expected = golden.top_down(data["face_index_map"])[item]
        assert seen.clear.mean() > 0.97
        np.testing.assert_array_equal(seen.face_index[seen.clear], expected[seen.clear])
        for outputs in ("alpha", "rgb") if len(faces) <= 16 else ("rgb",):
            images = [golden.top_down(data[key.format(outputs)])[item] for key in ("{}_map", "g_{}")]
            images = [image.reshape(size, size, -1) for image in images]
            swept = oracle.edge_sweep(*images, positions, faces, expected, eps=eps)
            value = swept.gradient[:, :2] * positions[:, 3:]
            keep = np.repeat(~data["trunc_quirk_faces"][item], 3) & swept.clear
            want = data[f"grad_faces_{outputs}_f64"][item].reshape(-1, 3)[:, :2]
            assert keep.mean() > 0.6
            # Positions were rounded to float32 before the conversion to clip space; worst seen 4e-5.
            assert golden.relative_l2(value[keep], want[keep]) < 1e-4


def _soup(rng, size, w):
    """Returns unconnected triangles of size `size` in NDC, placed randomly in and around the image."""
    centre = rng.uniform(-1, 1, (VERTICES // 3, 1, 2))
    xy = centre + rng.uniform(-size, size, (VERTICES // 3, 3, 2))
    w = w.reshape(-1, 3, 1)
    return np.concatenate([xy * w, rng.uniform(-0.9, 0.9, w.shape) * w, w], axis=-1).reshape(-1, 4)


def _scene(rng, kind):
    """Returns clip positions and faces of a scene; some faces are padding."""
    faces = np.full((FACES, 3), -1, np.int32)
    faces[: VERTICES // 3] = (
        rng.permutation(VERTICES).reshape(-1, 3) if kind == "web" else np.arange(VERTICES).reshape(-1, 3)
    )
    w = rng.uniform(0.5, 3, VERTICES)
    if kind == "steep":
        w = np.exp(rng.uniform(np.log(0.1), np.log(20), VERTICES))
    clip = _soup(rng, {"small": 0.15, "large": 2.5, "web": 0.8}.get(kind, 0.6), w)
    if kind == "web":  # faces that share vertices, hence shared corners and edges, ties and intersections
        faces[-2:] = faces[:2, [1, 0, 2]]
        faces[-2:, 2] = faces[2:4, 0]
    if kind == "near_plane":
        behind = rng.random(VERTICES) < 0.25
        clip[behind, 3] *= rng.uniform(-0.6, 0.3, behind.sum())
        clip[rng.random(VERTICES) < 0.15, 2] -= 1.5
    if kind == "flat":  # as under an orthographic camera
        clip /= clip[:, 3:]
    faces[rng.random(FACES) < 0.1] = -1
    return clip.astype(np.float32), faces


KINDS = ["soup", "steep", "small", "large", "web", "near_plane", "flat", "soup"]
VIEWS = {
    "16x16_back": {"size": (16, 16), "cull": "back", "channels": 1},
    "9x33_front": {"size": (9, 33), "cull": "front", "channels": 4},
}
if NIGHTLY:
    VIEWS["13x19"] = {"size": (13, 19), "cull": None, "channels": 3}


def _batch(seed, size, channels):
    rng = np.random.default_rng(seed)
    clip, faces = (np.stack(a) for a in zip(*(_scene(rng, KINDS[i % len(KINDS)]) for i in range(BATCH)), strict=True))
    # Quantized colours, so that some neighbours are equal; sparse cotangents.
    image = rng.integers(0, 5, (BATCH, *size, channels)) / 4
    cotangent = rng.normal(size=image.shape) * (
        rng.random((BATCH, *size, 1)) < rng.choice([0.05, 0.5, 1], (BATCH, 1, 1, 1))
    )
    return clip, faces, image.astype(np.float32), cotangent.astype(np.float32)


def _jnr(size, cull, backend):
    """Returns a jitted function that computes fragments and the edge sweep's cotangent of a batch."""

    def one(clip, faces, image, cotangent):
        fragments = jnr.rasterize(clip, faces, size, cull=cull, backend=backend)
        fixed = lax.stop_gradient(fragments)
        _, pull = jax.vjp(lambda clip: jnr.edge_sweep(image, clip, faces, fixed, backend=backend), clip)
        return fragments, pull(cotangent)[0]

    return jax.jit(jax.vmap(one))


@pytest.fixture(scope="module", autouse=True)
def _print_counts():
    yield
    print("\n" + ", ".join(f"{name}: {COUNTS[name]}" for name in ("scenes", *PIXELS, *GRADIENTS)))


@pytest.mark.parametrize("view", VIEWS)
def test_jnr_equals_the_oracle_on_random_scenes(view):
    size, cull, channels = VIEWS[view].values()
    programs = {backend: _jnr(size, cull, backend) for backend in BACKENDS}
    counts = Counter()
    for batch in range(BATCHES):
        operands = _batch((list(VIEWS).index(view), batch), size, channels)
        results = {backend: jax.tree.map(np.asarray, program(*operands)) for backend, program in programs.items()}
        for item in range(BATCH):
            scene = [operand[item] for operand in operands]
            seen = oracle.rasterize(*scene[:2], *size, cull=cull)
            counts["scenes"] += 1
            for backend, (fragments, gradient) in results.items():
                where = f"view {view}, batch {batch}, item {item} ({KINDS[item % len(KINDS)]}), {backend}"
                _compare_fragments([a[item] for a in fragments], seen, counts, where)
                _compare_gradient(gradient[item], scene, fragments.face_index[item], counts, where)
    COUNTS.update(counts)
    # Few pixels and vertices may be excluded, or the test would prove nothing.
    assert counts[PIXELS[1]] < 2e-3 * counts[PIXELS[0]]
    assert counts[GRADIENTS[1]] < 4e-2 * counts[GRADIENTS[0]]


def _compare_fragments(fragments, seen, counts, where):
    index, barycentric, depth = fragments
    np.testing.assert_array_equal(index[seen.clear], seen.face_index[seen.clear], err_msg=where)
    same = (index == seen.face_index) & (index >= 0)
    # float32 with grazing angles and w from 0.1 to 20; worst of 9600 scenes: 9.5e-5 and 1.2e-4
    np.testing.assert_allclose(barycentric[same], seen.barycentric[same], atol=3e-4, err_msg=where)
    np.testing.assert_allclose(depth[same], seen.depth[same], rtol=4e-4, err_msg=where)
    assert not barycentric[index < 0].any()
    assert not depth[index < 0].any()
    counts.update(dict(zip(PIXELS, (seen.clear.sum(), (~seen.clear).sum()), strict=True)))


def _compare_gradient(gradient, scene, face_index, counts, where):
    clip, faces, image, cotangent = scene
    swept = oracle.edge_sweep(image, cotangent, clip, faces, face_index)
    value, want, rounding = (a[swept.clear] for a in (gradient, swept.gradient, swept.rounding))
    # Worst of 9600 scenes: 0.75 of the rounding bound per entry, 4.6e-4 relative L2 per scene.
    assert np.all(np.abs(value - want) <= rounding), where
    assert golden.relative_l2(value, want) <= 2e-3, where
    counts.update(dict(zip(GRADIENTS, (swept.clear.sum(), (~swept.clear).sum()), strict=True)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_surface_with_more_faces_than_one_block_equals_the_oracle(backend):
    # 1152 visible faces of about two pixels each: any missing face shows.
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-0.97, 0.97, 25), np.linspace(-0.97, 0.97, 25))
    w = rng.uniform(1, 2, x.shape)
    xyz = x + rng.uniform(-0.02, 0.02, x.shape), y + rng.uniform(-0.02, 0.02, x.shape), rng.uniform(-0.5, 0.5, x.shape)
    clip = np.stack([*(a * w for a in xyz), w], axis=-1).reshape(-1, 4).astype(np.float32)
    first = (25 * np.arange(24)[:, None] + np.arange(24)).reshape(-1, 1)
    faces = np.concatenate([first + np.array(corners) for corners in ([0, 1, 25], [1, 26, 25])]).astype(np.int32)
    fragments = jax.jit(lambda clip: jnr.rasterize(clip, faces, 48, backend=backend))(clip)
    seen = oracle.rasterize(clip, faces, 48, 48)
    _compare_fragments([np.asarray(a) for a in fragments], seen, Counter(), backend)
    assert len(np.unique(seen.face_index)) > 900


def test_rasterizing_in_groups_of_faces_equals_rasterizing_all_at_once(monkeypatch):
    clip, faces, *_ = _batch(7, (32, 48), 1)
    function = partial(rasterize.rasterize, height=32, width=48, cull=None)
    expected = jax.jit(function)(clip, faces)
    # 24 tiles per image; groups of 150 of the 400 faces, the last with 100.
    monkeypatch.setattr(rasterize, "INT32_MAX", 24 * (rasterize.BLOCK + 150))
    found = jax.jit(lambda *operands: function(*operands))(clip, faces)
    assert len(np.unique(expected)) == FACES + 1
    np.testing.assert_array_equal(found, expected)
