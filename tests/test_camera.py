import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr
from jnr._camera import Handedness

HANDS: list[Handedness] = ["right", "left"]


def view_matrix(eye, forward, up, handedness):
    """Camera from world, from the definition: the columns of the inverse are right, up, back and eye."""
    back = -forward / np.linalg.norm(forward)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    above = np.cross(back, right)
    inverse = np.eye(4)
    inverse[:3] = np.stack([right if handedness == "right" else -right, above, back, eye], axis=1)
    return np.linalg.inv(inverse)


def project(camera, point, aspect=1.0):
    """Projects one point to NDC."""
    matrix = np.asarray(camera.clip_from_world(aspect), np.float64)
    clip = matrix @ [*point, 1]
    return clip[:3] / clip[3]


def random_poses(count):
    rng = np.random.default_rng(0)
    return [tuple(rng.normal(0, 2, (3, 3)).astype(np.float32)) for _ in range(count)]


@pytest.mark.parametrize("handedness", HANDS)
def test_look_at_equals_the_direct_formula(handedness):
    for eye, at, up in random_poses(5):
        matrix = jnr.LookAt(eye, at, up, handedness).camera_from_world()
        assert matrix.dtype == jnp.float32
        # float32 products of numbers up to 5
        np.testing.assert_allclose(matrix, view_matrix(eye, at - eye, up, handedness), atol=5e-6)


@pytest.mark.parametrize("handedness", HANDS)
def test_look_along_equals_the_direct_formula(handedness):
    for eye, direction, up in random_poses(5):
        matrix = jnr.LookAlong(eye, direction, up, handedness).camera_from_world()
        np.testing.assert_allclose(matrix, view_matrix(eye, direction, up, handedness), atol=5e-6)


@pytest.mark.parametrize("handedness", HANDS)
def test_length_of_direction_and_up_does_not_matter(handedness):
    eye, direction, up = random_poses(1)[0]
    matrix = jnr.LookAlong(eye, direction, up, handedness).camera_from_world()
    longer = jnr.LookAlong(eye, direction * 30, up * 0.01, handedness).camera_from_world()
    np.testing.assert_allclose(longer, matrix, atol=5e-6)


def test_look_along_towards_a_point_equals_look_at():
    eye, at, up = random_poses(1)[0]
    along, to = jnr.LookAlong(eye, at - eye, up), jnr.LookAt(eye, at, up)
    np.testing.assert_array_equal(along.camera_from_world(), to.camera_from_world())


@pytest.mark.parametrize("handedness", HANDS)
@pytest.mark.parametrize("projection", [jnr.Perspective(), jnr.Orthographic(far=20.0)], ids=["perspective", "ortho"])
def test_look_at_point_projects_to_the_image_centre(handedness, projection):
    for eye, at, up in random_poses(5):
        camera = jnr.Camera(jnr.LookAt(eye, at, up, handedness), projection)
        ndc = project(camera, at, aspect=1.5)
        np.testing.assert_allclose(ndc[:2], 0, atol=1e-5)  # float32
        assert -1 < ndc[2] < 1


@pytest.mark.parametrize("projection", [jnr.Perspective(), jnr.Orthographic()], ids=["perspective", "orthographic"])
@pytest.mark.parametrize(("handedness", "sign"), [("right", 1), ("left", -1)])
def test_x_is_right_and_y_is_up_in_the_image(handedness, sign, projection):
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0), handedness=handedness), projection)
    x, y, _ = project(camera, (0.3, 0.2, 0.0))
    assert x * sign > 0
    assert y > 0


