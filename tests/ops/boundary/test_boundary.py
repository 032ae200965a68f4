"""The boundary gradient's ops: agreement of the backends, closed forms, and the two modes as transposes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import SCENES, on, padded

import jnr
from jnr._ops.boundary import boundary_crossings_p, crossing_motion_bwd_p, definition
from jnr._ops.rasterize.definition import rasterize as rasterize_definition

rasterize = jax.jit(rasterize_definition, static_argnames=("height", "width", "cull"))
find = jax.jit(definition.boundary_crossings)
move = jax.jit(definition.crossing_motion)
pull = jax.jit(definition.crossing_motion_bwd, static_argnames="sums")
PIXELS = 24


def pixels(*corners, z: Any = 0.0, w: Any = 1.0):
    """Clip positions of points given by column and row in a square image."""
    place = (2 * np.array(corners, np.float64) + 1) / PIXELS - 1
    z, w = (np.broadcast_to(value, len(corners)).astype(np.float64) for value in (z, w))
    return np.stack([place[:, 0] * w, -place[:, 1] * w, z * w, w], axis=-1).astype(np.float32)


def scene_of(clip, faces, height, width):
    clip, faces = jnp.asarray(clip)[None], jnp.asarray(faces, jnp.int32)[None]
    return clip, faces, rasterize(clip, faces, height=height, width=width, cull=None)


AWKWARD = ["degenerate", "near_plane", "not_finite", "padding", "shared_edges", "ties", "coincident"]


@pytest.mark.parametrize(("backend", "scene"), [on("cpu", scene) for scene in AWKWARD])
def test_backend_agrees_with_plain_jax(backend, scene):
    agree(*scene_of(*padded(scene), 16, 24), backend=backend)


@pytest.mark.parametrize(("backend", "scene"), [on("cpu", scene) for scene in ("no_faces", "one_pixel", "odd_sizes")])
def test_backend_agrees_with_plain_jax_at_unusual_sizes(backend, scene):
    agree(*scene_of(*SCENES[scene]), backend=backend)


def agree(clip, faces, face_index, backend):
    rng = np.random.default_rng(0)
    shape = (1, 2, *face_index.shape[1:])
    active = jnp.asarray(rng.random(shape) < 0.9)
    expected = np.asarray(find(clip, faces, face_index, active))
    out = np.asarray(boundary_crossings_p.bind(clip, faces, face_index, active, backend=backend))
    np.testing.assert_array_equal(out[..., 0], expected[..., 0])
    assert np.abs(out[..., 1] - expected[..., 1]).max(initial=0) < 1e-4 * definition.UNIT
    force = jnp.asarray(rng.normal(size=shape), jnp.float32)
    operands = force, jnp.asarray(expected), clip, faces, face_index
    expected = np.asarray(pull(*operands, sums=1))
    assert np.isfinite(expected).all()
    grad = np.asarray(crossing_motion_bwd_p.bind(*operands, sums=1, backend=backend))
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max(initial=0))


@pytest.mark.parametrize("backend", ["xla", on("cpu")])
def test_sums_over_shared_positions(backend):
    clip, faces, face_index = scene_of(*padded("near_plane"), 16, 24)
    face_index = jnp.concatenate([face_index, face_index[:, ::-1]])
    crossings = find(clip, faces, face_index, jnp.ones((2, 2, 16, 24), bool))
    force = jnp.asarray(np.random.default_rng(0).normal(size=crossings.shape[:-1]), jnp.float32)
    operands = force, crossings, clip, faces, face_index
    each = crossing_motion_bwd_p.bind(*operands, sums=2, backend=backend)
    both = crossing_motion_bwd_p.bind(*operands, sums=1, backend=backend)
    np.testing.assert_allclose(both[0], each[0] + each[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scene", ["near_plane", "not_finite", "coincident"])
def test_modes_are_transposes_of_each_other(scene):
    clip, faces, face_index = scene_of(*padded(scene), 16, 24)
    crossings = find(clip, faces, face_index, jnp.ones((1, 2, 16, 24), bool))
    rng = np.random.default_rng(0)
    tangent, force = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (clip.shape, crossings.shape[:-1]))
    forward = np.sum(np.asarray(move(tangent, crossings, clip, faces, face_index) * force, np.float64))
    backward = np.sum(np.asarray(pull(force, crossings, clip, faces, face_index, sums=1) * tangent, np.float64))
    assert abs(forward) > 1
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


def test_crossing_of_an_edge_and_its_motion():
    # An edge from (10, 0) to (12, 20) crosses row 5 at 10.5 and moves by three quarters of its first corner's motion.
    clip = pixels((10, 0), (12, 20), (2, 10))
    clip, faces, face_index = scene_of(clip, [[0, 1, 2]], PIXELS, PIXELS)
    crossings = np.asarray(find(clip, faces, face_index, jnp.ones((1, 2, PIXELS, PIXELS), bool)))
    what, place = crossings[0, 0, 5, 10]
    assert what == 0
    assert abs(place / definition.UNIT - 0.5) < 1e-4
    tangent = jnp.zeros((1, 3, 4)).at[0, 0, 0].set(2 / PIXELS)
    motion = move(tangent, crossings, clip, faces, face_index)
    np.testing.assert_allclose(motion[0, 0, 5, 10], 0.75, rtol=1e-4)


@pytest.mark.parametrize(("shares", "expected_change"), [("equal", (0.375, 0.375)), ("nearest", (0, 0.75))])
def test_two_pixels_share_a_change(shares, expected_change):
    # The crossing of the test above, whose corner moves by a pixel: three quarters of a pixel's area. It lies in the
    # second half of its gap.
    clip, faces = jnp.asarray(pixels((10, 0), (12, 20), (2, 10))), jnp.array([[0, 1, 2]])

    def image(clip):
        fragments = jnr.rasterize(clip, faces, PIXELS)
        covered = (fragments.face_index >= 0).astype(clip.dtype)[..., None]
        return jnr.boundary(covered, clip, faces, fragments, shares=shares)

    tangent = jnp.zeros((3, 4)).at[0, 0].set(2 / PIXELS)
    change = jax.jit(lambda clip: jax.jvp(image, (clip,), (tangent,))[1])(clip)[5, :, 0]
    expected = np.zeros(PIXELS)
    expected[10:12] = expected_change
    # The edge on the left has this corner too.
    np.testing.assert_allclose(change[8:], expected[8:], atol=1e-4)


def test_corners_move_a_crossing_by_w():
    # Farther away is nearer to the middle of the image: the corner's w moves it from column 10 towards 11.5.
    clip, faces, face_index = scene_of(pixels((10, 0), (12, 20), (2, 10)), [[0, 1, 2]], PIXELS, PIXELS)
    crossings = find(clip, faces, face_index, jnp.ones((1, 2, PIXELS, PIXELS), bool))
    tangent = jnp.zeros((1, 3, 4)).at[0, 0, 3].set(1.0)
    # The crossing's own column counts: its point of the edge keeps its share.
    motion = move(tangent, crossings, clip, faces, face_index)[0, 0, 5, 10]
    np.testing.assert_allclose(motion, 0.75 * (11.5 - 10.5), rtol=1e-3)


def test_area_of_a_triangle():
    # The derivative of the area in pixels, over shifts below a pixel.
    corners = np.array([(4.3, 3.1), (20.2, 8.4), (7.7, 19.9)])
    (ax, ay), (bx, by), (cx, cy) = corners
    expected = np.array([(by - cy, cx - bx), (cy - ay, ax - cx), (ay - by, bx - ax)]) / 2
    faces = jnp.array([[0, 1, 2]])

    @jax.jit
    @jax.vmap
    @jax.grad
    def of_area(clip):
        fragments = jnr.rasterize(clip, faces, PIXELS)
        covered = (fragments.face_index >= 0).astype(clip.dtype)[..., None]
        return jnp.sum(jnr.boundary(covered, clip, faces, fragments))

    shifts = np.stack(np.meshgrid(np.arange(8) / 8, np.arange(8) / 8), axis=-1).reshape(-1, 1, 2)
    clips = jnp.stack([jnp.asarray(pixels(*moved)) for moved in corners + shifts])
    grad = np.mean(of_area(clips), axis=0)
    in_pixels = np.stack([grad[:, 0] * 2 / PIXELS, -grad[:, 1] * 2 / PIXELS], axis=-1)
    np.testing.assert_allclose(in_pixels, expected, atol=5e-3 * np.abs(expected).max())


def test_hidden_edge_of_a_surface_finer_than_pixels():
    # A strip of faces 0.3 pixels wide, of which pixel centres see every third: it ends at its last edge.
    end = 12.4
    columns = np.append(np.arange(2.5, end, 0.3), end)
    clip = pixels(*[(x, row) for x in columns for row in (4, 20)])
    n = len(columns)
    faces = [f for i in range(n - 1) for f in ((2 * i, 2 * i + 1, 2 * i + 2), (2 * i + 2, 2 * i + 1, 2 * i + 3))]
    clip, faces, face_index = scene_of(clip, faces, PIXELS, PIXELS)
    crossings = np.asarray(find(clip, faces, face_index, jnp.ones((1, 2, PIXELS, PIXELS), bool)))
    place = crossings[0, 0, 5:19, 12]
    np.testing.assert_allclose(place[:, 1] / definition.UNIT, end - 12, atol=1e-4)
    edge = place[:, 0]
    ends = np.asarray(faces[0])[edge // 3, edge % 3], np.asarray(faces[0])[edge // 3, (edge % 3 + 1) % 3]
    assert {tuple(sorted(e)) for e in zip(*ends, strict=True)} == {(2 * n - 2, 2 * n - 1)}


def test_surfaces_that_meet():
    # Two triangles whose depths are equal where 0.04 (x - 11) = -0.02 (x - 11), that is at column 11.
    left = pixels((2, 2), (20, 11), (2, 20), z=[-0.36, 0.36, -0.36])
    right = pixels((21, 2), (21, 20), (3, 11), z=[-0.2, -0.2, 0.16])
    clip, faces, face_index = scene_of(np.concatenate([left, right]), [[0, 1, 2], [3, 4, 5]], PIXELS, PIXELS)
    crossings = np.asarray(find(clip, faces, face_index, jnp.ones((1, 2, PIXELS, PIXELS), bool)))
    row = 11
    cut = crossings[0, 0, row, :, 0] < -1
    assert cut.sum() == 1
    column = int(np.argmax(cut))
    assert abs(column + crossings[0, 0, row, column, 1] / definition.UNIT - 11) < 1e-3
    # All of the left one moves away by 0.006: the meeting point moves left by 0.006 / 0.06 pixels.
    tangent = jnp.zeros((1, 6, 4)).at[0, :3, 2].set(0.006)
    motion = move(tangent, crossings, clip, faces, face_index)
    np.testing.assert_allclose(motion[0, 0, row, column], -0.1, rtol=1e-2)


def test_surface_cut_by_the_near_plane():
    # Depth rises by 0.1 per column and passes -1 at column 7.25; the plane does not move with the surface's columns.
    clip = pixels((1, 2), (21, 2), (1, 22), (21, 22), z=[-1.625, 0.375, -1.625, 0.375])
    clip, faces, face_index = scene_of(clip, [[0, 2, 1], [1, 2, 3]], PIXELS, PIXELS)
    crossings = np.asarray(find(clip, faces, face_index, jnp.ones((1, 2, PIXELS, PIXELS), bool)))
    assert crossings[0, 0, 10, 7, 0] < -1
    np.testing.assert_allclose(crossings[0, 0, 5:15, 7, 1] / definition.UNIT, 0.25, atol=1e-3)
    deeper = jnp.zeros((1, 4, 4)).at[0, :, 2].set(0.01)
    np.testing.assert_allclose(move(deeper, crossings, clip, faces, face_index)[0, 0, 10, 7], -0.1, rtol=1e-3)


def test_pictures_keep_their_bits_and_modes_agree():
    mesh = jnr.shapes.icosphere(1)
    colors = jnp.asarray(np.random.default_rng(0).uniform(size=mesh.vertices.shape), jnp.float32)

    def images(scale, gradient):
        rendering = jnr.render(mesh.vertices * scale, mesh.faces, colors, image_size=16, gradient=gradient)
        return rendering.rgb, rendering.alpha, rendering.depth, rendering.normals

    images = jax.jit(images, static_argnums=1)
    scale = jnp.array([0.7, 0.8, 0.9])
    for ours, plain in zip(images(scale, "boundary"), images(scale, None), strict=True):
        np.testing.assert_array_equal(ours, plain)
    forward = jax.jit(jax.jacfwd(images), static_argnums=1)(scale, "boundary")
    reverse = jax.jit(jax.jacrev(images), static_argnums=1)(scale, "boundary")
    for a, b in zip(forward, reverse, strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def test_the_sum_is_the_derivative_of_a_picture_without_silhouettes():
    # A wall whose colours vary: faces meet in the picture, but nothing jumps there.
    wall = jnr.shapes.plane(8, 8)
    colors = 0.5 + 0.4 * jnp.sin(9 * wall.vertices + 1)

    def mean(shift, gradient):
        moved = 6 * wall.vertices + jnp.array([1.0, 0.3, 0.0]) * shift
        rgb = jnr.render(moved, wall.faces, colors, lights=(), image_size=32, gradient=gradient).rgb
        return jnp.mean(rgb * jnp.linspace(0, 1, 32)[:, None])

    slopes = [jax.jit(jax.grad(mean), static_argnums=1)(0.1, gradient) for gradient in ("boundary", None)]
    # Where a gap passes over two edges, one of them stands for both.
    np.testing.assert_allclose(*slopes, rtol=0.04)


def test_colours_of_faces_move_with_their_edges():
    # Two faces of different colour share an edge, which moves with their common corners. Nothing moves inside of them.
    clip = jnp.asarray(pixels((2, 2), (12.3, 2), (2, 20), (12.3, 20), (21, 2), (21, 20)))
    faces = jnp.array([[0, 2, 1], [1, 2, 3], [1, 3, 4], [4, 3, 5]])
    colors = jnp.array([1.0, 1, 3, 3])

    def total(shift):
        moved = clip.at[1, 0].add(shift * 2 / PIXELS).at[3, 0].add(shift * 2 / PIXELS)
        fragments = jnr.rasterize(moved, faces, PIXELS)
        seen = jnp.where(fragments.face_index >= 0, colors[jnp.maximum(fragments.face_index, 0)], 0)
        return jnp.sum(jnr.boundary(seen[..., None], moved, faces, fragments))

    # 19 rows of pixel centres, each of which loses two units per pixel.
    np.testing.assert_allclose(jax.jit(jax.grad(total))(0.0), -38.0, rtol=1e-4)


def test_batches_are_single_pictures():
    mesh = jnr.shapes.icosphere(1)

    def loss(vertices, eye):
        camera = jnr.Camera(jnr.LookAt(eye))
        alpha = jnr.render_silhouette(vertices, mesh.faces, camera=camera, image_size=16, gradient="boundary")
        return jnp.sum(alpha * jnp.linspace(0, 1, 16))

    eyes = jnp.array([(0.0, 0.3, 2.5), (1.5, 0.0, 2.0)])
    grads = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(mesh.vertices, eyes)
    for grad, eye in zip(grads, eyes, strict=True):
        np.testing.assert_allclose(grad, jax.jit(jax.grad(loss))(mesh.vertices, eye), rtol=1e-4, atol=1e-5)


def test_second_derivative_by_positions_is_refused():
    mesh = jnr.shapes.icosphere(0)

    def size(scale):
        return jnp.sum(jnr.render_silhouette(mesh.vertices * scale, mesh.faces, image_size=8, gradient="boundary"))

    with pytest.raises(NotImplementedError, match="boundary has no second derivative"):
        jax.hessian(size)(1.0)


def test_depth_has_the_boundaries_derivative_where_it_is_asked_for():
    # A square at distance 2 before a far plane at 10: a wider square brings area from 10 to 2.
    square = jnr.shapes.plane(1, 1)
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 2.0)), jnr.Perspective(fov=90.0, far=10.0))

    def total(scale, gradient):
        vertices = square.vertices * jnp.append(scale, jnp.ones(2))
        return jnp.sum(jnr.render_depth(vertices, square.faces, camera=camera, image_size=40, gradient=gradient))

    slope = jax.jit(jax.grad(total), static_argnums=1)
    width = float(square.vertices[:, 0].max() - square.vertices[:, 0].min())
    area = (width / 4 * 40) ** 2
    np.testing.assert_allclose(slope(1.0, "boundary"), -8 * area, rtol=0.06)
    assert abs(slope(1.0, None)) < 1e-9
