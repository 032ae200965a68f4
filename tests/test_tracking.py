"""Optical flow and visible vertices against closed forms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr

HEIGHT, WIDTH = 20, 28
SIZE = HEIGHT, WIDTH
BALL = jnr.shapes.icosphere(1)
CAMERA = jnr.Camera(jnr.LookAt((1.2, 0.8, 2.2), (0.1, 0.0, 0.0)), jnr.Perspective(50.0))
FACING = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), jnr.Perspective(60.0))
# The height and the width of a pixel at depth 1.
PIXEL = 2 * np.tan(np.pi / 6) / HEIGHT


def turned(yaw, pitch=0.0, fov=60.0):
    """A camera at the origin, turned to the right and upwards."""
    direction = np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)
    return jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0), direction), jnr.Perspective(fov))


def pixels_of(camera, points):
    """Column and row of points `(height, width, 3)`; the first pixel's centre is (0, 0)."""
    clip = np.asarray(camera.clip_positions(jnp.asarray(points, jnp.float32).reshape(-1, 3), WIDTH / HEIGHT))
    ndc = (clip[:, :2] / clip[:, 3:]).reshape(*SIZE, 2)
    return (1 + ndc * [1, -1]) * [WIDTH / 2, HEIGHT / 2] - 0.5


CENTRES = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1)


def covered(mesh, camera):
    return np.asarray(jnr.render_silhouette(mesh, camera=camera, image_size=SIZE, gradient=None)) > 0


@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
def test_plane_that_moves_parallel_to_the_image_moves_by_whole_pixels(orthographic):
    plane = jnr.shapes.plane()
    pixel = 2.0 / HEIGHT if orthographic else 3 * PIXEL
    camera = jnr.Camera(FACING.pose, jnr.Orthographic(1.0)) if orthographic else FACING
    moved = plane.vertices + pixel * jnp.array([5.0, -2.0, 0.0])
    flow = jnr.render_flow(plane, next_vertices=moved, camera=camera, image_size=SIZE)
    seen = covered(plane, camera)
    # 5 to the right and 2 down, zero on background. float32
    np.testing.assert_allclose(flow.displacement, np.where(seen[..., None], [5, 2], 0), atol=1e-5)
    np.testing.assert_array_equal(flow.in_view, seen)
    assert 0.05 < seen.mean() < 0.9


def test_flow_of_a_camera_that_turns_is_a_homography_whatever_the_depth():
    rng = np.random.default_rng(0)
    plane = jnr.shapes.plane(8, 8)
    # A bumpy wall 4 away, larger than the picture.
    wall = plane._replace(
        vertices=plane.vertices * 20 + jnp.asarray(rng.uniform(-5, -3, (len(plane.vertices), 1)) * [[0, 0, 1]])
    )
    camera, following = turned(0.0), turned(0.3, 0.1, 50.0)
    flow = jnr.render_flow(wall, camera=camera, next_camera=following, image_size=SIZE)
    assert covered(wall, camera).all()
    ndc = (CENTRES + 0.5) * [2 / WIDTH, -2 / HEIGHT] + [-1, 1]
    rays = np.concatenate([ndc * np.tan(np.pi / 6) * [WIDTH / HEIGHT, 1], -np.ones((*SIZE, 1))], axis=-1)
    place = pixels_of(following, rays)
    # float32 places of up to 30 pixels
    np.testing.assert_allclose(flow.displacement, place - CENTRES, atol=2e-4)
    inside = np.all((place > -0.5) & (place < [WIDTH - 0.5, HEIGHT - 0.5]), axis=-1)
    np.testing.assert_array_equal(flow.in_view, inside)
    assert 0.1 < inside.mean() < 0.9


