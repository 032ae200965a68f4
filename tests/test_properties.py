"""Metamorphic tests: how images and gradients must change if the mesh changes in a known way.

transforms/test_transforms.py tests scaled losses, transposed images and batches against loops; kernels/ and
test_oracle.py compare implementations. JNR_NIGHTLY=1 tests many more meshes.

Corners are multiples of an eighth of a pixel and each face has a single NDC depth, so that visibility is decided
exactly in float32. Edges through pixel centres, corners on them, ties and degenerate faces therefore need no
exceptions.
"""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jnr
from jnr import _backend

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies

NIGHTLY = os.environ.get("JNR_NIGHTLY", "0") != "0"
SIZE, FACES, VERTICES = 16, 16, 48
BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not _backend.has_cpu_kernels(), reason="needs the C++ kernels")),
]
settings = hypothesis.settings(
    max_examples=2000 if NIGHTLY else 30, derandomize=not NIGHTLY, deadline=None, database=None
)


class Mesh(NamedTuple):
    """Input: at most 16 faces of one colour each."""

    clip: np.ndarray | jax.Array  # (48, 4)
    faces: np.ndarray | jax.Array  # (16, 3)
    colors: np.ndarray | jax.Array  # (16, 2)
    cotangent: np.ndarray | jax.Array  # (16, 16, 2)


class Result(NamedTuple):
    """Fragments and gradients of a mesh."""

    face_index: np.ndarray | jax.Array
    barycentric: np.ndarray | jax.Array
    depth: np.ndarray | jax.Array
    swept: np.ndarray | jax.Array  # the edge sweep's gradient of the positions
    smooth: np.ndarray | jax.Array  # gradient through depth and barycentrics


def _rasterize_with_gradients(mesh, backend):
    def fragments_of(clip):
        return jnr.rasterize(clip, mesh.faces, SIZE, backend=backend)

    fragments = fragments_of(mesh.clip)
    color = jnp.where(fragments.face_index[..., None] >= 0, mesh.colors[fragments.face_index], 0)

    def swept(clip):
        return jnp.sum(
            mesh.cotangent * jnr.edge_sweep(color, clip, mesh.faces, lax.stop_gradient(fragments), backend=backend)
        )

    def smooth(clip):
        moved = fragments_of(clip)
        # Symmetric in the corners, so that the result is independent of which comes first.
        return jnp.sum(
            mesh.cotangent[..., 0] * jnp.sum(moved.barycentric**2, axis=-1) + mesh.cotangent[..., 1] * moved.clip_w
        )

    return Result(*fragments, jax.grad(swept)(mesh.clip), jax.grad(smooth)(mesh.clip))


COMPILED = {name: jax.jit(lambda mesh, name=name: _rasterize_with_gradients(mesh, name)) for name in ("xla", "cpu")}


def rasterize(mesh, backend):
    return Result(*map(np.asarray, COMPILED[backend](Mesh(*map(jnp.asarray, mesh)))))


def same_to_rounding(one, other):
    # float32 sums in a different order, with terms up to 1/eps that partly cancel
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * max(np.abs(other).max(initial=0), 1e-3))


def same_fragments(one, other):
    np.testing.assert_array_equal(one.face_index, other.face_index)
    np.testing.assert_allclose(one.barycentric, other.barycentric, atol=1e-6)
    np.testing.assert_allclose(one.depth, other.depth, rtol=1e-6)


