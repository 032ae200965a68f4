import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr
from jnr._geometry import face_normals
from jnr._textures import sample_cubes

SIZE = 16
# Sees three sides of a cube.
CORNER_CAMERA = jnr.Camera(jnr.LookAt((1.5, 1.2, 2.0)))


def check(f, *args):
    """Compares both modes with float64 central differences of step 1e-6, which are accurate to about 1e-9."""
    check_grads(lambda *a: f(*map(jnp.asarray, a)), args, 1, modes=("fwd", "rev"), atol=1e-7, rtol=1e-6, eps=1e-6)


def random_fragments(num_faces, seed=0, shape=(9, 7)):
    """Face index and random weights per pixel, with background and with weights of zero."""
    rng = np.random.default_rng(seed)
    face_index = rng.integers(-1, num_faces, shape)
    weights = rng.dirichlet([1, 1, 1], shape)
    weights[0, :3] = np.eye(3)
    weights[0, 3:6] = [[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    face_index[0, :6] = np.arange(6) % num_faces
    covered = face_index >= 0
    weights = np.where(covered[..., None], weights, 0)
    return face_index, weights


def as_fragments(face_index, weights):
    return jnr.Fragments(
        jnp.asarray(face_index, jnp.int32), jnp.asarray(weights), jnp.asarray((face_index >= 0) * np.float32(1))
    )


def trilinear(cube, weights):
    """One trilinear sample of a cube (t, t, t, channels) at weights * (t - 1), from the definition."""
    t = cube.shape[0]
    total = np.zeros(cube.shape[-1])
    for texel in np.ndindex(t, t, t):
        total += np.prod(np.clip(1 - np.abs(np.array(weights) * (t - 1) - texel), 0, 1)) * cube[texel]
    return total


@pytest.mark.parametrize("t", [1, 2, 3, 4])
def test_cube_is_sampled_trilinearly(t):
    cubes = np.random.default_rng(t).normal(size=(3, t, t, t, 2)).astype(np.float32)
    face_index, weights = random_fragments(3)
    weights = weights.astype(np.float32)
    out = sample_cubes(jnp.asarray(cubes), as_fragments(face_index, weights))
    expected = np.zeros((*face_index.shape, 2))
    for pixel in np.ndindex(face_index.shape):
        if face_index[pixel] >= 0:
            expected[pixel] = trilinear(cubes[face_index[pixel]].astype(np.float64), weights[pixel])
    # float32 sums of eight products of three factors
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_array_equal(out[face_index < 0], 0)


@pytest.mark.parametrize("t", [2, 3, 4])
def test_corner_of_a_face_has_the_texel_at_the_end_of_its_axis(t):
    cubes = np.random.default_rng(t).normal(size=(3, t, t, t, 2)).astype(np.float32)
    face_index, weights = random_fragments(3)
    out = sample_cubes(jnp.asarray(cubes), as_fragments(face_index, weights.astype(np.float32)))
    for corner in range(3):
        texel = tuple(t - 1 if k == corner else 0 for k in range(3))
        np.testing.assert_array_equal(out[0, corner], cubes[(corner, *texel)])


def test_cube_of_one_texel_colors_the_whole_face():
    mesh = jnr.shapes.cube()
    cubes = jnp.asarray(np.random.default_rng(0).uniform(size=(12, 1, 1, 1, 3)), jnp.float32)
    rendering = jnr.render(mesh.vertices, mesh.faces, cubes, camera=CORNER_CAMERA, lights=(), image_size=SIZE)
    seen = {tuple(color) for color in np.asarray(rendering.rgb[rendering.alpha > 0])}
    assert seen <= {tuple(color) for color in np.asarray(cubes[:, 0, 0, 0])}
    assert len(seen) == 6  # three sides of two faces


def test_cube_gradient_equals_finite_differences_and_is_linear():
    face_index, weights = random_fragments(3)
    cubes = np.random.default_rng(1).normal(size=(3, 3, 3, 3, 2))
    with jax.enable_x64(True):
        sample = jax.jit(lambda c, w: sample_cubes(c, as_fragments(face_index, w)))
        # Between texels: at a texel the derivative by the weights jumps.
        inside = np.random.default_rng(2).dirichlet([2, 2, 2], face_index.shape)
        check(sample, cubes, inside)
        to_cubes = jax.vjp(lambda c: sample(c, jnp.asarray(weights)), jnp.asarray(cubes))[1]
        other = jax.vjp(lambda c: sample(c, jnp.asarray(weights)), jnp.asarray(-3 * cubes))[1]
        cotangent = jnp.asarray(np.random.default_rng(3).normal(size=(*face_index.shape, 2)))
        np.testing.assert_array_equal(to_cubes(cotangent)[0], other(cotangent)[0])
        # Weights sum to one, so the gradients sum to the cotangents of the covered pixels.
        total = np.asarray(to_cubes(cotangent)[0]).sum(axis=(0, 1, 2, 3))
        covered = (face_index >= 0)[..., None]
        np.testing.assert_allclose(total, (np.asarray(cotangent) * covered).sum(axis=(0, 1)), rtol=1e-12)


def test_cubes_of_invisible_faces_may_be_nan_and_have_zero_gradient():
    face_index, weights = random_fragments(2)
    fragments = as_fragments(face_index, weights.astype(np.float32))
    cubes = jnp.ones((3, 2, 2, 2, 1)).at[2].set(jnp.nan)
    value, gradient = jax.value_and_grad(lambda c: sample_cubes(c, fragments).sum())(cubes)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[2], 0)


def test_vertex_colors_are_interpolated():
    mesh = jnr.shapes.cube()
    colors = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 3)), jnp.float32)
    rendering = jnr.render(mesh.vertices, mesh.faces, colors, camera=CORNER_CAMERA, lights=(), image_size=SIZE)
    clip_positions = jnp.concatenate([mesh.vertices, jnp.ones((8, 1))], 1) @ CORNER_CAMERA.clip_from_world().T
    fragments = jnr.rasterize(clip_positions, mesh.faces, SIZE)
    assert 0.1 < rendering.alpha.mean() < 0.9
    # float32 clip positions, from products in another order
    np.testing.assert_allclose(rendering.rgb, jnr.interpolate(colors, mesh.faces, fragments), atol=1e-5)