def test_flow_ends_where_the_moved_point_projects_in_the_next_camera():
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    shift = np.array([0.1, -0.2, 0.3])
    moved = jnr.Mesh(jnp.asarray(BALL.vertices @ turn.T.astype(np.float32) + shift, jnp.float32), BALL.faces)
    following = jnr.Camera(jnr.LookAt((-0.5, 0.6, 2.0)), jnr.Perspective(65.0))
    flow = jnr.render_flow(BALL, None, moved, camera=CAMERA, next_camera=following, image_size=SIZE)
    rendering = jnr.render(BALL, camera=CAMERA, image_size=SIZE)
    seen = np.asarray(rendering.face_index) >= 0
    ends = pixels_of(following, np.asarray(rendering.position) @ turn.T + shift)
    # float32 barycentrics, in pixels
    np.testing.assert_allclose((CENTRES + np.asarray(flow.displacement))[seen], ends[seen], atol=1e-4)
    assert np.abs(flow.displacement).max() > 3


def test_flow_is_exactly_zero_where_nothing_moves():
    # Corners 1e4 pixels apart, so that rounding errors of the barycentrics move a point visibly.
    floor = jnr.shapes.plane()._replace(
        vertices=jnp.array([[-900.0, -1, 1], [900, -1, 1], [-900, -1, -3000], [900, -1, -3000]]),
        faces=jnp.array([[0, 1, 2], [1, 3, 2]]),
    )
    camera = turned(0.0)
    flow = jnr.render_flow(floor, camera=camera, next_camera=camera, image_size=SIZE)
    assert covered(floor, camera).sum() > 100
    np.testing.assert_array_equal(flow.displacement, 0)


@pytest.mark.parametrize("height", [0.05, 5.0], ids=["nearer_than_near", "behind"])
def test_flow_to_a_camera_that_has_passed_the_point_is_zero_and_finite(height):
    # The plane comes towards the camera and tilts, so that only its left half passes it.
    plane = jnr.shapes.plane()
    z = jnp.where(plane.vertices[:, 0] < 0, 3.0 + height, 3.0 - 0.2 - height)[:, None]
    moved = jnp.concatenate([plane.vertices[:, :2], z], axis=1)

    def total(vertices, moved):
        flow = jnr.render_flow(vertices, plane.faces, moved, camera=FACING, image_size=SIZE)
        return jnp.sum(jnp.sin(flow.displacement)), flow

    with jax.debug_nans(True):
        (_, flow), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(plane.vertices, moved)
    seen = covered(plane, FACING)
    passed = seen & np.all(np.asarray(flow.displacement) == 0, axis=-1)
    assert 0.2 < passed.sum() / seen.sum() < 0.8
    assert not np.any(np.asarray(flow.in_view) & passed)
    # Left of where the plane crosses the near plane, by the interpolated depth.
    position = np.asarray(jnr.render(plane, camera=FACING, image_size=SIZE).position)
    ends = np.interp(position[..., 0], np.unique(plane.vertices[:, 0])[[0, -1]], [z.max(), z.min()])
    np.testing.assert_array_equal(passed[seen], (3 - ends < 0.1)[seen])
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_points_that_leave_the_image_or_are_hidden_have_their_displacement_all_the_same():
    plane, plate = jnr.shapes.plane(), jnr.shapes.plane()
    aside, front = jnp.array([9.0, 0, 0]), jnp.array([0, 0, 1.0])
    both = jnr.concatenate([plane, plate._replace(vertices=plate.vertices + aside)])
    moved = jnp.concatenate([plane.vertices + 0.2, plate.vertices + front])
    hidden = jnr.render_flow(both, next_vertices=moved, camera=FACING, image_size=SIZE)
    alone = jnr.render_flow(plane, next_vertices=plane.vertices + 0.2, camera=FACING, image_size=SIZE)
    np.testing.assert_allclose(hidden.displacement, alone.displacement, atol=1e-6)
    np.testing.assert_array_equal(hidden.in_view, alone.in_view)
    gone = jnr.render_flow(plane, next_vertices=plane.vertices + aside, camera=FACING, image_size=SIZE)
    seen = covered(plane, FACING)
    np.testing.assert_allclose(gone.displacement[seen], np.broadcast_to([3 / PIXEL, 0], (seen.sum(), 2)), rtol=1e-5)
    assert not np.any(gone.in_view)