def test_left_handed_image_mirrors_the_right_handed_image():
    eye, at, up = random_poses(1)[0]
    right, left = (jnr.Camera(jnr.LookAt(eye, at, up, h)).clip_from_world(1.5) for h in HANDS)
    np.testing.assert_array_equal(left, np.asarray(right) * np.array([-1, 1, 1, 1])[:, None])
    mesh = jnr.shapes.teapot(2)
    images = [
        jnr.render(
            mesh.vertices,
            mesh.faces,
            lights=(),
            camera=jnr.Camera(jnr.LookAt((1.0, 1.0, 2.5), handedness=h)),
            image_size=(24, 32),
        )
        for h in HANDS
    ]
    assert 0.05 < images[0].alpha.mean() < 0.5
    assert not np.array_equal(images[0].alpha, images[0].alpha[:, ::-1])
    np.testing.assert_array_equal(images[0].alpha, images[1].alpha[:, ::-1])
    # float32 depths of about 2.5
    np.testing.assert_allclose(images[0].depth, images[1].depth[:, ::-1], rtol=1e-5)


@pytest.mark.parametrize("fov", [20.0, 60.0, 120.0])
@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9])
def test_field_of_view_ends_at_the_upper_border(fov, aspect):
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0)), jnr.Perspective(fov=fov))
    for distance in (0.5, 20.0):
        half = distance * np.tan(np.deg2rad(fov) / 2)
        # float32 tangent
        np.testing.assert_allclose(project(camera, (0, half, -distance), aspect)[:2], [0, 1], atol=2e-6)
        np.testing.assert_allclose(project(camera, (half * aspect, -half, -distance), aspect)[:2], [1, -1], atol=2e-6)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9])
def test_half_height_ends_at_the_upper_border(aspect):
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0)), jnr.Orthographic(half_height=2.5, far=30.0))
    for distance in (0.5, 20.0):
        np.testing.assert_allclose(project(camera, (0, 2.5, -distance), aspect)[:2], [0, 1], atol=1e-6)
        np.testing.assert_allclose(project(camera, (2.5 * aspect, -2.5, -distance), aspect)[:2], [1, -1], atol=1e-6)


@pytest.mark.parametrize(
    "projection",
    [jnr.Perspective(near=0.5, far=8.0), jnr.Orthographic(near=0.5, far=8.0), jnr.Orthographic(near=-2.0, far=8.0)],
    ids=["perspective", "orthographic", "near_behind"],
)
def test_near_and_far_planes_map_to_ndc_depths_of_minus_one_and_one(projection):
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0)), projection)
    # float32 matrix
    assert project(camera, (0.1, 0.2, -projection.near))[2] == pytest.approx(-1, abs=1e-6)
    assert project(camera, (0.1, 0.2, -projection.far))[2] == pytest.approx(1, abs=1e-6)
    middle = (projection.near + projection.far) / 2
    assert -1 < project(camera, (0, 0, -middle))[2] < 1


def test_clip_w_is_the_distance_of_perspective_and_one_of_orthographic():
    eye, at, up = random_poses(1)[0]
    points = np.random.default_rng(1).normal(0, 3, (20, 3)).astype(np.float32)
    homogeneous = np.concatenate([points, np.ones((20, 1))], axis=1)
    along = homogeneous @ np.asarray(jnr.Camera(jnr.LookAt(eye, at, up)).clip_from_world()[3], np.float64)
    forward = (at - eye) / np.linalg.norm(at - eye)
    np.testing.assert_allclose(along, (points - eye) @ forward, atol=1e-5)  # float32 products of up to 10
    ortho = jnr.Camera(jnr.LookAt(eye, at, up), jnr.Orthographic()).clip_from_world()
    np.testing.assert_array_equal(ortho[3], [0, 0, 0, 1])


@pytest.mark.parametrize("handedness", HANDS)
@pytest.mark.parametrize("projection", [jnr.Perspective(), jnr.Orthographic()], ids=["perspective", "orthographic"])
def test_depth_is_the_distance_along_the_view_axis(handedness, projection):
    eye, at, up = random_poses(1)[0]
    points = np.random.default_rng(1).normal(0, 3, (20, 3)).astype(np.float32)
    depth = jnr.Camera(jnr.LookAt(eye, at, up, handedness), projection).depth(jnp.asarray(points))
    expected = (points - eye) @ (at - eye) / np.linalg.norm(at - eye)
    assert expected.min() < 0 < expected.max()
    np.testing.assert_allclose(depth, expected, atol=1e-5)  # float32 products of up to 10