def test_two_texel_cube_that_is_linear_equals_vertex_colors():
    mesh = jnr.shapes.cube()
    colors = np.random.default_rng(0).uniform(size=(8, 3)).astype(np.float32)
    corners = colors[np.asarray(mesh.faces)]  # (12, 3, 3)
    # w0 c0 + w1 c1 + w2 c2 is trilinear if the colour of texel (i, j, k) is i c0 + j c1 + k c2.
    bits = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).astype(np.float32)
    cubes = np.einsum("xyzk,fkc->fxyzc", bits, corners)
    options = {"camera": CORNER_CAMERA, "lights": (), "image_size": SIZE}
    by_cubes = jnr.render(mesh.vertices, mesh.faces, jnp.asarray(cubes), **options).rgb
    by_colors = jnr.render(mesh.vertices, mesh.faces, jnp.asarray(colors), **options).rgb
    np.testing.assert_allclose(by_cubes, by_colors, atol=2e-6)  # float32 products of weights


def test_mesh_without_textures_is_white():
    mesh = jnr.shapes.cube()
    rendering = jnr.render(mesh.vertices, mesh.faces, camera=CORNER_CAMERA, lights=(), image_size=SIZE)
    np.testing.assert_array_equal(rendering.rgb, np.repeat(np.asarray(rendering.alpha)[..., None], 3, axis=-1))


def test_face_normals_of_cube_point_outwards_along_the_axes():
    mesh = jnr.shapes.cube()
    normals = face_normals(mesh.vertices, mesh.faces)
    middle = np.asarray(mesh.vertices)[np.asarray(mesh.faces)].mean(axis=1)
    expected = np.zeros((12, 3))
    axis = np.argmax(np.abs(middle), axis=1)
    expected[np.arange(12), axis] = np.sign(middle[np.arange(12), axis])
    np.testing.assert_allclose(normals, expected, atol=1e-6)  # float32 square root