def test_next_vertices_that_are_not_finite_have_no_flow_and_give_no_nan():
    moved = BALL.vertices.at[0].set(jnp.nan).at[5].set(jnp.inf) + 0.1

    def total(vertices, moved):
        flow = jnr.render_flow(vertices, BALL.faces, moved, camera=CAMERA, image_size=SIZE)
        return jnp.sum(flow.displacement), flow

    gradients, flow = jax.grad(total, (0, 1), has_aux=True)(BALL.vertices, moved)
    face_index = np.asarray(jnr.render(BALL, camera=CAMERA, image_size=SIZE).face_index)
    broken = np.any(np.isin(BALL.faces, [0, 5]), axis=1)[face_index] & (face_index >= 0)
    assert 5 < broken.sum() < covered(BALL, CAMERA).sum()
    np.testing.assert_array_equal(np.asarray(flow.displacement)[broken], 0)
    assert not np.any(np.asarray(flow.in_view)[broken])
    for array in (flow.displacement, *gradients):
        assert np.all(np.isfinite(array))


def test_derivatives_of_flow_equal_finite_differences():
    @jax.jit
    def displacement(vertices, moved, eye, next_eye):
        cameras = [jnr.Camera(jnr.LookAt(e), jnr.Perspective(50.0)) for e in (eye, next_eye)]
        options: Any = {"camera": cameras[0], "next_camera": cameras[1], "image_size": 8}
        return jnr.render_flow(vertices, BALL.faces, moved, **options).displacement

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        vertices = np.asarray(BALL.vertices, np.float64) + rng.normal(0, 0.05, BALL.vertices.shape)
        moved = vertices + rng.normal(0, 0.05, vertices.shape)
        arguments = vertices, moved, np.array([1.2, 0.8, 2.2]), np.array([1.0, 0.9, 2.4])
        assert np.abs(displacement(*map(jnp.asarray, arguments))).max() > 0.3
        # float64 central differences of step 1e-6 are accurate to about 1e-8
        options = {"modes": ("fwd", "rev"), "atol": 1e-6, "rtol": 1e-6, "eps": 1e-6}
        check_grads(lambda *a: displacement(*map(jnp.asarray, a)), arguments, 1, **options)


@pytest.mark.validation
def test_invalid_argument_of_the_next_picture_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"^next_vertices must have shape \(42, 3\), got \(12, 3\)\."):
        jnr.render_flow(BALL, next_vertices=jnr.shapes.icosphere(0))
    wrong: Any = jnr.LookAt((0.0, 0.0, 3.0))
    with pytest.raises(TypeError, match=r"^next_camera must be a jnr\.Camera or None, got LookAt\."):
        jnr.render_flow(BALL, next_camera=wrong)


@pytest.mark.parametrize("handedness", ["right", "left"])
@pytest.mark.parametrize("projection", [jnr.Perspective(50.0), jnr.Orthographic(1.5)], ids=["perspective", "parallel"])
def test_cube_seen_from_a_corner_hides_the_opposite_one(projection, handedness):
    cube = jnr.shapes.cube()
    for corner in cube.vertices:
        # Not exactly along the diagonal, on which the hidden corner is behind the nearest.
        camera = jnr.Camera(jnr.LookAt(4 * corner + jnp.array([0.3, 0.1, 0.2]), handedness=handedness), projection)
        for c in (camera, jnr.Camera(jnr.LookAt(4 * corner, handedness=handedness), projection)):
            visible = jnr.visible_vertices(cube, camera=c)
            np.testing.assert_array_equal(visible, np.any(cube.vertices != -corner, axis=1))