CAMERAS = {
    "look_at_perspective": lambda eye, at, up, a, near, far: jnr.Camera(
        jnr.LookAt(eye, at, up), jnr.Perspective(a * 20, near, far)
    ),
    "look_at_orthographic": lambda eye, at, up, a, near, far: jnr.Camera(
        jnr.LookAt(eye, at, up, "left"), jnr.Orthographic(a, near, far)
    ),
    "look_along": lambda eye, at, up, a, near, far: jnr.Camera(jnr.LookAlong(eye, at, up), jnr.Perspective(a * 20)),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_gradient_with_respect_to_every_field_equals_finite_differences(name):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        fields = [*rng.normal(0, 2, (3, 3)), np.array(2.5), np.array(0.5), np.array(9.0)]
        points = rng.normal(0, 1, (4, 4))

        @jax.jit
        def outputs(*fields):
            camera = CAMERAS[name](*fields)
            return camera.clip_from_world(1.5) @ points, camera.depth(points[:, :3])

        # float64 central differences of step 1e-6 are accurate to about 1e-9.
        check_grads(
            lambda *f: outputs(*map(jnp.asarray, f)), fields, 1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-6, eps=1e-6
        )
        total = sum(jnp.sum(o**2) for o in outputs(*map(jnp.asarray, fields)))
        gradients = jax.grad(lambda f: sum(jnp.sum(o**2) for o in outputs(*f)))([jnp.asarray(f) for f in fields])
        assert total > 0
        used = gradients if name != "look_along" else gradients[:4]  # this camera has the default near and far
        for gradient in used:
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient != 0)


@pytest.mark.parametrize(
    "pose",
    [jnr.LookAt(jnp.array([0.0, 0.0, 3.0])), jnr.LookAlong(jnp.array([0.0, 0.0, 3.0]))],
    ids=["look_at", "look_along"],
)
def test_gradient_of_a_camera_on_the_z_axis_is_finite(pose):
    with jax.debug_nans(True):
        gradient = jax.grad(lambda p: jnp.sum(jnr.Camera(p).clip_from_world()))(jax.tree.map(jnp.asarray, pose))
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))


def test_camera_is_a_pytree_of_its_numbers():
    camera = jnr.Camera(jnr.LookAt((1.0, 2.0, 3.0), handedness="left"), jnr.Perspective(50.0))
    assert sorted(jax.tree.leaves(camera)) == sorted([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 50.0, 0.1, 100.0])
    arrays = jax.tree.map(lambda x: jnp.asarray(x) * 2, camera)
    assert isinstance(arrays, jnr.Camera)
    assert arrays.pose.handedness == "left"
    assert arrays.projection.fov == 100
    np.testing.assert_array_equal(arrays.pose.eye, [2, 4, 6])


def test_jit_takes_cameras_and_retraces_only_for_another_handedness():
    traces = []

    @jax.jit
    def matrix(camera):
        traces.append(camera.pose.handedness)
        return camera.clip_from_world(2.0)

    for handedness in ("right", "right", "left"):
        for x in (1.0, 2.0):
            camera = jnr.Camera(jnr.LookAt(jnp.array([x, 2.0, 3.0]), handedness=handedness))
            # float32; jit may reorder the products
            np.testing.assert_allclose(matrix(camera), camera.clip_from_world(2.0), rtol=1e-5, atol=1e-6)
    assert traces == ["right", "left"]


def test_camera_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        jnr.Camera().pose.eye = (0.0, 0.0, 1.0)


