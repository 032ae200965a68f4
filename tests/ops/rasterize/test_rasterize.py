import golden as reference_data
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scenes import KERNELS, NAMES, NEEDS, SCENES, golden_soup, on, on_gpu

import jnr
from jnr._ops.rasterize import rasterize_p
from jnr._ops.rasterize.definition import rasterize as rasterize_definition

reference = jax.jit(rasterize_definition, static_argnames=("height", "width", "cull"))


def run(clip, faces, *, backend, **options):
    return np.asarray(rasterize_p.bind(jnp.asarray(clip), jnp.asarray(faces), backend=backend, **options))


def near_an_edge(clip, faces, height, width, tolerance=1e-3):
    """Pixels within `tolerance` pixels of an edge of any face, where two correct implementations may differ."""
    clip = np.nan_to_num(clip.astype(np.float64), nan=1, posinf=1, neginf=1)
    x = ((clip[:, 0] + clip[:, 3]) * width - clip[:, 3]) / 2
    y = ((clip[:, 3] - clip[:, 1]) * height - clip[:, 3]) / 2
    points = np.stack([x, y, clip[:, 3]], axis=-1)
    pixel = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones((height, width))], axis=-1)
    band = np.zeros((height, width), bool)
    for face in faces:
        for a, b in ((0, 1), (1, 2), (2, 0)):
            edge = np.cross(points[face[a]], points[face[b]])
            length = np.hypot(*edge[:2])
            if length > 0:
                band |= np.abs(pixel @ edge) <= tolerance * length
    return band


def near_a_tie(clip, faces, height, width):
    """Pixels whose two nearest faces have equal depths up to rounding errors."""
    depths = []
    for i in range(len(faces)):
        alone = jnp.asarray(reference(clip[None], faces[None, i : i + 1], height=height, width=width, cull=None)[0])
        fragments = jnr.rasterize(clip, faces[i : i + 1], (height, width), backend="xla")
        vertices = np.maximum(faces[i], 0)
        z = np.asarray(fragments.barycentric) @ np.nan_to_num(clip[vertices, 2])
        w = np.asarray(fragments.clip_w)
        depths.append(np.where(np.asarray(alone) >= 0, z / np.where(w == 0, 1, w), 9))
    if len(depths) < 2:
        return np.zeros((height, width), bool)
    first, second = np.sort(np.stack(depths), axis=0)[:2]
    return (second - first < 1e-5) & (first < 9)


@pytest.mark.parametrize("cull", [None, "back", "front"])
@pytest.mark.parametrize("scene", NAMES)
@pytest.mark.parametrize("backend", KERNELS)
def test_kernel_agrees_with_plain_jax(backend, scene, cull):
    clip, faces, height, width = SCENES[scene]
    expected = np.asarray(reference(clip[None], faces[None], height=height, width=width, cull=cull))[0]
    out = run(clip[None], faces[None], backend=backend, height=height, width=width, cull=cull)[0]
    assert out.dtype == np.int32
    assert out.shape == (height, width)
    differs = out != expected
    if differs.any():
        differs &= ~near_an_edge(clip, faces, height, width) & ~near_a_tie(clip, faces, height, width)
    assert not differs.any()
    # All pixels on an edge that passes through pixel centres are exceptions.
    assert (out != expected).mean() <= 0.02


@pytest.mark.parametrize("backend", KERNELS)
def test_shared_edges_leave_no_gap_and_ties_go_to_the_lowest_face(backend):
    clip, faces, height, width = SCENES["ties"]
    out = run(clip[None], faces[None], backend=backend, height=height, width=width, cull=None)[0]
    assert (out[1:-1, 1:-1] >= 0).all()
    assert out.max() < len(faces) // 3


@pytest.mark.parametrize("cull", [None, "back", "front"])
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("xla", np.float32),
        ("xla", np.float64),
        on("interpret", np.float32),
        on("cpu", np.float32),
        on("cpu", np.float64),
    ],
)
def test_of_coincident_faces_the_front_is_seen_and_then_the_lowest(backend, dtype, cull):
    clip, faces, height, width = SCENES["coincident"]
    num_faces = len(faces) // 3
    with jax.enable_x64(dtype == np.float64):
        options = {"backend": backend, "height": height, "width": width}
        seen = run(clip[None].astype(dtype), faces[None], cull=cull, **options)[0]
        first = run(clip[None].astype(dtype), faces[None, :num_faces], cull=None, **options)[0]
        fronts = run(clip[None].astype(dtype), faces[None, :num_faces], cull="back", **options)[0]
    # Of a face's three copies the second is the other way round.
    corners = clip[faces[:num_faces]].astype(np.float64)
    is_front = np.linalg.det(corners[..., [0, 1, 3]]) > 0
    wanted = np.where(is_front == (cull != "front"), np.arange(num_faces), np.arange(num_faces) + num_faces)
    np.testing.assert_array_equal(seen, np.where(first < 0, -1, wanted[first]))
    # A test of `is_front` itself, whose sign depends on the direction of rows.
    assert is_front.any()
    assert not is_front.all()
    assert set(np.unique(fronts)) - {-1} <= set(np.flatnonzero(is_front))