@st.composite
def meshes(draw, num_faces=8, reach=64, ties=True):
    """Generates meshes whose corners are at most `reach` eighths of a pixel from the image centre."""
    integers = st.lists(st.integers(-reach, reach), min_size=6 * num_faces, max_size=6 * num_faces)
    corners = np.array(draw(integers), np.float32).reshape(-1, 2) / (8 * SIZE / 2)
    w = 2.0 ** np.array(draw(st.lists(st.integers(-1, 1), min_size=3 * num_faces, max_size=3 * num_faces)))
    level = np.arange(num_faces)
    if ties:
        level = np.array(draw(st.lists(st.integers(0, 3), min_size=num_faces, max_size=num_faces)))
    z = np.repeat(level / 8 - 0.5, 3)
    clip = np.zeros((VERTICES, 4), np.float32)
    clip[: 3 * num_faces] = np.concatenate([corners, z[:, None], np.ones_like(w)[:, None]], axis=1) * w[:, None]
    faces = np.full((FACES, 3), -1, np.int32)
    faces[:num_faces] = np.arange(3 * num_faces).reshape(-1, 3)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colors, cotangent = rng.integers(0, 5, (FACES, 2)) / 4, rng.integers(-2, 3, (SIZE, SIZE, 2)) / 2
    return Mesh(clip, faces, colors.astype(np.float32), cotangent.astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_mesh_shifted_by_whole_pixels_shifts_the_image(backend):
    @settings
    @hypothesis.given(meshes(reach=128), st.integers(-5, 5), st.integers(-5, 5))
    def check(mesh, right, down):
        original, moved = rasterize(mesh, backend), rasterize(_shifted(mesh, right, down), backend)
        common, shifted = _overlap(right, down)
        same_fragments(
            Result(*(a[common] for a in original[:3]), None, None),  # pyright: ignore[reportCallIssue]: unpacked
            Result(*(a[shifted] for a in moved[:3]), None, None),  # pyright: ignore[reportCallIssue]: unpacked
        )

    check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_mesh_shifted_by_whole_pixels_keeps_its_gradient(backend):
    # The mesh stays three pixels away from the border, because edges outside the image have no gradient.
    @settings
    @hypothesis.given(meshes(reach=32), st.integers(-1, 1), st.integers(-1, 1))
    def check(mesh, right, down):
        inner = np.zeros_like(mesh.cotangent)
        inner[1:-1, 1:-1] = mesh.cotangent[1:-1, 1:-1]
        original = rasterize(mesh._replace(cotangent=inner), backend)
        cotangent = np.roll(inner, (down, right), axis=(0, 1))
        moved = rasterize(_shifted(mesh, right, down)._replace(cotangent=cotangent), backend)
        for one, other in ((moved.swept, original.swept), (moved.smooth, original.smooth)):
            same_to_rounding(one[:, :3], other[:, :3])

    check()


def _shifted(mesh, right, down):
    step = np.array([2 * right / SIZE, -2 * down / SIZE], np.float32)
    clip = mesh.clip.copy()
    clip[:, :2] += step * clip[:, 3:]
    return mesh._replace(clip=clip)


def _overlap(right, down):
    """Returns slices of the pixels that stay in the image, before and after the shift."""
    before = [slice(max(0, -d), SIZE - max(0, d)) for d in (down, right)]
    after = [slice(max(0, d), SIZE - max(0, -d)) for d in (down, right)]
    return tuple(before), tuple(after)


@pytest.mark.parametrize("backend", BACKENDS)
def test_result_is_independent_of_the_order_of_faces_and_corners(backend):
    # No ties, because the order of faces decides them.
    @settings
    @hypothesis.given(
        meshes(ties=False), st.permutations(range(FACES)), st.lists(st.integers(0, 2), min_size=FACES, max_size=FACES)
    )
    def check(mesh, order, turns):
        order, first = np.array(order), (np.arange(3) + np.array(turns)[:, None]) % 3
        original = rasterize(mesh, backend)
        faces = np.take_along_axis(mesh.faces, first, axis=1)[order]
        turned = rasterize(mesh._replace(faces=faces, colors=mesh.colors[order]), backend)
        seen = original.face_index >= 0
        np.testing.assert_array_equal(turned.face_index >= 0, seen)
        np.testing.assert_array_equal(order[turned.face_index[seen]], original.face_index[seen])
        np.testing.assert_allclose(turned.depth, original.depth, rtol=1e-6)
        expected = np.take_along_axis(original.barycentric, first[original.face_index], axis=-1)
        np.testing.assert_allclose(turned.barycentric, expected, atol=1e-6)
        same_to_rounding(turned.swept, original.swept)
        same_to_rounding(turned.smooth, original.smooth)

    check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_duplicate_faces_padding_and_unused_vertices_change_no_bit(backend):
    @settings
    @hypothesis.given(meshes(), st.booleans(), st.permutations(range(FACES)))
    def check(mesh, twice, order):
        original = rasterize(mesh, backend)
        clip, faces, colors = mesh.clip.copy(), mesh.faces.copy(), mesh.colors.copy()
        clip[24:] = np.nan
        place = np.arange(FACES)
        if twice:
            faces[8:], colors[8:] = faces[:8], 7.0
        else:  # the faces in order, with padding between them
            place = np.sort(np.array(order[:8]))
            faces, colors = np.full_like(faces, -1), np.full_like(colors, 7.0)
            faces[place], colors[place] = mesh.faces[:8], mesh.colors[:8]
        changed = rasterize(mesh._replace(clip=clip, faces=faces, colors=colors), backend)
        seen = original.face_index >= 0
        np.testing.assert_array_equal(changed.face_index, np.where(seen, place[original.face_index], -1))
        for one, other in zip(changed[1:], original[1:], strict=True):
            np.testing.assert_array_equal(one, other)

    check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_subdivided_face_covers_the_same_pixels_at_the_same_depth(backend):
    @settings
    @hypothesis.given(meshes(num_faces=4, reach=128))
    def check(mesh):
        whole = rasterize(mesh, backend)
        # Midpoints in clip space lie on the edges even with perspective.
        corner = mesh.clip[:12].reshape(4, 3, 4)
        middle = (corner + np.roll(corner, -1, axis=1)) / 2
        vertices = np.concatenate([corner, middle], axis=1).reshape(-1, 4)
        parts = np.array([[0, 3, 5], [1, 4, 3], [2, 5, 4], [3, 4, 5]]) + 6 * np.arange(4)[:, None, None]
        clip = np.zeros_like(mesh.clip)
        clip[: len(vertices)] = vertices
        divided = rasterize(mesh._replace(clip=clip, faces=parts.reshape(-1, 3).astype(np.int32)), backend)
        # Parts of a degenerate face are degenerate too, because midpoints are exact.
        np.testing.assert_array_equal(np.where(divided.face_index >= 0, divided.face_index // 4, -1), whole.face_index)
        np.testing.assert_allclose(divided.depth, whole.depth, rtol=1e-6)

    check()


@pytest.mark.parametrize("axis", [0, 1], ids=["left_right", "up_down"])
@pytest.mark.parametrize(
    # Corners in the reverse order keep the side of each face that is seen, which decides ties.
    ("ties", "order"),
    [(False, [0, 1, 2]), (True, [0, 2, 1])],
    ids=["same_corners", "reversed_corners"],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_mirrored_mesh_has_mirrored_image_and_gradient(backend, ties, order, axis):
    @settings
    @hypothesis.given(meshes(reach=96, ties=ties))
    def check(mesh):
        original = rasterize(mesh, backend)
        sign = np.ones(4, np.float32)
        sign[axis] = -1
        across = 1 - axis
        mirrored = mesh._replace(clip=mesh.clip * sign, cotangent=np.flip(mesh.cotangent, across))
        mirrored = rasterize(mirrored._replace(faces=mesh.faces[:, order]), backend)
        face_index, barycentric, depth = (np.flip(image, across) for image in mirrored[:3])
        same_fragments(
            original._replace(face_index=face_index, barycentric=barycentric[..., order], depth=depth), original
        )
        if not ties:
            np.testing.assert_array_equal(barycentric, original.barycentric)
            np.testing.assert_array_equal(depth, original.depth)
        same_to_rounding(mirrored.swept * sign, original.swept)
        same_to_rounding(mirrored.smooth * sign, original.smooth)

    check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_surface_with_inner_edges_through_pixel_centres_has_no_holes(backend):
    # Coordinates are rounded here: an edge may miss the centre, but on the same side for both of its faces.
    for seed in range(2000 if NIGHTLY else 100):
        rng = np.random.default_rng(seed)
        # 2 x 4 quads: the outline is outside the image and the three inner corners are at pixel centres.
        xy = np.stack(np.meshgrid([-3, -0.7, 0, 0.7, 3], [-3, 0, 3]), axis=-1)
        inner = np.stack([np.arange(0, 15, 5) + rng.integers(0, 5, 3), rng.integers(3, 13, 3)], axis=-1)
        xy[1, 1:4] = (2 * inner + 1) / SIZE - 1
        clip = np.zeros((VERTICES, 4), np.float32)
        xyzw = np.concatenate([xy, np.zeros((3, 5, 1)), np.ones((3, 5, 1))], axis=-1).reshape(-1, 4)
        clip[:15] = xyzw * rng.uniform(0.5, 3, (15, 1))
        first = np.array([[r * 5 + c] for r in range(2) for c in range(4)])
        faces = np.concatenate([first + np.array([0, 1, 5]), first + np.array([1, 6, 5])]).astype(np.int32)
        colors, cotangent = np.zeros((FACES, 2), np.float32), np.zeros((SIZE, SIZE, 2), np.float32)
        assert np.all(rasterize(Mesh(clip, faces, colors, cotangent), backend).face_index >= 0), seed