def test_visible_part_of_a_sphere_is_its_cap():
    ball = jnr.shapes.icosphere(4)
    eye = np.array([1.0, 0.8, 2.4])
    visible = np.asarray(jnr.visible_vertices(ball, camera=jnr.Camera(jnr.LookAt(eye)), image_size=512))
    # The inscribed polyhedron is convex: a vertex is visible if one of its faces is seen from the front.
    a, b, c = np.moveaxis(np.asarray(ball.vertices, np.float64)[ball.faces], 1, 0)
    expected = np.isin(np.arange(len(visible)), ball.faces[np.sum(np.cross(b - a, c - a) * (eye - a), axis=1) > 0])
    # Pixels at the rim, where the surface is seen edge-on, decide for a few.
    assert np.mean(visible != expected) < 0.01
    assert np.mean(visible[expected]) > 0.99
    # The cap of the sphere ends where the cosine is 1 over the distance. Faces that begin before it, and end up to an
    # edge's length of 0.08 after it, add up to 0.04 of the area.
    beyond = visible.mean() - (1 - 1 / np.linalg.norm(eye)) / 2
    assert 0 < beyond < 0.04


@pytest.mark.parametrize("projection", [jnr.Perspective(60.0), jnr.Orthographic(2.0)], ids=["perspective", "parallel"])
def test_plate_hides_the_points_in_its_shadow(projection):
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), projection)
    plate = jnr.shapes.plane()  # of side 1, 3 in front of the camera
    x, y = np.meshgrid(np.linspace(-0.97, 0.97, 30), np.linspace(-0.97, 0.97, 30))
    layers = {depth: np.stack([x, y, np.full_like(x, 3 - depth)], axis=-1).reshape(-1, 3) for depth in (2.0, 3.0, 4.0)}
    # The points have no faces.
    vertices = jnp.concatenate([plate.vertices, *(jnp.asarray(p, jnp.float32) for p in layers.values())])
    visible = np.asarray(jnr.visible_vertices(vertices, plate.faces, camera=camera, image_size=256))
    assert visible[:4].all()
    near, at, far = visible[4:].reshape(3, -1)
    # Points in front of the plate and in it are visible.
    assert near.all()
    assert at.all()
    # A pixel is 0.02 wide there.
    side = 0.5 * (4 / 3 if isinstance(projection, jnr.Perspective) else 1)
    reach = np.abs(layers[4.0][:, :2]).max(axis=1)
    assert not far[reach < side - 0.02].any()
    assert far[reach > side + 0.02].all()
    culled = jnr.visible_vertices(vertices, plate.faces[:, ::-1], camera=camera, cull="back")
    assert np.all(culled)


def test_vertices_outside_of_the_view_are_not_visible():
    points = jnp.array(
        [[0.0, 0, 0], [0, 0, 2.95], [0, 0, 4], [0, 0, -98], [1.8, 0, 0], [0, 1.8, 0], [0, -1.6, 0], [jnp.nan, 0, 0]]
    )
    visible = jnr.visible_vertices(points, jnp.zeros((0, 3), jnp.int32), camera=FACING, image_size=64)
    # Seen, nearer than near, behind, beyond far, right of the image, above it, just inside, not finite.
    np.testing.assert_array_equal(visible, [True, False, False, False, False, False, True, False])
    assert jnr.visible_vertices(jnp.zeros((0, 3)), jnp.zeros((0, 3), jnp.int32)).shape == (0,)


def test_batch_of_cameras_has_the_flow_and_the_visible_vertices_of_each():
    eyes = jnp.array([[1.2, 0.8, 2.2], [-1.0, 0.3, 2.5]])
    at = functools.partial(jnr.Camera, projection=jnr.Perspective(50.0))

    def both(eye):
        options: Any = {"camera": at(jnr.LookAt(eye)), "image_size": SIZE}
        return jnr.visible_vertices(BALL, **options), jnr.render_flow(
            BALL, next_vertices=BALL.vertices * 1.1, **options
        )

    batch = jax.jit(jax.vmap(both))(eyes)
    assert np.any(batch[0][0] != batch[0][1])
    for k, eye in enumerate(eyes):
        for found, expected in zip(jax.tree.leaves(batch), jax.tree.leaves(both(eye)), strict=True):
            # float32 displacements of a few pixels
            np.testing.assert_allclose(found[k], expected, atol=1e-5)