@pytest.mark.parametrize("backend", ["xla", on("cpu")])
def test_depths_of_coincident_faces_have_the_same_bits_in_every_order_of_corners(backend):
    # Many scenes, since depths that are rounded differently differ in a few pixels of some.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        xyw = rng.uniform(-1, 1, (1, 9, 3)) * [1, 1, 0.5] + [0, 0, 1]
        clip = np.concatenate([xyw[..., :2], rng.uniform(-0.4, 0.4, (1, 9, 1)), xyw[..., 2:]], axis=-1)
        faces = np.arange(9).reshape(3, 3)
        orders = [faces[:, order] for order in ([2, 1, 0], [1, 2, 0], [0, 2, 1], [0, 1, 2], [2, 0, 1], [1, 0, 2])]
        both = np.concatenate(orders)[None].astype(np.int32)
        seen = run(clip.astype(np.float32), both, backend=backend, height=24, width=24, cull=None)[0]
        for face in range(3):
            # One copy of each face is seen everywhere: a front one, as one is always there.
            assert len(np.unique(seen[(seen >= 0) & (seen % 3 == face)])) <= 1


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_face_covers_its_three_edges_and_its_corners(backend):
    # The corners are the centres of pixels (1, 1), (1, 6) and (6, 1), so every edge passes through six pixel centres.
    ndc = (2 * np.array([[1, 6], [1, 1], [6, 1]]) + 1) / 8 - 1
    clip = np.concatenate([ndc * [1, -1], [[0, 1]] * 3], axis=1).astype(np.float32)
    out = run(clip[None], np.array([[[0, 1, 2]]], np.int32), backend=backend, height=8, width=8, cull=None)[0]
    row, column = np.mgrid[:8, :8]
    np.testing.assert_array_equal(out >= 0, (row >= 1) & (column >= 1) & (row + column <= 7))


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_face_is_visible_although_no_corner_is_both_beyond_the_near_plane_and_in_front_of_the_camera(backend):
    # An oblique near plane allows this: one corner is beyond it and behind the camera, two are before it and in front.
    clip = np.array([[-0.53, -0.04, 1.13, -0.14], [-0.14, -0.33, -1.72, 1.06], [0.52, 0.10, -0.98, 0.20]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    seen = oracle.rasterize(clip, faces, 16, 16)
    assert np.sum(seen.face_index == 0) > 50
    out = run(clip[None], faces[None], backend=backend, height=16, width=16, cull=None)[0]
    np.testing.assert_array_equal(out[seen.clear], seen.face_index[seen.clear])


@pytest.mark.parametrize("shared", ["faces", "clip_positions", "nothing"])
@pytest.mark.parametrize("backend", KERNELS)
def test_batch_equals_a_loop_over_its_items(backend, shared):
    clip, faces, height, width = SCENES["odd_sizes"]
    rng = np.random.default_rng(0)
    clips = np.stack([clip, clip[rng.permutation(len(clip))], clip * [[-1, 1, 1, 1]]]).astype(np.float32)
    many_faces = np.stack([faces, faces[::-1], rng.permutation(faces.reshape(-1)).reshape(-1, 3)]).astype(np.int32)
    clips = clips[:1] if shared == "clip_positions" else clips
    many_faces = many_faces[:1] if shared == "faces" else many_faces
    out = run(clips, many_faces, backend=backend, height=height, width=width, cull=None)
    for i in range(3):
        item = clips[min(i, len(clips) - 1)][None], many_faces[min(i, len(many_faces) - 1)][None]
        np.testing.assert_array_equal(out[i], run(*item, backend=backend, height=height, width=width, cull=None)[0])


SMALL = [
    name
    for name in reference_data.KERNEL_CASES
    if not name.startswith(("illcond", "teapot")) and name[-3:] not in ("128", "256")
]


LARGE = [name for name in reference_data.KERNEL_CASES if not name.startswith("illcond") and name not in SMALL]


@pytest.mark.parametrize(
    ("backend", "case"),
    [on("interpret", case) for case in ("soup_F1_is32", "thin", "nearfar")]
    + [on("cpu", case) for case in SMALL + LARGE]
    + [on_gpu(case) for case in reference_data.STORED_SOUPS],
)
def test_faces_equal_the_golden_data(backend, case):
    clip, faces, data = golden_soup(case)
    height = int(data["image_size"])
    # Row 0 of the golden maps is at the bottom.
    out = run(clip, faces, backend=backend, height=height, width=height, cull="back")[:, ::-1]
    if case == "nearfar":
        # The original interpolates negative depths too (README.md of the golden data, section 5, quirk 7).
        usable = (data["faces_xyz"][..., 2] > 0).all(axis=(1, 2))
        out, expected = out[usable], data["face_index_map"][usable]
    else:
        expected = data["face_index_map"]
    # Coordinates take a detour through clip space, so one pixel, or 0.05 % of them, may differ by rounding.
    assert (out != expected).sum() <= max(1, 5e-4 * expected.size)


@pytest.mark.parametrize("backend", ["xla", *KERNELS])
def test_zero_and_minus_zero_are_one_depth(backend):
    clip = np.array([[-1, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]] * 2, np.float32)
    clip[3:, 2] = -0.0
    out = run(clip[None], np.arange(6, dtype=np.int32).reshape(1, 2, 3), backend=backend, height=4, width=4, cull=None)
    assert set(np.unique(out)) == {-1, 0}


@pytest.mark.parametrize("backend", ["xla", on("cpu")])
def test_depth_of_a_sliver_stays_between_the_depths_of_its_corners(backend):
    # A nearer quad hides slivers, whose planes are determined by rounding errors. One edge of each passes through the
    # centres of a row of pixels, and the third corner is barely off that row.
    rng = np.random.default_rng(0)
    count, size = 400, 64
    x = rng.uniform(-0.9, 0.9, (count, 3, 1))
    y = np.broadcast_to((2 * rng.integers(size, size=(count, 1, 1)) + 1) / size - 1, x.shape).copy()
    y[:, 2] += rng.choice([-1, 1], (count, 1)) * rng.uniform(1e-7, 1e-6, (count, 1))
    xy = np.concatenate([x, y], axis=-1)
    z = rng.uniform(0.45, 0.55, (count, 3, 1))
    slivers = np.concatenate([xy, z, np.ones_like(z)], axis=-1).reshape(-1, 4)
    quad = np.array([[-1, -1, 0.4, 1], [1, -1, 0.4, 1], [1, 1, 0.4, 1], [-1, 1, 0.4, 1]])
    clip = np.concatenate([slivers, quad])[None].astype(np.float32)
    faces = np.arange(3 * count).reshape(-1, 3)
    faces = np.concatenate(
        [faces, [[3 * count, 3 * count + 1, 3 * count + 2], [3 * count, 3 * count + 2, 3 * count + 3]]]
    )
    options = {"backend": backend, "height": size, "width": size, "cull": None}
    drawn = run(clip, faces[None, :count].astype(np.int32), **options)
    assert (drawn >= 0).sum() > 20
    assert run(clip, faces[None].astype(np.int32), **options).min() >= count


@NEEDS["cpu"]
def test_faces_smaller_than_a_pixel_leave_no_gap_where_edges_pass_through_pixel_centers():
    # A third of a pixel per cell: every third column of edges passes through centres, but for the rounding of x / w.
    size, cells = 256, 120
    first, rng = 130, np.random.default_rng(0)
    column, row = np.meshgrid(first + np.arange(cells + 1) / 3, first + np.arange(cells + 1) / 3 + 0.21)
    w = rng.uniform(0.5, 2, column.shape)
    x, y = (2 * column + 1) / size - 1, 1 - (2 * row + 1) / size
    clip = np.stack([x * w, y * w, 0 * w, w], axis=-1).reshape(1, -1, 4).astype(np.float32)
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    lower = np.stack([corner, corner + cells + 1, corner + 1], axis=-1)
    upper = np.stack([corner + 1, corner + cells + 1, corner + cells + 2], axis=-1)
    faces = np.concatenate([lower, upper])[None].astype(np.int32)
    out = run(clip, faces, backend="cpu", height=size, width=size, cull=None)[0]
    inside = slice(first + 1, first + cells // 3)
    assert (out[inside, inside] >= 0).all()