def test_degenerate_and_padding_faces_have_zero_normals_and_a_finite_gradient():
    vertices = jnp.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    faces = jnp.array([[0, 1, 2], [0, 0, 1], [-1, -1, -1], [0, 1, 3]])
    with jax.debug_nans(True):
        gradient = jax.grad(lambda v: (face_normals(v, faces) * jnp.arange(3.0)).sum())(vertices)
    np.testing.assert_array_equal(face_normals(vertices, faces), [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[2], 0)


# Without scaling, the squared length of a normal (a fourth power) would leave float32 beyond 1e-10 and 1e10.
@pytest.mark.parametrize("scale", [1e-20, 1e-4, 1.0, 1e4, 1e20])
def test_normals_do_not_depend_on_the_unit_of_length(scale):
    mesh = jnr.shapes.icosphere(0)
    normals = face_normals(mesh.vertices * scale, mesh.faces)
    np.testing.assert_allclose(normals, face_normals(mesh.vertices, mesh.faces), atol=1e-5)  # float32


def seen_from(direction, handedness="right", mesh=None, **options):
    """Rendering of a white cube seen along an axis, which shows one of its sides."""
    mesh = jnr.shapes.cube() if mesh is None else mesh
    direction = np.asarray(direction, np.float32)
    up = (0.0, 0.0, 1.0) if direction[1] else (0.0, 1.0, 0.0)
    camera = jnr.Camera(jnr.LookAt(3 * direction, up=up, handedness=handedness))  # pyright: ignore[reportArgumentType]
    return jnr.render(mesh.vertices, mesh.faces, camera=camera, image_size=SIZE, **options)


AXES = [s * np.eye(3)[k] for k in range(3) for s in (1, -1)]


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_side_of_a_cube_receives_ambient_plus_the_cosine_of_directional_light(handedness):
    light = np.array([0.3, -0.5, 0.8])
    lights = (
        jnr.AmbientLight(0.25, color=(1.0, 0.5, 0.0)),
        jnr.DirectionalLight(0.5, color=(0.2, 0.4, 0.8), direction=light),
    )
    for side in AXES:
        rendering = seen_from(side, handedness, lights=lights)
        expected = 0.25 * np.array([1, 0.5, 0]) + 0.5 * np.array([0.2, 0.4, 0.8]) * max(0, side @ light)
        covered = np.asarray(rendering.alpha) > 0
        assert covered.sum() > 10
        # float32 normals
        np.testing.assert_allclose(rendering.rgb[covered], np.tile(expected, (covered.sum(), 1)), atol=1e-6)
        np.testing.assert_array_equal(rendering.rgb[~covered], 0)


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_face_seen_from_behind_is_lit_like_a_front_face(handedness):
    mesh = jnr.shapes.cube()
    inside_out = mesh._replace(faces=mesh.faces[:, ::-1])
    lights = (jnr.DirectionalLight(1.0, direction=(0.3, -0.5, 0.8)),)
    for side in AXES:
        expected = seen_from(side, handedness, lights=lights).rgb
        np.testing.assert_allclose(seen_from(side, handedness, mesh=inside_out, lights=lights).rgb, expected, atol=1e-6)


@pytest.mark.parametrize("projection", [jnr.Perspective(), jnr.Orthographic(1.2)], ids=["perspective", "orthographic"])
@pytest.mark.parametrize("handedness", ["right", "left"])
def test_inside_of_an_open_box_is_lit_from_inside(handedness, projection):
    # A cube without its front: the camera sees the inner side of the back, whose normal towards the camera is +z.
    mesh = jnr.shapes.cube()
    middle = np.asarray(mesh.vertices)[np.asarray(mesh.faces)].mean(axis=1)
    faces = mesh.faces[np.flatnonzero(middle[:, 2] < 0.4)]
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0), handedness=handedness), projection)
    for z, expected in ((1.0, 0.75), (-1.0, 0.0)):
        lights = (jnr.DirectionalLight(0.75, direction=(0.0, 0.0, z)),)
        rendering = jnr.render(mesh.vertices, faces, camera=camera, lights=lights, image_size=SIZE)
        np.testing.assert_allclose(rendering.rgb[SIZE // 2, SIZE // 2], expected, atol=1e-6)  # float32 normal


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_sphere_is_lit_by_the_cosine_to_its_normal(handedness):
    mesh = jnr.shapes.icosphere(4)
    light = np.array([0.48, 0.6, 0.64])
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 3.0), handedness=handedness), jnr.Orthographic(1.25))
    lights = (jnr.AmbientLight(0.1), jnr.DirectionalLight(0.8, direction=light))
    rendering = jnr.render(mesh.vertices, mesh.faces, camera=camera, lights=lights, image_size=SIZE)
    centre = 1.25 * ((2 * np.arange(SIZE) + 1) / SIZE - 1)
    x, y = np.meshgrid(centre if handedness == "right" else -centre, -centre)
    inside = x**2 + y**2 < 0.9
    normal = np.stack([x, y, np.sqrt(np.where(inside, 1 - x**2 - y**2, 1))], axis=-1)
    expected = 0.1 + 0.8 * np.maximum(0, normal @ light)
    assert inside.sum() > 60
    assert np.any(expected[inside] == 0.1)
    # Normals of flat faces differ from the sphere's by up to the size of a face, 0.08, and the light by 0.8 of that.
    np.testing.assert_allclose(rendering.rgb[inside][:, 0], expected[inside], atol=0.07)
    assert np.abs(rendering.rgb[inside][:, 0] - expected[inside]).mean() < 0.02


