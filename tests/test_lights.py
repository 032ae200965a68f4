"""Lights, shaders and normals against closed forms on spheres and tori."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr

PIXELS = 32
CAMERA = jnr.Camera(jnr.LookAt((0.5, 0.8, 3.0)), jnr.Perspective(45.0))
BALL = jnr.shapes.icosphere(3)
# The exact normals of a unit sphere are its points, so shading is compared without the error of flat faces.
SMOOTH = {"camera": CAMERA, "image_size": PIXELS, "normals": BALL.vertices}


def seen_points(camera=CAMERA):
    """Mask of covered pixels, and their positions on the ball, unit normals and unit vectors to the eye."""
    rendering = jnr.render(*BALL, camera=camera, lights=(), attributes=BALL.vertices, image_size=PIXELS)
    covered = np.asarray(rendering.alpha) == 1
    points = np.asarray(rendering.attributes, np.float64)[covered]
    viewer = np.asarray(camera.viewer(), np.float64)
    toward = viewer[:3] - viewer[3] * points
    return covered, points, unit(points), unit(toward)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_flat_and_smooth_normals_of_a_sphere_are_its_points():
    for kind, tolerance in (("smooth", 0.01), ("flat", 0.1)):
        rendering = jnr.render(*BALL, camera=CAMERA, normals=kind, image_size=PIXELS)  # pyright: ignore[reportArgumentType]
        covered, _, expected, _ = seen_points()
        normals = np.asarray(rendering.normals)
        np.testing.assert_allclose(np.linalg.norm(normals[covered], axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose(normals[covered], expected, atol=tolerance)
        assert np.all(normals[~covered] == 0)


def test_normals_of_a_torus_tend_to_the_analytic_ones_as_faces_get_smaller():
    def error(rows, kind):
        mesh = jnr.shapes.torus(0.7, 0.3, rows, 2 * rows)
        camera = jnr.Camera(jnr.LookAt((0.3, 1.5, 1.2)))
        rendering = jnr.render(*mesh, camera=camera, normals=kind, attributes=mesh.vertices, image_size=PIXELS)
        covered = np.asarray(rendering.alpha) == 1
        point = np.asarray(rendering.attributes)[covered]
        ring = 0.7 * unit(point * [1, 0, 1])
        return np.abs(np.asarray(rendering.normals)[covered] - unit(point - ring)).max()

    # Errors of flat normals are proportional to the size of faces, those of smooth normals to its square.
    flat, smooth = ([error(rows, kind) for rows in (12, 48)] for kind in ("flat", "smooth"))
    assert flat[1] < flat[0] / 3
    assert smooth[1] < smooth[0] / 8
    assert flat[1] < 0.15
    assert smooth[1] < 0.02


def test_vertex_normals_of_a_cube_point_outwards_and_those_of_a_plane_are_its_normal():
    cube, plane = jnr.shapes.cube(), jnr.shapes.plane(3, 2)
    normals = np.asarray(jnr.vertex_normals(*cube[:2]))
    # The direction depends on how many of the triangles of each side meet at the corner.
    assert np.all(np.sign(normals) == np.sign(cube.vertices))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(jnr.vertex_normals(*plane[:2]), np.tile([0, 0, 1], (12, 1)), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
def test_vertex_normals_do_not_depend_on_the_unit_of_length(scale):
    expected = jnr.vertex_normals(*BALL[:2])
    np.testing.assert_allclose(jnr.vertex_normals(BALL.vertices * np.float32(scale), BALL.faces), expected, atol=1e-6)


def test_vertices_without_valid_faces_have_zero_normals_and_a_finite_gradient():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 2, 2], [jnp.nan, 0, 0]])
    faces = jnp.array([[0, 1, 2], [3, 3, 3], [-1, -1, -1], [0, 1, 4]])
    normals = jnr.vertex_normals(vertices, faces)
    np.testing.assert_array_equal(normals[:3], np.tile([0, 0, 1], (3, 1)))
    np.testing.assert_array_equal(normals[3:], 0)
    gradient = jax.grad(lambda v: jnp.sum(jnr.vertex_normals(v, faces) * 0.5))(vertices)
    assert np.all(np.isfinite(gradient))


def test_non_finite_vertex_changes_no_other_normal():
    ball = jnr.shapes.icosphere(1)
    extended = jnp.concatenate([ball.vertices, jnp.array([[jnp.inf, 1e30, 0.0]])])
    normals = jnr.vertex_normals(extended, ball.faces)
    np.testing.assert_array_equal(normals[:-1], jnr.vertex_normals(ball.vertices, ball.faces))
    np.testing.assert_array_equal(normals[-1], 0)


def test_derivative_of_vertex_normals_equals_finite_differences():
    ball = jnr.shapes.icosphere(1)
    with jax.enable_x64(True):
        vertices = np.asarray(ball.vertices, np.float64) * [1, 2, 0.5]
        weights = np.random.default_rng(0).normal(size=vertices.shape)
        check_grads(
            lambda v: jnp.sum(jnr.vertex_normals(jnp.asarray(v), ball.faces) * weights),
            (vertices,),
            1,
            modes=("fwd", "rev"),
            atol=1e-6,
            rtol=1e-6,
            eps=1e-6,
        )


@pytest.mark.parametrize("kind", ["flat", "smooth"])
@pytest.mark.parametrize("handedness", ["right", "left"])
def test_normals_are_those_of_the_visible_side(kind, handedness):
    # The camera is inside the ball and sees its inner side.
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 0.3), handedness=handedness))
    rendering = jnr.render(*BALL, camera=camera, normals=kind, attributes=BALL.vertices, image_size=16)
    np.testing.assert_allclose(rendering.normals, -unit(np.asarray(rendering.attributes)), atol=0.1)


def test_given_normals_may_have_any_length():
    lengths = np.random.default_rng(0).uniform(0.1, 9, (1, 1)).astype(np.float32)
    rendering, longer = (
        jnr.render(*BALL, **{**SMOOTH, "normals": normals}) for normals in (BALL.vertices, BALL.vertices * lengths)
    )
    np.testing.assert_allclose(rendering.normals, longer.normals, atol=1e-6)


COLOR = np.array([0.9, 0.6, 0.3])
DIRECTION = np.array([0.4, 1.0, -0.2])
POSITION = np.array([1.5, 1.0, 1.2])
SKY = np.random.default_rng(3).normal(0.5, 0.5, (9, 3))


def irradiance(normals, coefficients):
    """Irradiance over pi under a sky of nine harmonics, as a cosine-weighted sum over 200,000 directions."""
    count = 200_000
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    x, y = np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn)
    harmonics = [
        np.full(count, np.sqrt(1 / (4 * np.pi))),
        *(np.sqrt(3 / (4 * np.pi)) * axis for axis in (y, z, x)),
        *(np.sqrt(15 / (4 * np.pi)) * product for product in (x * y, y * z)),
        np.sqrt(5 / (16 * np.pi)) * (3 * z * z - 1),
        np.sqrt(15 / (4 * np.pi)) * x * z,
        np.sqrt(15 / (16 * np.pi)) * (x * x - y * y),
    ]
    radiance = np.stack(harmonics, axis=-1) @ coefficients
    cosine = np.maximum(normals @ np.stack([x, y, z]), 0)
    return cosine @ radiance * 4 / count  # each direction has a solid angle of 4 pi / count; divided by pi


LIGHTS = {
    "ambient": (jnr.AmbientLight(0.3, COLOR), lambda points, normals: np.broadcast_to(0.3 * COLOR, normals.shape)),
    "directional": (
        jnr.DirectionalLight(0.7, COLOR, DIRECTION),
        lambda points, normals: 0.7 * COLOR * np.maximum(normals @ DIRECTION, 0)[:, None],
    ),
    "point": (
        jnr.PointLight(0.7, COLOR, POSITION),
        lambda points, normals: 0.7 * COLOR * np.maximum(np.sum(normals * unit(POSITION - points), 1), 0)[:, None],
    ),
    "fading_point": (
        jnr.PointLight(0.7, COLOR, POSITION, (0.2, 0.3, 0.5)),
        lambda points, normals: (
            0.7
            * COLOR
            * np.maximum(np.sum(normals * unit(POSITION - points), 1), 0)[:, None]
            / np.polyval([0.5, 0.3, 0.2], np.linalg.norm(POSITION - points, axis=1))[:, None]
        ),
    ),
    "harmonics": (jnr.SphericalHarmonicsLight(SKY), lambda points, normals: irradiance(normals, SKY)),
}


@pytest.mark.parametrize("name", LIGHTS)
def test_light_on_a_sphere_is_the_closed_form(name):
    light, expected = LIGHTS[name]
    rendering = jnr.render(*BALL, lights=(light,), **SMOOTH)
    covered, points, normals, _ = seen_points()
    # float32; the sum over directions is accurate to 1e-4.
    tolerance = 1e-3 if name == "harmonics" else 1e-5
    np.testing.assert_allclose(np.asarray(rendering.rgb)[covered], expected(points, normals), atol=tolerance)


def test_lights_add_up():
    together = jnr.render(*BALL, lights=[light for light, _ in LIGHTS.values()], **SMOOTH).rgb
    alone = sum(jnr.render(*BALL, lights=(light,), **SMOOTH).rgb for light, _ in LIGHTS.values())
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_lighting_per_face_equals_lighting_per_pixel():
    # Without a shader, flat faces are lit per face; with one, per pixel.
    light = (jnr.AmbientLight(0.2), jnr.DirectionalLight(0.6, COLOR, DIRECTION), jnr.SphericalHarmonicsLight(SKY))
    faces = jnr.render(*BALL, lights=light, camera=CAMERA, image_size=PIXELS).rgb
    pixels = jnr.render(*BALL, lights=light, camera=CAMERA, image_size=PIXELS, shader=jnr.Lambert()).rgb
    np.testing.assert_allclose(faces, pixels, atol=1e-6)


def test_sky_of_constant_radiance_is_an_ambient_light():
    sky = jnp.zeros(9).at[0].set(np.sqrt(4 * np.pi))
    rendering = jnr.render(*BALL, lights=(jnr.SphericalHarmonicsLight(sky),), **SMOOTH)
    np.testing.assert_allclose(rendering.rgb, jnp.repeat(rendering.alpha[..., None], 3, axis=-1), atol=1e-6)


def test_distant_point_light_equals_a_directional_light():
    far = jnr.PointLight(0.7, COLOR, 1e4 * DIRECTION)
    directional = jnr.DirectionalLight(0.7, COLOR, unit(DIRECTION))
    found, expected = (jnr.render(*BALL, lights=(light,), **SMOOTH).rgb for light in (far, directional))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_point_light_on_the_surface_contributes_zero_there_and_has_a_finite_gradient():
    plane = jnr.shapes.plane()
    camera = jnr.Camera(projection=jnr.Orthographic(0.4))

    def render(position):
        return jnr.render(*plane, camera=camera, lights=(jnr.PointLight(1.0, 1.0, position),), image_size=5).rgb

    position = jnp.array([0.0, 0.0, 0.0])  # the point that the middle pixel sees
    assert np.all(render(position)[2, 2] == 0)
    assert np.all(np.isfinite(jax.jacobian(render)(position)))


@pytest.mark.parametrize("projection", [jnr.Perspective(45.0), jnr.Orthographic(1.2)], ids=["perspective", "ortho"])
@pytest.mark.parametrize("name", ["directional", "point"])
def test_highlight_on_a_sphere_is_the_closed_form(name, projection):
    camera = jnr.Camera(CAMERA.pose, projection)
    light = LIGHTS[name][0]
    options = {**SMOOTH, "camera": camera, "lights": (jnr.AmbientLight(0.1), light)}
    shader = jnr.Phong(specular=(0.5, 0.4, 0.3), shininess=9.0)
    covered, points, normals, viewer = seen_points(camera)
    toward = unit(np.broadcast_to(DIRECTION, points.shape) if name == "directional" else POSITION - points)
    cosine = np.sum(normals * toward, axis=1, keepdims=True)
    mirrored = np.maximum(np.sum((2 * cosine * normals - toward) * viewer, axis=1, keepdims=True), 0)
    expected = np.where(cosine > 0, 0.7 * COLOR * (0.5, 0.4, 0.3) * mirrored**9, 0)
    colors = np.random.default_rng(0).uniform(size=BALL.vertices.shape).astype(np.float32)
    with_highlight, without = (jnr.render(*BALL[:2], colors, shader=s, **options).rgb for s in (shader, None))
    np.testing.assert_allclose((with_highlight - without)[covered], expected, atol=2e-5)
    assert expected.max() > 0.3


def test_derivatives_with_respect_to_lights_and_shader_equal_finite_differences():
    ball = jnr.shapes.icosphere(1)
    with jax.enable_x64(True):
        weights = np.random.default_rng(0).normal(size=(12, 12, 3))

        def loss(vertices, position, attenuation, sky, specular, shininess, color):
            rendering = jnr.render(
                vertices,
                ball.faces,
                lights=(
                    jnr.PointLight(0.8, color, position, attenuation),
                    jnr.SphericalHarmonicsLight(sky),
                    jnr.DirectionalLight(0.5, color, position),
                ),
                shader=jnr.Phong(specular, shininess),
                normals="smooth",
                camera=CAMERA,
                image_size=12,
                gradient=None,
            )
            return jnp.sum(rendering.rgb * weights) + jnp.sum(rendering.normals * weights)

        compiled = jax.jit(loss)
        arguments = [
            np.asarray(ball.vertices, np.float64) * [1.3, 0.9, 1.1],
            POSITION,
            np.array([0.2, 0.3, 0.5]),
            SKY,
            np.array(0.4),
            np.array(7.0),
            COLOR,
        ]
        check_grads(
            lambda *a: compiled(*map(jnp.asarray, a)),
            arguments,
            1,
            modes=("fwd", "rev"),
            atol=1e-5,
            rtol=1e-5,
            eps=1e-6,
        )
        gradients = jax.grad(compiled, argnums=range(7))(*map(jnp.asarray, arguments))
        assert all(np.any(gradient != 0) for gradient in gradients)


def test_vmap_renders_each_image_with_its_own_lights():
    colors = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 3)), jnp.float32)
    directions = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)

    def render(color, direction):
        lights = (jnr.DirectionalLight(0.6, color, direction), jnr.PointLight(0.5, color, direction * 2))
        return jnr.render(*jnr.shapes.icosphere(1), lights=lights, normals="smooth", image_size=16).rgb

    found = jax.vmap(render)(colors, directions)
    np.testing.assert_allclose(found, [render(c, d) for c, d in zip(colors, directions, strict=True)], atol=1e-6)


def test_shader_receives_the_surface_and_returns_the_colors():
    heights = BALL.vertices[:, 1:2]
    seen = {}

    def contours(surface):
        seen["surface"] = surface
        lines = (jnp.sin(30 * surface.attributes) > 0) & (surface.fragments.face_index >= 0)[..., None]
        return jnp.where(lines, jnp.array([1.0, 0.5, 0.0, 0.25]), 0.1)

    rendering = jnr.render(
        *BALL, attributes=heights, shader=contours, camera=CAMERA, background=(0, 0, 1, 0), image_size=PIXELS
    )
    assert rendering.rgb.shape == (PIXELS, PIXELS, 4)
    covered, points, normals, viewer = seen_points()
    expected = np.where(np.sin(30 * points[:, 1:2]) > 0, [1.0, 0.5, 0.0, 0.25], 0.1)
    np.testing.assert_allclose(np.asarray(rendering.rgb)[covered], expected, atol=1e-6)
    assert np.all(np.asarray(rendering.rgb)[~covered] == [0, 0, 1, 0])
    surface = seen["surface"]
    np.testing.assert_allclose(np.asarray(surface.position)[covered], points, atol=1e-6)
    np.testing.assert_allclose(np.asarray(surface.viewer)[covered], viewer, atol=1e-5)
    np.testing.assert_allclose(np.asarray(surface.normal)[covered], normals, atol=0.1)
    assert np.all(np.asarray(surface.albedo)[covered] == 1)
    for field in ("position", "viewer", "normal", "albedo", "attributes"):
        assert np.all(np.asarray(getattr(surface, field))[~covered] == 0)


def test_attributes_and_normals_have_the_visibility_gradient():
    ball = jnr.shapes.icosphere(1)
    target = jnp.zeros((24, 24)).at[:, 20:].set(1.0)

    def loss(vertices, output):
        rendering = jnr.render(vertices, ball.faces, attributes=jnp.ones((42, 1)), image_size=24)
        image = rendering.attributes if output == "attributes" else jnp.abs(rendering.normals)
        return -jnp.sum(image * target[..., None])

    for output in ("attributes", "normals"):
        gradient = jax.grad(loss)(ball.vertices, output)
        assert np.all(np.isfinite(gradient))
        assert gradient[:, 0].sum() < 0  # descent moves the mesh to the right


def test_light_of_a_users_class_is_rendered():
    class Headlight:
        """A light at the eye."""

        def arriving(self, position, normal):
            ray = jnp.asarray((0.5, 0.8, 3.0)) - position
            return jnr.Arriving(jnp.ones(1), ray / jnp.linalg.norm(ray, axis=-1, keepdims=True))

    rendering = jnr.render(*BALL, lights=(Headlight(),), **SMOOTH)
    covered, _, normals, viewer = seen_points()
    np.testing.assert_allclose(np.asarray(rendering.rgb)[covered, 0], np.sum(normals * viewer, axis=1), atol=1e-5)


def test_normals_per_corner_give_facets_or_smoothness():
    corners = np.repeat(np.asarray(jnr.face_normals(*BALL[:2]))[:, None], 3, axis=1)
    options = {**SMOOTH, "shader": jnr.Lambert()}
    facets = jnr.render(*BALL[:2], **{**options, "normals": "flat"})
    np.testing.assert_allclose(jnr.render(*BALL[:2], **{**options, "normals": corners}).rgb, facets.rgb, atol=1e-5)
    smooth = np.asarray(BALL.vertices)[np.asarray(BALL.faces)]
    expected = jnr.render(*BALL[:2], **options).rgb
    np.testing.assert_allclose(jnr.render(*BALL[:2], **{**options, "normals": smooth}).rgb, expected, atol=1e-5)
    assert np.abs(expected - facets.rgb).max() > 0.01


INVALID = {
    "normals_name": (lambda: {"normals": "round"}, ValueError, r"normals must be one of 'flat', 'smooth' or an array"),
    "normals_shape": (
        lambda: {"normals": np.zeros((3, 3))},
        ValueError,
        r"normals must have shape \(642, 3\), or \(1280, 3, 3\) per corner, got \(3, 3\)\.",
    ),
    "attributes": (
        lambda: {"attributes": np.zeros(642)},
        ValueError,
        r"attributes must have shape \(vertices, channels\) or",
    ),
    "shader": (lambda: {"shader": "phong"}, TypeError, r"shader must be a function of a surface or None, got str\."),
    "shader_result": (
        lambda: {"shader": lambda surface: surface.albedo[0]},
        ValueError,
        r"what shader returns must have shape \(8, 8, channels\), got \(8, 3\)\.",
    ),
    "light": (lambda: {"lights": (0.5,)}, TypeError, r"lights must be lights such as jnr\.AmbientLight, got float\."),
    "position": (
        lambda: {"lights": (jnr.PointLight(position=(0, 1)),)},
        ValueError,
        r"position must have shape \(3,\), got",
    ),
    "attenuation": (
        lambda: {"lights": (jnr.PointLight(attenuation=1.0),)},
        ValueError,
        r"attenuation must have shape \(3,\), got \(\)\.",
    ),
    "sky": (
        lambda: {"lights": (jnr.SphericalHarmonicsLight(np.zeros((4, 3))),)},
        ValueError,
        r"coefficients must have shape \(9, channels\), got \(4, 3\)\.",
    ),
    "specular": (
        lambda: {"shader": jnr.Phong(specular=np.zeros((1, 3)))},
        ValueError,
        r"specular must be a number or have one value per channel, got shape \(1, 3\)\.",
    ),
    "shininess": (
        lambda: {"shader": jnr.Phong(shininess=(1, 2))},  # pyright: ignore[reportArgumentType]: wrong on purpose
        ValueError,
        r"shininess must have shape \(\), got \(2,\)\.",
    ),
    "channels": (
        lambda: {"lights": (jnr.PointLight(color=(1, 1)),)},
        ValueError,
        r"lights must have one colour channel or the textures' 3, got 2\.",
    ),
    "two_colors": (
        lambda: {"lights": (jnr.PointLight(color=(1, 1)), jnr.AmbientLight(color=(1, 1, 1)))},
        ValueError,
        r"lights must have colours with the same number of channels, got 2 and 3\.",
    ),
}


@pytest.mark.validation
@pytest.mark.parametrize(("options", "error", "message"), INVALID.values(), ids=INVALID)
def test_invalid_shading_is_an_error_that_names_the_argument(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        jnr.render(*BALL, image_size=8, **options())


def test_highlight_is_on_the_lit_side_only():
    def highlight(direction):
        at = jnp.zeros((1, 1, 3))
        normal, viewer = at.at[..., 2].set(1), at + jnp.array([-0.8, 0, 0.6])
        fragments = jnr.Fragments(jnp.zeros((1, 1), jnp.int32), at, at[..., 0])
        light = jnr.DirectionalLight(1.0, direction=direction)
        shader = jnr.Phong(specular=1.0, shininess=1.0)
        return float(shader(jnr.Surface(at, at, normal, viewer, at[..., :0], fragments, (light,)))[0, 0, 0])

    assert highlight((0.8, 0.0, 0.6)) == pytest.approx(1, abs=1e-6)
    # The reflected direction, (-0.8, 0, -0.6), is at an acute angle to the viewer.
    assert highlight((0.8, 0.0, -0.6)) == 0


def test_light_whose_attenuation_is_not_positive_is_not_attenuated():
    position, normal = jnp.zeros((1, 3)), jnp.array([[0.0, 0.0, 1.0]])
    colors = [
        float(jnr.PointLight(0.5, position=(0, 0, 2), attenuation=a).arriving(position, normal).color[0, 0])
        for a in ((1, 1, 0), (1, -1, 0), (0, 0, 0))
    ]
    np.testing.assert_allclose(colors, (0.5 / 3, 0.5, 0.5), rtol=1e-6)
