"""Calibrated, weak-perspective and matrix cameras against OpenCV and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr

cv2 = pytest.importorskip("cv2", reason="calibrated cameras are compared with OpenCV")

HEIGHT, WIDTH = 240, 320
DISTORTIONS = {
    "none": None,
    "barrel": (-0.3, 0.1, 0.0, 0.0, -0.01),
    "pincushion": (0.2, 0.05, 0.0, 0.0, 0.01),
    "tangential": (0.05, -0.02, 0.01, -0.02, 0.0),
    "four": (-0.1, 0.02, 0.001, -0.002),
}


def scene(seed, dtype=np.float32):
    """A camera matrix, a pose and points in front of the camera."""
    rng = np.random.default_rng(seed)
    calibration = np.array([[rng.uniform(200, 400), 0, 150], [0, rng.uniform(200, 400), 110], [0, 0, 1]], dtype)
    rotation = cv2.Rodrigues(rng.normal(size=3))[0].astype(dtype)
    translation = np.array([*rng.normal(0, 0.3, 2), 4], dtype)
    return calibration, rotation, translation, rng.uniform(-1.2, 1.2, (40, 3)).astype(dtype)


def pixels(camera, points, height=HEIGHT, width=WIDTH):
    """Projects points to column and row, which are integers at pixel centres."""
    clip = np.asarray(camera.clip_positions(jnp.asarray(points), width / height), np.float64)
    x, y = clip[:, 0] / clip[:, 3], clip[:, 1] / clip[:, 3]
    return np.stack([((x + 1) * width - 1) / 2, ((1 - y) * height - 1) / 2], axis=-1)


def opencv_pixels(calibration, rotation, translation, points, distortion):
    numbers = [np.asarray(a, np.float64) for a in (points, cv2.Rodrigues(np.asarray(rotation, np.float64))[0])]
    coefficients = None if distortion is None else np.array(distortion)
    return cv2.projectPoints(*numbers, translation.astype(float), calibration.astype(float), coefficients)[0][:, 0]


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_calibrated_camera_agrees_with_opencv(seed, distortion):
    calibration, rotation, translation, points = scene(seed)
    camera = jnr.Camera.from_opencv(calibration, rotation, translation, (HEIGHT, WIDTH), distortion=distortion)
    expected = opencv_pixels(calibration, rotation, translation, points, distortion)
    # float32: 1e-5 of half the image's width.
    np.testing.assert_allclose(pixels(camera, points), expected, atol=1e-5 * WIDTH / 2)
    depth = (points @ rotation.T + translation)[:, 2]
    np.testing.assert_allclose(camera.depth(jnp.asarray(points)), depth, atol=1e-5)


@pytest.mark.parametrize("distortion", DISTORTIONS.values(), ids=DISTORTIONS)
def test_calibrated_camera_agrees_with_opencv_in_float64(distortion):
    calibration, rotation, translation, points = scene(3, np.float64)  # pyright: ignore[reportArgumentType]
    with jax.enable_x64(True):
        camera = jnr.Camera.from_opencv(calibration, rotation, translation, (HEIGHT, WIDTH), distortion=distortion)
        found = pixels(camera, points)
    expected = opencv_pixels(calibration, rotation, translation, points, distortion)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_skew_moves_columns_with_rows():
    calibration, rotation, translation, points = scene(0)
    skewed = calibration.copy()
    skewed[0, 1] = 25
    seen = points @ rotation.T + translation
    homogeneous = seen @ skewed.T
    camera = jnr.Camera.from_opencv(skewed, rotation, translation, (HEIGHT, WIDTH))
    np.testing.assert_allclose(pixels(camera, points), homogeneous[:, :2] / homogeneous[:, 2:], atol=2e-3)


def test_point_that_opencv_projects_to_a_pixel_is_rendered_in_that_pixel():
    calibration = np.array([[100, 0, 20], [0, 100, 9], [0, 0, 1]], np.float32)
    camera = jnr.Camera.from_opencv(calibration, np.eye(3, dtype=np.float32), np.zeros(3), (30, 40))
    # A triangle within 0.3 pixels of column 31, row 4, at distance 2.
    corners = np.array([[31 - 0.3, 4 - 0.3], [31.3, 4 - 0.3], [31, 4.3]])
    points = np.concatenate([(corners - [20, 9]) / 100 * 2, np.full((3, 1), 2)], axis=1).astype(np.float32)
    alpha = jnr.render_silhouette(points, np.array([[0, 1, 2]]), camera=camera, image_size=(30, 40))
    np.testing.assert_array_equal(np.argwhere(np.asarray(alpha)), [[4, 31]])


def test_pixel_center_of_a_half_equals_the_projection_of_neural_renderers_port():
    calibration, rotation, translation, points = scene(1)
    size = 256
    camera = jnr.Camera.from_opencv(calibration, rotation, translation, (size, size), pixel_center=0.5)
    seen = points @ rotation.T + translation
    u, v = ((seen[:, :2] / seen[:, 2:]) @ calibration[:2, :2].T + calibration[:2, 2]).T
    # The port replaces v by orig_size - v and maps both u and v by 2 (x - orig_size / 2) / orig_size.
    expected = np.stack([2 * (u - size / 2) / size, 2 * ((size - v) - size / 2) / size], axis=-1)
    clip = np.asarray(camera.clip_positions(jnp.asarray(points)))
    np.testing.assert_allclose(clip[:, :2] / clip[:, 3:], expected, atol=1e-5)


def test_calibrated_camera_renders_images_of_another_size_and_the_same_aspect_ratio():
    calibration, rotation, translation, points = scene(2)
    camera = jnr.Camera.from_opencv(calibration, rotation, translation, (HEIGHT, WIDTH))
    small = pixels(camera, points, HEIGHT // 2, WIDTH // 2)
    # Pixel areas, not centres, are halved.
    np.testing.assert_allclose(2 * (small + 0.5) - 0.5, pixels(camera, points), atol=1e-3)


def test_calibration_of_a_centred_camera_equals_perspective():
    focal = HEIGHT / 2 / np.tan(np.deg2rad(25))
    calibration = np.array([[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1]], np.float32)
    intrinsics = jnr.Intrinsics(calibration, (HEIGHT, WIDTH), near=0.5, far=20.0)
    expected = jnr.Perspective(50.0, 0.5, 20.0).clip_from_camera(WIDTH / HEIGHT)
    np.testing.assert_allclose(intrinsics.clip_from_camera(WIDTH / HEIGHT), expected, atol=1e-5)


@pytest.mark.parametrize("k", [(-0.3, 0.1, 0, 0, -0.05), (-0.5, 0, 0, 0, 0), (-0.2, 0.01, 0, 0, 0)])
def test_distortion_does_not_fold_distant_points_back_into_the_image(k):
    calibration = np.array([[100, 0, 100], [0, 100, 100], [0, 0, 1]], np.float32)
    camera = jnr.Camera.from_opencv(calibration, np.eye(3, dtype=np.float32), np.zeros(3), (200, 200), distortion=k)
    radius = np.linspace(0.01, 30, 3000)
    for angle in np.linspace(0, 2 * np.pi, 7):
        ray = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.ones_like(radius)], axis=-1)
        found = pixels(camera, ray.astype(np.float32), 200, 200) - 100
        distance = np.linalg.norm(found, axis=-1)
        assert np.all(np.diff(distance) > -1e-2)
        folded = opencv_pixels(calibration, np.eye(3), np.zeros(3), ray, k) - 100
        assert np.any(np.diff(np.linalg.norm(folded, axis=-1)) < 0)


def test_distorted_face_that_reaches_behind_the_camera_is_rendered_in_front_of_it():
    calibration = np.array([[32, 0, 31.5], [0, 32, 31.5], [0, 0, 1]], np.float32)
    # A floor below the camera, from behind it to the horizon.
    floor = np.array([[-50, 1, -50], [50, 1, -50], [50, 1, 80], [-50, 1, 80]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    for k in ((0.01, 0, 0, 0, 0), (-0.1, 0, 0, 0, 0)):
        camera = jnr.Camera.from_opencv(calibration, np.eye(3, dtype=np.float32), np.zeros(3), (64, 64), distortion=k)

        def covered(vertices, camera=camera):
            return jnr.render_silhouette(vertices, faces, camera=camera, image_size=64)

        alpha = np.asarray(covered(floor))
        assert alpha[:30].sum() == 0
        assert alpha[36:].mean() > 0.9
        gradient = jax.grad(lambda v, covered=covered: jnp.sum(covered(v)[:20]))(jnp.asarray(floor))
        assert np.all(np.isfinite(gradient))


def test_gradient_with_respect_to_the_calibration_equals_finite_differences():
    with jax.enable_x64(True):
        calibration, rotation, translation, points = scene(4, np.float64)  # pyright: ignore[reportArgumentType]
        points[:3, 2] = -9  # behind the camera; the next three are far off the axis
        points[3:6, 0] = 60

        def outputs(calibration, rotation, translation, distortion, points):
            camera = jnr.Camera.from_opencv(calibration, rotation, translation, (HEIGHT, WIDTH), distortion=distortion)
            return camera.clip_positions(points, WIDTH / HEIGHT), camera.depth(points)

        compiled = jax.jit(outputs)
        fields = [calibration, rotation, translation, np.array([-0.2, 0.05, 0.01, -0.02, 0.01]), points]

        def of_free_entries(focal, rotation, translation, distortion, points):
            matrix = jnp.asarray(calibration).at[0, 0].set(focal[0]).at[1, 2].set(focal[1])
            return compiled(matrix, rotation, translation, distortion, points)

        fields[0] = np.array([calibration[0, 0], calibration[1, 2]])
        # The derivative holds the radius where the distortion ends fixed, so no point may lie beyond it.
        fields[3] = np.array([0.2, 0.05, 0.01, -0.02, 0.01])
        fields[4] = points[6:]
        check_grads(
            lambda *f: of_free_entries(*map(jnp.asarray, f)),
            fields,
            1,
            modes=("fwd", "rev"),
            atol=1e-6,
            rtol=1e-6,
            eps=1e-6,
        )
        gradients = jax.grad(lambda d, p: jnp.sum(compiled(calibration, rotation, translation, d, p)[0]), (0, 1))(
            fields[3], jnp.asarray(points).at[8, 1].set(jnp.nan)
        )
        for gradient in gradients:
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient != 0)


@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_weak_perspective_scales_and_shifts(aspect):
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 5.0)), jnr.WeakPerspective(0.7, (0.2, -0.1)))
    points = np.random.default_rng(0).normal(0, 1, (9, 3)).astype(np.float32)
    clip = np.asarray(camera.clip_positions(jnp.asarray(points), aspect))
    np.testing.assert_array_equal(clip[:, 3], 1)
    np.testing.assert_allclose(clip[:, 0], 0.7 * (points[:, 0] + 0.2) / aspect, atol=1e-6)
    np.testing.assert_allclose(clip[:, 1], 0.7 * (points[:, 1] - 0.1), atol=1e-6)


def test_perspective_tends_to_weak_perspective_for_small_objects():
    distance, focal = 4.0, 1 / np.tan(np.deg2rad(30))
    weak = jnr.Camera(jnr.LookAt((0.0, 0.0, distance)), jnr.WeakPerspective(focal / distance))
    full = jnr.Camera(jnr.LookAt((0.0, 0.0, distance)), jnr.Perspective(60.0))
    points = np.random.default_rng(0).normal(0, 1, (9, 3)).astype(np.float32)
    errors = []
    for size in (0.1, 0.01):
        clip = np.asarray(full.clip_positions(jnp.asarray(points * size)))
        errors.append(np.abs(clip[:, :2] / clip[:, 3:] - weak.clip_positions(jnp.asarray(points * size))[:, :2]).max())
    # The error is quadratic in the size.
    assert errors[1] < errors[0] / 50


@pytest.mark.parametrize("handedness", ["right", "left"])
@pytest.mark.parametrize("projection", [jnr.Perspective(50.0, 0.3, 20.0), jnr.Orthographic(2.0, 0.3, 20.0)])
def test_camera_from_opengl_matrices_renders_the_same_image(projection, handedness):
    camera = jnr.Camera(jnr.LookAt((1.0, 2.0, 3.0), handedness=handedness), projection)
    aspect = 1.5
    same = jnr.Camera.from_opengl(camera.pose.camera_from_world(), projection.clip_from_camera(aspect))
    ball = jnr.shapes.icosphere(1)
    expected = jnr.render(ball.vertices, ball.faces, camera=camera, image_size=(40, 60))
    rendering = jnr.render(ball.vertices, ball.faces, camera=same, image_size=(40, 60))
    np.testing.assert_array_equal(rendering.rgb, expected.rgb)
    np.testing.assert_allclose(rendering.depth, expected.depth, rtol=1e-4)  # far is computed from the matrix
    np.testing.assert_allclose(same.viewer(aspect), camera.viewer(aspect), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_camera_from_one_matrix_renders_the_same_image(scale):
    camera = jnr.Camera(jnr.LookAt((1.0, 2.0, 3.0)), jnr.Perspective(50.0, 0.3, 20.0))
    same = jnr.Camera.from_matrix(scale * camera.clip_from_world(1.5))
    points = jnp.asarray(np.random.default_rng(0).normal(0, 1, (9, 3)), jnp.float32)
    np.testing.assert_allclose(same.depth(points), camera.depth(points), atol=1e-5)
    np.testing.assert_allclose(same.projection.far, 20, rtol=1e-4)
    np.testing.assert_allclose(same.viewer(), (1, 2, 3, 1), atol=1e-5)
    ball = jnr.shapes.icosphere(1)
    expected = jnr.render(ball.vertices, ball.faces, camera=camera, image_size=(40, 60))
    rendering = jnr.render(ball.vertices, ball.faces, camera=same, image_size=(40, 60))
    np.testing.assert_array_equal(rendering.alpha, expected.alpha)
    np.testing.assert_allclose(rendering.rgb, expected.rgb, atol=1e-6)


def test_depth_of_a_camera_from_one_orthographic_matrix_starts_at_the_near_plane():
    camera = jnr.Camera(jnr.LookAt((1.0, 2.0, 3.0)), jnr.Orthographic(2.0, 0.5, 20.0))
    same = jnr.Camera.from_matrix(camera.clip_from_world())
    points = jnp.asarray(np.random.default_rng(0).normal(0, 1, (9, 3)), jnp.float32)
    np.testing.assert_allclose(same.depth(points), camera.depth(points) - 0.5, atol=1e-5)
    np.testing.assert_allclose(same.projection.far, 19.5, rtol=1e-4)


def test_matrix_without_a_far_plane_needs_a_far():
    # OpenGL's projection with an infinite far plane.
    matrix = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -0.2], [0, 0, -1, 0]], np.float32)
    with pytest.raises(ValueError, match=r"^far must be given where the matrix has no far plane"):
        jnr.Camera.from_opengl(np.eye(4, dtype=np.float32), matrix)
    camera = jnr.Camera.from_opengl(np.eye(4, dtype=np.float32), matrix, far=50.0)
    assert np.all(jnr.render_depth(np.zeros((3, 3)), np.array([[0, 1, 2]]), camera=camera, image_size=4) == 50)


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_viewer_is_the_eye_or_the_direction_to_it(handedness):
    eye, at = np.array([1.0, -2.0, 3.0], np.float32), np.array([0.5, 0.2, 0.0], np.float32)
    pose = jnr.LookAt(eye, at, handedness=handedness)
    for aspect in (1.0, 0.5):
        np.testing.assert_allclose(jnr.Camera(pose).viewer(aspect), (*eye, 1), atol=1e-5)
        for projection in (jnr.Orthographic(0.3), jnr.WeakPerspective(3.0, (1.0, 2.0))):
            toward = (eye - at) / np.linalg.norm(eye - at)
            np.testing.assert_allclose(jnr.Camera(pose, projection).viewer(aspect), (*toward, 0), atol=1e-5)


def test_vmap_over_calibrations_equals_a_loop():
    calibration, rotation, translation, points = scene(0)

    def columns(focal):
        matrix = jnp.asarray(calibration).at[0, 0].set(focal)
        camera = jnr.Camera.from_opencv(matrix, rotation, translation, (HEIGHT, WIDTH))
        clip = camera.clip_positions(jnp.asarray(points), WIDTH / HEIGHT)
        return clip[:, 0] / clip[:, 3]

    focals = jnp.array([200.0, 300.0])
    np.testing.assert_allclose(jax.vmap(columns)(focals), [columns(f) for f in focals], atol=1e-6)


def test_points_from_angles_are_on_a_sphere_around_the_y_axis():
    np.testing.assert_allclose(jnr.points_from_angles(2.0, 0.0, 0.0), (0, 0, 2), atol=1e-6)
    np.testing.assert_allclose(jnr.points_from_angles(2.0, 0.0, 90.0), (2, 0, 0), atol=1e-6)
    np.testing.assert_allclose(jnr.points_from_angles(2.0, 90.0, 17.0), (0, 2, 0), atol=1e-6)
    radians = jnr.points_from_angles(2.0, np.pi / 6, -np.pi / 3, degrees=False)
    np.testing.assert_allclose(radians, jnr.points_from_angles(2.0, 30.0, -60.0), atol=1e-6)


def test_left_handed_points_from_angles_equal_neural_renderers():
    rng = np.random.default_rng(0)
    distance, elevation, azimuth = rng.uniform(1, 3, 5), rng.uniform(-90, 90, 5), rng.uniform(-180, 180, 5)
    e, a = np.deg2rad(elevation), np.deg2rad(azimuth)
    expected = np.stack(
        [distance * np.cos(e) * np.sin(a), distance * np.sin(e), -distance * np.cos(e) * np.cos(a)], axis=-1
    )
    found = jnr.points_from_angles(distance, elevation, azimuth, handedness="left")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The right-handed points mirror the left-handed ones in z.
    np.testing.assert_allclose(jnr.points_from_angles(distance, elevation, azimuth), expected * [1, 1, -1], atol=1e-6)


def test_points_from_angles_broadcast():
    assert jnr.points_from_angles(2.0, jnp.zeros((3, 1)), jnp.zeros(4)).shape == (3, 4, 3)


K = np.array([[100, 0, 50], [0, 100, 50], [0, 0, 1]], np.float32)
EYE = np.eye(3, dtype=np.float32)
INVALID = {
    "shape_of_K": (lambda: jnr.Intrinsics(np.eye(4), (9, 9)).clip_from_camera(1.0), r"K must have shape \(3, 3\), got"),
    "K_transposed": (lambda: jnr.Intrinsics(K.T, (9, 9)).clip_from_camera(1.0), r"K must be a camera matrix"),
    "negative_focal": (lambda: jnr.Intrinsics(-K, (9, 9)).clip_from_camera(1.0), r"K must be a camera matrix"),
    "nan_in_K": (lambda: jnr.Intrinsics(K * np.nan, (9, 9)).clip_from_camera(1.0), r"K must be finite"),
    "image_size": (lambda: jnr.Intrinsics(K, (0, 9)).clip_from_camera(1.0), r"image_size must be at least 1"),
    "other_shape": (
        lambda: jnr.Intrinsics(K, (100, 100)).clip_from_camera(1.5),
        r"image_size must have the shape of the camera's 100 x 100: got a width of 1\.5 heights\.",
    ),
    "three_coefficients": (
        lambda: jnr.Intrinsics(K, (9, 9), (0.1, 0.2, 0.3)).distort(jnp.ones((1, 3))),
        r"distortion must be k1, k2, p1, p2 and perhaps k3, got shape \(3,\)\.",
    ),
    "nan_coefficient": (
        lambda: jnr.Intrinsics(K, (9, 9), (np.nan, 0.2, 0.3, 0.1)).distort(jnp.ones((1, 3))),
        r"distortion must be finite",
    ),
    "R": (lambda: jnr.Camera.from_opencv(K, np.eye(4), np.zeros(3), (9, 9)), r"R must have shape \(3, 3\), got"),
    "t": (lambda: jnr.Camera.from_opencv(K, EYE, np.zeros(2), (9, 9)), r"t must have shape \(3,\), got \(2,\)\."),
    "pose": (
        lambda: jnr.Pose(np.eye(4).T[[1, 0, 3, 2]]).camera_from_world(),
        r"matrix must end in the row \(0, 0, 0, 1\), got \[0\.0, 0\.0, 1\.0, 0\.0\]\.",
    ),
    "near": (lambda: jnr.Intrinsics(K, (9, 9), near=-1.0).clip_from_camera(1.0), r"near must be positive, got -1\."),
    "scale": (lambda: jnr.WeakPerspective(0.0).clip_from_camera(1.0), r"scale must be positive, got 0\."),
    "shift": (lambda: jnr.WeakPerspective(1.0, (1.0,)).clip_from_camera(1.0), r"shift must have shape \(2,\), got"),
    "handedness": (lambda: jnr.points_from_angles(1, 1, 1, handedness="up"), r"handedness must be 'right' or 'left'"),  # pyright: ignore[reportArgumentType]: wrong on purpose
    "angles": (
        lambda: jnr.points_from_angles(np.ones(2), np.ones(3), 1),
        r"distance, elevation and azimuth must have shapes that broadcast",
    ),
}


@pytest.mark.validation
@pytest.mark.parametrize(("make", "message"), INVALID.values(), ids=INVALID)
def test_invalid_camera_model_is_an_error_that_names_the_field(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