@pytest.mark.parametrize("projection", [jnr.Perspective(), jnr.Orthographic(far=50.0)], ids=["perspective", "ortho"])
def test_vmap_over_stacked_cameras_equals_a_loop(projection):
    cameras = [jnr.Camera(jnr.LookAt(*pose), projection) for pose in np.asarray(random_poses(4))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *cameras)
    matrices = jax.vmap(lambda camera: camera.clip_from_world(1.5))(stacked)
    # float32 products of numbers up to 5, in another order
    np.testing.assert_allclose(matrices, [c.clip_from_world(1.5) for c in cameras], atol=1e-5)


def test_vmap_over_one_field_leaves_the_others_shared():
    eyes = jnp.asarray(np.stack([pose[0] for pose in random_poses(4)]))
    matrices = jax.vmap(lambda eye: jnr.Camera(jnr.LookAt(eye)).clip_from_world())(eyes)
    np.testing.assert_allclose(matrices, [jnr.Camera(jnr.LookAt(e)).clip_from_world() for e in eyes], atol=1e-5)


def test_fields_may_be_integers_and_numpy_arrays():
    plain = jnr.Camera(jnr.LookAt((1.0, 2.0, 3.0)), jnr.Perspective(60.0, 1.0, 10.0)).clip_from_world()
    mixed = jnr.Camera(jnr.LookAt(np.array([1, 2, 3])), jnr.Perspective(60, 1, np.float32(10))).clip_from_world()
    np.testing.assert_array_equal(plain, mixed)


def test_float64_fields_give_a_float64_matrix():
    with jax.enable_x64(True):
        eye = jnp.array([1.0, 2.0, 3.0], jnp.float64)
        matrix = jnr.Camera(jnr.LookAt(eye)).clip_from_world()
        assert matrix.dtype == jnp.float64
        expected = view_matrix(np.array([1.0, 2, 3]), np.array([-1.0, -2, -3]), np.array([0.0, 1, 0]), "right")
        np.testing.assert_allclose(jnr.LookAt(eye).camera_from_world(), expected, atol=1e-15)


def matrix_of(pose=None, projection=None):
    return jnr.Camera(pose or jnr.LookAt((0.0, 0.0, 3.0)), projection or jnr.Perspective()).clip_from_world()