def test_length_of_direction_scales_the_light():
    once = seen_from((0, 0, 1), lights=(jnr.DirectionalLight(0.25, direction=(0.1, 0.2, 0.6)),)).rgb
    twice = seen_from((0, 0, 1), lights=(jnr.DirectionalLight(0.25, direction=(0.2, 0.4, 1.2)),)).rgb
    np.testing.assert_array_equal(twice, 2 * once)


def test_no_lights_leave_the_texture_unchanged_and_light_may_exceed_one():
    rendering = seen_from((0, 0, 1), lights=())
    assert rendering.rgb[SIZE // 2, SIZE // 2, 0] == 1
    rendering = seen_from((0, 0, 1), lights=[jnr.AmbientLight(1.5), jnr.AmbientLight(1.0)])
    assert rendering.rgb[SIZE // 2, SIZE // 2, 0] == 2.5


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_derivatives_of_lights_equal_finite_differences(handedness):
    mesh = jnr.shapes.cube()
    camera = jnr.Camera(jnr.LookAt((1.5, 1.2, 2.0), handedness=handedness))
    with jax.enable_x64(True):
        vertices = np.asarray(mesh.vertices, np.float64) + np.random.default_rng(0).normal(0, 0.05, (8, 3))

        @jax.jit
        def image(ambient, ambient_color, intensity, color, direction, vertices):
            lights = (jnr.AmbientLight(ambient, ambient_color), jnr.DirectionalLight(intensity, color, direction))
            return jnr.render(vertices, mesh.faces, camera=camera, lights=lights, image_size=SIZE, gradient=None).rgb

        rng = np.random.default_rng(1)
        check(
            image,
            np.array(0.3),
            rng.uniform(size=3),
            np.array(0.6),
            rng.uniform(size=3),
            np.array([0.5, 0.6, 0.7]),
            vertices,
        )


@pytest.mark.parametrize("color", [0.6, (0.6, 0.3, 0.1)], ids=["white", "coloured"])
@pytest.mark.parametrize("size", [4, 24], ids=["more_corners_than_pixels", "fewer_corners"])
def test_lighting_per_flat_face_equals_lighting_per_pixel(size, color):
    mesh = jnr.shapes.icosphere(1)
    colors = jnp.asarray(np.random.default_rng(0).uniform(size=mesh.vertices.shape), jnp.float32)

    def loss(colors, vertices, direction, shader):
        lights = [jnr.AmbientLight(0.3), jnr.DirectionalLight(0.5, color, direction)]
        rgb = jnr.render(vertices, mesh.faces, colors, lights=lights, shader=shader, image_size=size).rgb
        return jnp.sum(rgb**2), rgb

    # With a shader, lighting is computed per pixel.
    (_, found), grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(colors, mesh.vertices, jnp.ones(3), None)
    (_, expected), expected_grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
        colors, mesh.vertices, jnp.ones(3), jnr.Lambert()
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for grad, reference in zip(grads, expected_grads, strict=True):
        assert float(jnp.abs(reference).max()) > 0.01
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=1e-4 * float(jnp.abs(reference).max()))


def test_lights_are_pytrees_of_their_numbers():
    lights = (jnr.AmbientLight(0.25), jnr.DirectionalLight(0.5, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    assert jax.tree.leaves(lights) == [0.25, 1.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    arrays = jax.tree.map(lambda x: jnp.asarray(x) * 2, lights)
    assert isinstance(arrays[1], jnr.DirectionalLight)
    np.testing.assert_array_equal(arrays[1].direction, [8, 10, 12])


def test_gradient_with_respect_to_lights_has_their_structure():
    mesh = jnr.shapes.cube()
    lights = (jnr.AmbientLight(jnp.array(0.25)), jnr.DirectionalLight(jnp.array(0.5), direction=jnp.array([0.0, 0, 1])))
    lights = jax.tree.map(jnp.asarray, lights)

    def total(lights):
        return jnr.render(mesh.vertices, mesh.faces, lights=lights, image_size=SIZE).rgb[SIZE // 2, SIZE // 2].sum()

    ambient, directional = jax.grad(total)(lights)
    # Three channels; the normal of the cube's front is the light's direction.
    assert ambient.intensity == pytest.approx(3, abs=1e-5)
    assert ambient.color == pytest.approx(3 * 0.25, abs=1e-5)
    assert directional.intensity == pytest.approx(3, abs=1e-5)
    np.testing.assert_allclose(directional.direction, [0, 0, 1.5], atol=1e-5)


def test_vmap_over_lights_equals_a_loop():
    mesh = jnr.shapes.cube()
    directions = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)

    def image(direction):
        lights = (jnr.AmbientLight(0.3), jnr.DirectionalLight(direction=direction))
        return jnr.render(mesh.vertices, mesh.faces, camera=CORNER_CAMERA, lights=lights, image_size=SIZE).rgb

    # float32 sums in another order
    np.testing.assert_allclose(jax.vmap(image)(directions), [image(d) for d in directions], atol=1e-6)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("textures", "error", "message"),
    [
        (np.zeros(8), ValueError, r"textures must be vertex colours .* or a UVTexture, got shape \(8,\)\."),
        (np.zeros((12, 2, 2, 3)), ValueError, r"textures must be vertex .*, got shape \(12, 2, 2, 3\)\."),
        (np.zeros((7, 3)), ValueError, r"textures must have shape \(8, channels\), got \(7, 3\)\."),
        (np.zeros((12, 3)), ValueError, r"textures must have shape \(8, channels\), got \(12, 3\)\."),
        (np.zeros((11, 2, 2, 2, 3)), ValueError, r"textures must have shape \(12, .*\), got \(11, 2, 2, 2, 3\)\."),
        (np.zeros((12, 2, 3, 2, 3)), ValueError, r"textures must have shape \(.*\), got \(12, 2, 3, 2, 3\)\."),
        (np.zeros((12, 2, 2, 3, 3)), ValueError, r"textures must have shape \(.*\), got \(12, 2, 2, 3, 3\)\."),
        (np.zeros((12, 0, 0, 0, 3)), ValueError, r"textures must .*, got .*\(12, 0, 0, 0, 3\)\."),
        (np.zeros((8, 3), complex), TypeError, r"textures must be real numbers, got dtype complex"),
        (np.zeros((8, 3), bool), TypeError, r"textures must be real numbers, got dtype bool\."),
        ("red", TypeError, r"textures must be an array of numbers, got str\."),
    ],
    ids=[
        "rank_1",
        "rank_4",
        "few_colors",
        "face_colors",
        "few_cubes",
        "y_size",
        "z_size",
        "empty",
        "complex",
        "bool",
        "str",
    ],
)
def test_invalid_textures_are_named_in_the_error(textures, error, message):
    mesh = jnr.shapes.cube()
    with pytest.raises(error, match=f"^{message}"):
        jnr.render(mesh.vertices, mesh.faces, textures, image_size=SIZE)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("lights", "error", "message"),
    [
        (
            lambda: (jnr.AmbientLight(0.5, (1.0, 2.0)),),
            ValueError,
            r"lights must have one colour channel or .* 3, got 2\.",
        ),
        (
            lambda: (jnr.DirectionalLight(direction=(0.0, 1.0)),),
            ValueError,
            r"direction must have shape \(3,\), got \(2,\)\.",
        ),
        (
            lambda: (jnr.AmbientLight(0.5, (1.0, 2.0)), jnr.AmbientLight(0.5, (1.0, 1.0, 1.0))),
            ValueError,
            r"(lights|color) must .*, got ",
        ),
        (lambda: (jnr.AmbientLight(np.zeros((2, 2))),), ValueError, r"intensity must have shape \(\), got \(2, 2\)\."),
        (lambda: (jnr.AmbientLight(np.zeros(3)),), ValueError, r"intensity must have shape \(\), got \(3,\)\."),
        (lambda: (jnr.AmbientLight(0.5, np.zeros((1, 3))),), ValueError, r"color must .*, got .*\(1, 3\)\."),
        (lambda: (jnr.AmbientLight("bright"),), TypeError, r"intensity must be an array of numbers, got str\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: (jnr.AmbientLight(0.5, "red"),), TypeError, r"color must be an array of numbers, got str\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
        (lambda: (0.5,), TypeError, r"lights must .*, got float\."),
        (lambda: ("ambient",), TypeError, r"lights must .*, got str\."),
        (lambda: jnr.AmbientLight(0.5), TypeError, r"lights must .*, got AmbientLight\."),
        (lambda: 0.5, TypeError, r"lights must .*, got float\."),
    ],
    ids=[
        "channels",
        "direction",
        "unlike",
        "intensity_rank",
        "intensity_channels",
        "color_rank",
        "intensity",
        "color",
        "number",
        "name",
        "bare",
        "bare_number",
    ],
)
def test_invalid_lights_are_named_in_the_error(lights, error, message):
    mesh = jnr.shapes.cube()
    with pytest.raises(error, match=f"^{message}"):
        jnr.render(mesh.vertices, mesh.faces, lights=lights(), image_size=SIZE)
