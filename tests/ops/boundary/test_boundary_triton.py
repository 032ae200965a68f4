"""The Triton kernels of the boundary, interpreted and on the PTX emulator, against plain JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import padded, skip_unless_launched_from_jax

launch = pytest.importorskip("jnr.triton_kernels.launch", reason="triton is not installed", exc_type=ImportError)

import ptx_emulator

from jnr._ops.boundary import boundary_crossings_p, crossing_motion_bwd_p, definition
from jnr._ops.rasterize.definition import rasterize
from jnr.triton_kernels import boundary

HEIGHT, WIDTH = 12, 18
SCENES = ("near_plane", "cut", "odd_sizes", "shared_edges", "ties", "degenerate", "not_finite", "padding", "coincident")
NAMES = ("clip_positions", "faces", "face_index", "active")
# The interpreter is slow.
INTERPRETED = 2
# Of a pixel. Plain JAX contracts products and sums.
ROUNDING = 1e-5


plain_rasterize = jax.jit(functools.partial(rasterize, height=HEIGHT, width=WIDTH, cull=None))
plain_crossings = jax.jit(definition.boundary_crossings)
plain_bwd = jax.jit(functools.partial(definition.crossing_motion_bwd, sums=len(SCENES)))


@pytest.fixture(params=["interpreter", "emulator"])
def device(request, monkeypatch):
    """Runs the kernels interpreted or on the PTX emulator, and yields how many items of a batch to run."""
    if request.param == "emulator":
        skip_unless_launched_from_jax()
    # On the emulator three programs share the lines of a block of edges.
    monkeypatch.setattr(boundary, "PROGRAMS", 3 * len(SCENES) * -(-3 * 64 // boundary.BLOCK))
    with launch.interpreted() if request.param == "interpreter" else ptx_emulator.emulated_gpu():
        yield INTERPRETED if request.param == "interpreter" else len(SCENES)


def cut_faces():
    """Faces that cut each other, one of them also the near plane, and faces smaller than a pixel before their rim."""
    x, y = np.meshgrid(np.linspace(0.05, 0.55, 4), np.linspace(-0.3, 0.3, 4))
    grid = np.stack([x, y, 0 * x - 0.5, 0 * x + 1], axis=-1).reshape(-1, 4)
    large = [[-0.9, -0.8, -0.7, 1], [0.8, -0.6, 0.8, 1], [-0.2, 0.9, 0.1, 1], [-0.8, 0.3, 0.9, 1]]
    large += [[0.9, -0.2, -0.8, 1], [0.1, -0.9, 0.2, 1], [-0.9, 0.9, 0.5, 1], [0.9, 0.8, -1.6, 1], [0.4, 0.1, -0.4, 1]]
    clip = np.concatenate([np.array(large, np.float32), grid]).astype(np.float32)
    first = [9 + 4 * i + j for i in range(3) for j in range(3)]
    faces = [
        (0, 1, 2),
        (3, 4, 5),
        (6, 7, 8),
        *((i, i + 1, i + 4) for i in first),
        *((i + 1, i + 5, i + 4) for i in first),
    ]
    return np.pad(clip, ((0, 54 - len(clip)), (0, 0))), np.pad(
        np.array(faces, np.int32), ((0, 64 - 21), (0, 0)), constant_values=-1
    )


def stacked(meshes):
    """Clip positions, faces, face indices and active gaps of meshes, as one batch."""
    clips, faces = map(np.stack, zip(*meshes, strict=True))
    active = np.random.default_rng(0).random((len(clips), 2, HEIGHT, WIDTH)) < 0.9
    return clips, faces, np.asarray(plain_rasterize(clips, faces)), active


@functools.cache
def scenes():
    return stacked([cut_faces() if scene == "cut" else padded(scene) for scene in SCENES])


@functools.cache
def variants(shared):
    """A scene, scaled, mirrored and with its faces in other orders, such that all items can share an operand."""
    clip, faces = padded("near_plane")
    mirrors = shared in ("faces", "active")
    meshes = []
    for i in range(len(SCENES)):
        scale = np.float32(1 if shared == "clip_positions" else 2.0**-i)
        signs = np.array([-1 if mirrors and i % 2 else 1, 1, 1, 1], np.float32)
        meshes.append(
            (clip * scale * signs, np.roll(faces, i if shared in ("clip_positions", "active") else 0, axis=0))
        )
    operands = stacked(meshes)
    return tuple(np.repeat(x[:1], len(x), axis=0) if n == shared else x for n, x in zip(NAMES, operands, strict=True))


@functools.cache
def plain(operands, *arguments):
    """Crossings, a cotangent and its gradient in plain JAX."""
    operands = operands(*arguments)
    crossings = np.asarray(plain_crossings(*operands))
    cotangent = np.random.default_rng(1).normal(size=crossings.shape[:-1]).astype(np.float32)
    cotangent[:, :, ::3] = 0
    return crossings, cotangent, np.asarray(plain_bwd(cotangent, crossings, *operands[:3]))


def on_device(operands, items, shared=None):
    return [jnp.asarray(x[: 1 if name == shared else items]) for name, x in zip(NAMES, operands, strict=True)]


def check_crossings(found, expected):
    """Of edges at one place, as those of a face without area, rounding may choose another one."""
    what, place = np.moveaxis(np.asarray(found), -1, 0)
    expected_what, expected_place = np.moveaxis(expected, -1, 0)
    exists, differs = expected_what != definition.NONE, what != expected_what
    assert (what[differs] >= 0).all()
    assert (expected_what[differs] >= 0).all()
    assert differs.sum() <= 0.002 * exists.sum()
    assert np.abs(place - expected_place)[exists].max() <= ROUNDING * definition.UNIT


def check_gradient(found, expected):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_scenes_have_edges_and_cuts_of_every_kind():
    crossings, *_ = plain(scenes)
    what, face_index = crossings[..., 0], scenes()[2]
    assert all((what[i] >= 0).sum() > 5 for i in range(len(SCENES)))
    # An edge of a face that no pixel sees, a cut by a face, and a cut by the near plane.
    assert any(np.setdiff1d(what[i][what[i] >= 0] // 3, face_index[i]).size for i in range(len(SCENES)))
    item, axis, row, column = np.nonzero(what <= definition.CUT)
    sees_q = (definition.CUT - what[item, axis, row, column]) % 2 == 1
    row, column = row + (sees_q & (axis == 1)), column + (sees_q & (axis == 0))
    assert 3 < (face_index[item, row, column] < 0).sum() < len(item) - 3


def test_crossings_and_gradients_agree_with_plain_jax(device):
    crossings, cotangent, grad = (x[:device] for x in plain(scenes))
    values = on_device(scenes(), device)
    check_crossings(boundary.boundary_crossings(*values), crossings)
    found = boundary.crossing_motion_bwd(jnp.asarray(cotangent), jnp.asarray(crossings), *values[:3], sums=device)
    for item in range(device):
        check_gradient(found[item], grad[item])


@pytest.mark.parametrize(
    ("device", "shared"),
    [("interpreter", "face_index"), *(("emulator", name) for name in NAMES)],
    indirect=["device"],
)
def test_batch_shares_operands_of_batch_size_one(shared, device):
    crossings, cotangent, grad = (x[:device] for x in plain(variants, shared))
    values = on_device(variants(shared), device, shared)
    check_crossings(boundary.boundary_crossings(*values), crossings)
    found = boundary.crossing_motion_bwd(jnp.asarray(cotangent), jnp.asarray(crossings), *values[:3], sums=1)
    assert found.shape == (1, *grad.shape[1:])
    check_gradient(found[0], grad.sum(axis=0))


def test_cotangent_and_crossings_may_be_shared(device):
    crossings, cotangent, _ = plain(scenes)
    clip, faces, face_index, _ = on_device(scenes(), device)
    shared = jnp.asarray(cotangent[:1]), jnp.asarray(crossings[:1]), clip[:1], faces[:1]
    copies = (jnp.repeat(x, device, axis=0) for x in shared)
    found, expected = (
        boundary.crossing_motion_bwd(*operands, face_index=face_index, sums=device) for operands in (shared, copies)
    )
    assert np.abs(np.asarray(expected)).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_backend_runs_the_kernels_of_both_ops():
    crossings, cotangent, grad = (x[:1] for x in plain(scenes))
    values = on_device(scenes(), 1)
    check_crossings(boundary_crossings_p.bind(*values, backend="interpret"), crossings)
    crossings = jnp.asarray(crossings)
    found = crossing_motion_bwd_p.bind(jnp.asarray(cotangent), crossings, *values[:3], sums=1, backend="interpret")
    check_gradient(found, grad)


@pytest.mark.parametrize(("vertices", "faces", "size"), [(3, 0, 4), (0, 2, 4), (3, 2, 0)])
def test_nothing_crosses_where_operands_are_empty(vertices, faces, size):
    clip, faces = jnp.zeros((2, vertices, 4)), jnp.zeros((1, faces, 3), jnp.int32)
    face_index, gaps = jnp.full((1, size, 5), -1), (2, size, 5)
    crossings = boundary.boundary_crossings(clip, faces, face_index, jnp.ones((1, *gaps), bool))
    np.testing.assert_array_equal(crossings, np.full((2, *gaps, 2), definition.NONE))
    grad = boundary.crossing_motion_bwd(jnp.ones((2, *gaps)), crossings, clip, faces, face_index, sums=2)
    np.testing.assert_array_equal(grad, np.zeros(clip.shape))


def test_flag_for_determinism_leaves_the_sums_to_plain_jax(monkeypatch):
    monkeypatch.setattr(definition, "crossing_motion_bwd", lambda *operands, sums: (operands, sums))
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    assert boundary.crossing_motion_bwd(*"abcde", sums=3) == (tuple("abcde"), 3)  # pyright: ignore[reportArgumentType]


def test_kernels_compute_in_float32_only():
    with jax.enable_x64(True):
        clip, faces = jnp.zeros((1, 3, 4), jnp.float64), jnp.zeros((1, 1, 3), jnp.int32)
        face_index, gaps = jnp.zeros((1, 4, 4), jnp.int32), jnp.zeros((1, 2, 4, 4))
        with pytest.raises(NotImplementedError, match="float32"):
            boundary.boundary_crossings(clip, faces, face_index, gaps > 0)
        crossings = jnp.zeros((*gaps.shape, 2), jnp.int32)
        with pytest.raises(NotImplementedError, match="float32"):
            boundary.crossing_motion_bwd(gaps, crossings, clip, faces, face_index, sums=1)