NAN, INF = float("nan"), float("inf")
INVALID_NUMBERS = [
    ("eye", lambda: jnr.LookAt((0.0, NAN, 1.0)), r"eye must be finite, got \[0\.0, nan, 1\.0\]\."),
    ("eye_inf", lambda: jnr.LookAlong((0.0, INF, 1.0)), r"eye must be finite, got \[0\.0, inf, 1\.0\]\."),
    ("at", lambda: jnr.LookAt((0.0, 0.0, 1.0), (NAN, 0.0, 0.0)), r"at must be finite, got \[nan, 0\.0, 0\.0\]\."),
    ("direction", lambda: jnr.LookAlong((0.0, 0.0, 1.0), (0.0, 0.0, -INF)), r"direction must be finite, got "),
    ("up", lambda: jnr.LookAt((0.0, 0.0, 1.0), up=(0.0, NAN, 0.0)), r"up must be finite, got "),
    ("fov", lambda: jnr.Perspective(NAN), r"fov must be finite, got nan\."),
    ("near", lambda: jnr.Perspective(near=NAN), r"near must be finite, got nan\."),
    ("far", lambda: jnr.Perspective(far=INF), r"far must be finite, got inf\."),
    ("half_height", lambda: jnr.Orthographic(NAN), r"half_height must be finite, got nan\."),
    ("ortho_near", lambda: jnr.Orthographic(near=-INF), r"near must be finite, got -inf\."),
    ("ortho_far", lambda: jnr.Orthographic(far=NAN), r"far must be finite, got nan\."),
    ("fov_zero", lambda: jnr.Perspective(0.0), r"fov must lie between 0 and 180 degrees, got 0\."),
    ("fov_half_turn", lambda: jnr.Perspective(180.0), r"fov must lie between 0 and 180 degrees, got 180\."),
    ("near_zero", lambda: jnr.Perspective(near=0.0), r"near must be positive, got 0\."),
    (
        "near_beyond_far",
        lambda: jnr.Perspective(near=5.0, far=5.0),
        r"far must be greater than near, got near 5 and far 5\.",
    ),
    (
        "ortho_near_beyond_far",
        lambda: jnr.Orthographic(1.0, 5.0, 4.0),
        r"far must be greater than near, got near 5 and far 4\.",
    ),
    ("half_height_zero", lambda: jnr.Orthographic(0.0), r"half_height must be positive, got 0\."),
    ("at_is_eye", lambda: jnr.LookAt((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), r"at must differ from eye, got 0\."),
    ("no_direction", lambda: jnr.LookAlong((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)), r"direction must not be zero, got 0\."),
    ("no_up", lambda: jnr.LookAt((0.0, 0.0, 1.0), up=(0.0, 0.0, 0.0)), r"up must not be zero nor along the view, got "),
    ("up_along_view", lambda: jnr.LookAt((0.0, 3.0, 0.0)), r"up must not be zero nor along the view, got "),
    ("handedness", lambda: jnr.LookAt((0.0, 0.0, 1.0), handedness="Left"), r"handedness must be .*, got 'Left'\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
    ("eye_size", lambda: jnr.LookAt((0.0, 0.0)), r"eye must have shape \(3,\), got \(2,\)\."),
    ("eye_rank", lambda: jnr.LookAt(np.zeros((1, 3))), r"eye must have shape \(3,\), got \(1, 3\)\."),
    ("fov_rank", lambda: jnr.Perspective(np.full(2, 60.0)), r"fov must have shape \(\), got \(2,\)\."),
    ("half_height_rank", lambda: jnr.Orthographic((1.0,)), r"half_height must have shape \(\), got \(1,\)\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
]


@pytest.mark.validation
@pytest.mark.parametrize(("make", "message"), [b[1:] for b in INVALID_NUMBERS], ids=[b[0] for b in INVALID_NUMBERS])
def test_invalid_camera_is_an_error_that_names_the_field(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        matrix_of(**{"projection" if hasattr(part := make(), "near") else "pose": part})


INVALID = {
    "fov": (lambda: jnr.Perspective(200), r"fov must lie between 0 and 180 degrees, got 200\."),
    "near": (lambda: jnr.Perspective(near=-1), r"near must be positive, got -1\."),
    "far": (lambda: jnr.Orthographic(far=-3.0), r"far must be greater than near, got near 0\.1 and far -3\."),
    "eye": (lambda: jnr.LookAt((0, NAN, 1)), r"eye must be finite, got \[0\.0, nan, 1\.0\]\."),
    "handedness": (
        lambda: jnr.LookAlong((0, 0, 1), handedness="up"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        r"handedness must be 'right' or 'left', got 'up'\.",
    ),
    "scale": (lambda: jnr.WeakPerspective(0), r"scale must be positive, got 0\."),
    "intrinsics": (lambda: jnr.Intrinsics(-np.eye(3), (9, 9)), r"K must be a camera matrix"),
}


@pytest.mark.validation
@pytest.mark.parametrize(("make", "message"), INVALID.values(), ids=INVALID)
def test_constructor_raises_for_invalid_numbers(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.validation
def test_camera_with_a_part_of_the_wrong_type_is_an_error_that_names_it():
    with pytest.raises(TypeError, match=r"pose must have a method camera_from_world, got Perspective\."):
        jnr.Camera(jnr.Perspective())  # pyright: ignore[reportArgumentType]: wrong on purpose
    with pytest.raises(TypeError, match=r"projection must have a method clip_from_camera, got LookAt\."):
        jnr.Camera(projection=jnr.LookAt((0.0, 0.0, 3.0)))  # pyright: ignore[reportArgumentType]: wrong on purpose


def test_cameras_compare_by_identity_and_print_their_numbers():
    camera, other = (jnr.Camera(jnr.LookAt(np.array([1.0, 2.0, 3.0])), jnr.Perspective(50)) for _ in range(2))
    assert camera == camera
    assert camera != other
    assert "LookAt(eye=[1.0, 2.0, 3.0]," in repr(camera)
    assert repr(jnr.Pose(jnp.eye(4))) == "Pose(matrix=float32[4,4])"


def test_cameras_hold_placeholders_of_jax_and_vmap_maps_one_field():
    camera = jnr.Camera()
    axes = jax.tree.map(lambda _: None, camera)
    assert axes.projection.fov is None
    axes = jax.tree.unflatten(jax.tree.structure(camera), [None] * 9 + [0, None, None])
    matrices = jax.vmap(lambda c: c.clip_from_world(), in_axes=(axes,))(
        jnr.Camera(projection=jnr.Perspective(fov=jnp.array([40.0, 60.0])))
    )
    np.testing.assert_allclose(matrices[1], jnr.Camera().clip_from_world(), rtol=1e-6)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"pose": jnr.LookAt("here")}, r"eye must be an array of numbers, got str\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: {"pose": jnr.LookAt(None)}, r"eye must be an array of numbers, got NoneType\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: {"pose": jnr.LookAt((0j, 0j, 1j))}, r"eye must be real numbers, got dtype complex64\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: {"projection": jnr.Perspective(True)}, r"fov must be real numbers, got dtype bool\."),
    ],
    ids=["string", "none", "complex", "bool"],
)
def test_camera_of_non_numeric_values_is_an_error_that_names_the_field(make, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        matrix_of(**make())


@pytest.mark.validation
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"pose": jnr.LookAt((0.0, NAN, 1.0))}, r"eye must be finite, got \[0\.0, nan, 1\.0\]\."),
        (lambda: {"pose": jnr.LookAt(np.array([0.0, NAN, 1.0]))}, r"eye must be finite, got \[0\.0, nan, 1\.0\]\."),
        (lambda: {"projection": jnr.Perspective(-5.0)}, r"fov must lie between 0 and 180 degrees, got -5\."),
    ],
    ids=["tuple", "numpy", "fov"],
)
def test_invalid_constants_of_a_camera_are_an_error_under_jit(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        jax.jit(lambda: matrix_of(**make()))()


AZIMUTHS = jnp.array([0.0, 17.0, 90.0, 135.0, 180.0, 250.0, 359.0])


@pytest.mark.parametrize("handedness", HANDS)
@pytest.mark.parametrize("elevation", [90.0, -90.0])
@pytest.mark.parametrize("mode", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_camera_straight_above_is_the_limit_of_those_near_it(mode, elevation, handedness):
    def pose(elevation, azimuth, **options):
        eye = jnr.points_from_angles(2.5, elevation, azimuth, handedness=handedness, **options)
        return jnr.LookAt(eye, handedness=handedness).camera_from_world()

    near = jax.vmap(lambda azimuth: pose(0.999 * elevation, azimuth))(AZIMUTHS)
    mode_pose = mode(pose)
    for k in range(len(AZIMUTHS)):
        above = mode_pose(elevation, AZIMUTHS[k])
        # 0.09 degrees are 1.6e-3
        np.testing.assert_allclose(above, near[k], atol=2e-3)
        np.testing.assert_allclose(above @ jnp.linalg.inv(above), np.eye(4), atol=1e-5)
    radians = mode(lambda e, a: pose(e, a, degrees=False))(jnp.deg2rad(elevation), jnp.deg2rad(AZIMUTHS[1]))
    np.testing.assert_allclose(radians, near[1], atol=2e-3)


def test_derivatives_by_angles_straight_above_are_those_near_it():
    def jacobian(elevation):
        def row(elevation, azimuth):
            return jnr.LookAt(jnr.points_from_angles(2.5, elevation, azimuth)).camera_from_world()

        return jnp.stack(jax.jacfwd(row, (0, 1))(elevation, 40.0))

    # The rounding of the eye, 1e-7 of 1e-6, turns the camera by a tenth.
    np.testing.assert_allclose(jacobian(90.0), jacobian(89.9), atol=4e-3)


ON_AXIS = {
    "at": (lambda eye: jnr.LookAt(eye), (0.0, 2.0, 0.0), (0.0, 0.0, -1.0)),
    "below": (lambda eye: jnr.LookAt(eye), (0.0, -2.0, 0.0), (0.0, 0.0, 1.0)),
    "left": (lambda eye: jnr.LookAt(eye, handedness="left"), (0.0, 2.0, 0.0), (0.0, 0.0, 1.0)),
    "along": (lambda eye: jnr.LookAlong(eye, -eye), (0.0, 2.0, 0.0), (0.0, 0.0, -1.0)),
    "oblique": (lambda eye: jnr.LookAt(eye, up=(0.6, 0.0, 0.8)), (1.2, 0.0, 1.6), (0.0, 1.0, 0.0)),
    "x": (lambda eye: jnr.LookAt(eye, up=(3.0, 0.0, 0.0)), (2.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
}


@pytest.mark.parametrize(("pose", "eye", "up"), ON_AXIS.values(), ids=ON_AXIS)
def test_traced_view_along_up_has_the_stated_orientation(pose, eye, up):
    matrix = jax.jit(lambda eye: pose(eye).camera_from_world())(jnp.array(eye))
    rotation = np.asarray(matrix[:3, :3])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(matrix @ jnp.array([*eye, 1.0]), (0, 0, 0, 1), atol=1e-6)
    assert np.sign(np.linalg.det(rotation)) == (-1 if pose(jnp.ones(3)).handedness == "left" else 1)
    # The right of the image is along x, or along z for a view along x.
    right = np.array([0, 0, 1] if abs(rotation[2, 0]) > 0.9 else [1, 0, 0])
    assert rotation[0] @ right == pytest.approx(np.sqrt(1 - (rotation[2] @ right) ** 2), abs=1e-6)
    np.testing.assert_allclose(rotation[1], up, atol=1e-6)
    jacobian = jax.jit(jax.jacrev(lambda eye: pose(eye).camera_from_world()))(jnp.array(eye))
    assert float(jnp.abs(jacobian).max()) < 10


def test_eye_next_to_the_axis_keeps_its_azimuth():
    for tiny in (1e-7, 1e-12, 1e-25):
        above, near = (jnr.LookAt((x, 2.0, -x)).camera_from_world()[:3, :3] for x in (tiny, 1e-3))
        np.testing.assert_allclose(above, near, atol=1e-3)


@pytest.mark.validation
@pytest.mark.parametrize("pose", [lambda: jnr.LookAt((0, 3, 0)), lambda: jnr.LookAlong((0, 3, 0), (0, -1, 0))])
def test_view_along_up_is_an_error_that_asks_for_another_up(pose):
    with pytest.raises(ValueError, match=r"^up must not be zero nor along the view, got .*Pass another up"):
        pose().camera_from_world()


@pytest.mark.validation
@pytest.mark.parametrize("far", [-3.0, 0.0, float("nan")])
def test_far_of_a_matrix_must_be_positive(far):
    matrix = jnr.Perspective().clip_from_camera(1.0)
    for make in (
        lambda: jnr.Camera.from_opengl(jnp.eye(4), matrix, far=far),
        lambda: jnr.Camera.from_matrix(matrix, far=far),
    ):
        with pytest.raises(ValueError, match=r"^far must be (positive|finite), got "):
            make()


def test_rounding_of_a_view_along_an_oblique_up_is_no_direction():
    ups = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    rotation = jax.jit(jax.vmap(lambda up: jnr.LookAt(2 * up, up=up).camera_from_world()[:3, :3]))(ups)
    across = jnp.abs(rotation[:, 2, 0]) < 0.9
    assert int(across.sum()) > 25
    np.testing.assert_allclose(rotation[across, 0, 0], jnp.sqrt(1 - rotation[across, 2, 0] ** 2), atol=1e-5)
