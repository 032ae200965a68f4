import collections
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from programs import equations

import jnr

HEIGHT, WIDTH = 20, 28
SIZE = HEIGHT, WIDTH
BALL = jnr.shapes.icosphere(1)
CAMERA = jnr.Camera(jnr.LookAt((1.2, 0.8, 2.2), (0.1, 0.0, 0.0)), jnr.Perspective(50.0))
COLORS = jnp.asarray(np.random.default_rng(0).uniform(size=(len(BALL.vertices), 3)), jnp.float32)

render = functools.partial(jnr.render, camera=CAMERA, image_size=SIZE)
render_silhouette = functools.partial(jnr.render_silhouette, camera=CAMERA, image_size=SIZE)
render_depth = functools.partial(jnr.render_depth, camera=CAMERA, image_size=SIZE)


def padded(vertices, faces):
    """The mesh padded to the vertices and faces of the ball, so that nothing is compiled again for its shape."""
    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces, np.int32)
    unused = np.zeros((len(BALL.vertices) - len(vertices), 3), np.float32)
    padding = np.full((len(BALL.faces) - len(faces), 3), -1, np.int32)
    return jnp.asarray(np.concatenate([vertices, unused])), jnp.asarray(np.concatenate([faces, padding]))


def ndc_centres(height, width):
    x, y = np.meshgrid((2 * np.arange(width) + 1) / width - 1, 1 - (2 * np.arange(height) + 1) / height)
    return x, y


def assert_same_rendering(a, b, atol=1e-6):
    # float32; separate compilations may contract products and sums differently
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=1e-6)


def test_default_call_renders_a_lit_sphere():
    rendering = jnr.render(BALL.vertices, BALL.faces)
    assert rendering.rgb.shape == (256, 256, 3)
    assert rendering.alpha.shape == rendering.depth.shape == (256, 256)
    assert rendering.rgb.dtype == rendering.alpha.dtype == rendering.depth.dtype == jnp.float32
    # From 2.732 the outline of the unit sphere has a radius of 0.68 half heights; flat faces lie inside it.
    assert 0.3 < rendering.alpha.mean() < np.pi / 4 * 0.69**2
    covered = np.asarray(rendering.alpha) == 1
    np.testing.assert_array_equal(rendering.alpha[~covered], 0)
    np.testing.assert_array_equal(rendering.rgb[~covered], 0)
    np.testing.assert_array_equal(rendering.depth[~covered], 100)
    colors = np.asarray(rendering.rgb)[covered]
    assert colors.min() >= 0.4 - 1e-6  # ambient light
    assert colors.max() <= 1 + 1e-4
    assert np.ptp(colors) > 0.3  # shading
    depth = np.asarray(rendering.depth)[covered]
    assert 2.732 - 1 - 1e-5 <= depth.min() < 1.85
    assert depth.max() < 2.732


def test_default_light_comes_from_the_upper_right():
    rgb = np.asarray(jnr.render(BALL.vertices, BALL.faces, image_size=SIZE).rgb[..., 0])
    lit = np.where(rgb > 0, rgb, np.nan)
    assert np.nanmean(lit[: HEIGHT // 2]) > np.nanmean(lit[HEIGHT // 2 :]) + 0.05
    assert np.nanmean(lit[:, WIDTH // 2 :]) > np.nanmean(lit[:, : WIDTH // 2]) + 0.05


@pytest.mark.parametrize(("antialias", "cull"), [(1, None), (1, "back"), (1, "front"), (2, None)])
def test_silhouette_and_depth_equal_those_of_the_full_rendering(antialias, cull):
    options = {"antialias": antialias, "cull": cull}
    _, faces = padded(BALL.vertices, BALL.faces[:60])  # open, so that culling changes the image
    rendering = render(BALL.vertices, faces, COLORS, **options)
    np.testing.assert_array_equal(render_silhouette(BALL.vertices, faces, **options), rendering.alpha)
    np.testing.assert_array_equal(render_depth(BALL.vertices, faces, **options), rendering.depth)
    assert 0 < rendering.alpha.mean() < 1


def test_jit_renders_the_same_image():
    jitted = jax.jit(lambda v, c, camera: jnr.render(v, BALL.faces, c, camera=camera, image_size=SIZE))
    assert_same_rendering(jitted(BALL.vertices, COLORS, CAMERA), render(BALL.vertices, BALL.faces, COLORS))


@pytest.mark.parametrize("antialias", [2, 3])
def test_antialiased_image_is_the_mean_of_a_larger_one(antialias):
    background = jnp.asarray(np.random.default_rng(1).uniform(size=(*SIZE, 3)), jnp.float32)
    larger = background.repeat(antialias, axis=0).repeat(antialias, axis=1)
    big = render(
        BALL.vertices,
        BALL.faces,
        COLORS,
        image_size=(HEIGHT * antialias, WIDTH * antialias),
        background=larger,
    )
    rendering = render(BALL.vertices, BALL.faces, COLORS, antialias=antialias, background=background)
    assert np.any((rendering.alpha > 0) & (rendering.alpha < 1))
    for name in ("rgb", "alpha", "depth", "normals", "attributes"):
        image, big_image = getattr(rendering, name), getattr(big, name)
        blocks = np.asarray(big_image, np.float64).reshape(HEIGHT, antialias, WIDTH, antialias, -1)
        expected = blocks.mean(axis=(1, 3)).reshape(image.shape)
        # float32 means of up to nine numbers up to 100
        np.testing.assert_allclose(image, expected, rtol=1e-6, atol=1e-6)


def test_gradient_of_antialiased_image_equals_that_of_the_mean_of_a_larger_one():
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(*SIZE, 3)), jnp.float32)

    def by_antialias(vertices):
        return jnp.sum(weights * render(vertices, BALL.faces, COLORS, antialias=2).rgb)

    def by_mean(vertices):
        rgb = render(vertices, BALL.faces, COLORS, image_size=(HEIGHT * 2, WIDTH * 2)).rgb
        return jnp.sum(weights * rgb.reshape(HEIGHT, 2, WIDTH, 2, 3).mean(axis=(1, 3)))

    one, other = jax.grad(by_antialias)(BALL.vertices), jax.grad(by_mean)(BALL.vertices)
    assert np.abs(one).max() > 0.1
    # float32 sums in another order
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "background",
    [0.25, 1, np.float32(0.5), jnp.array([0.7]), (0.1, 0.2, 0.3), np.random.default_rng(3).uniform(size=(*SIZE, 3))],
    ids=["number", "int", "numpy_number", "one_channel", "color", "image"],
)
def test_background_shows_where_there_is_no_mesh(background):
    rendering = render(BALL.vertices, BALL.faces, COLORS, background=background)
    black = render(BALL.vertices, BALL.faces, COLORS)
    empty = np.asarray(rendering.alpha) == 0
    expected = np.broadcast_to(np.asarray(background, np.float32), (*SIZE, 3))
    np.testing.assert_array_equal(rendering.rgb[empty], expected[empty])
    np.testing.assert_array_equal(rendering.rgb[~empty], black.rgb[~empty])
    np.testing.assert_array_equal(rendering.alpha, black.alpha)


@pytest.mark.parametrize("antialias", [1, 2])
def test_without_a_background_partly_covered_pixels_keep_the_colour_of_the_mesh(antialias):
    colors = jnp.broadcast_to(jnp.array([0.2, 0.4, 0.6]), COLORS.shape)
    rendering = render(BALL.vertices, BALL.faces, colors, lights=(), background=None, antialias=antialias)
    alpha = render_silhouette(BALL.vertices, BALL.faces, antialias=antialias)
    assert np.any((alpha > 0) & (alpha < 1)) == (antialias > 1)
    expected = np.where(np.asarray(alpha)[..., None] > 0, [0.2, 0.4, 0.6], 0)
    np.testing.assert_allclose(rendering.rgba, np.concatenate([expected, alpha[..., None]], axis=-1), atol=1e-6)


def test_without_lights_normals_do_not_change_the_colour():
    flat, smooth = (render(BALL.vertices, BALL.faces, COLORS, lights=(), normals=n) for n in ("flat", "smooth"))
    np.testing.assert_array_equal(smooth.rgb, flat.rgb)
    assert np.abs(smooth.normals - flat.normals).max() > 0.01


def test_gradient_with_respect_to_the_background_is_the_uncovered_fraction_of_each_pixel():
    image = jnp.zeros((*SIZE, 3))
    alpha = render_silhouette(BALL.vertices, BALL.faces, antialias=2)

    def total(background):
        rendering = render(BALL.vertices, BALL.faces, COLORS, antialias=2, background=background, gradient=None)
        return jnp.sum(rendering.rgb)

    expected = np.repeat(1 - np.asarray(alpha)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(jax.grad(total)(image), expected)
    # a float32 sum of 560 quarters is exact
    assert jax.grad(total)(jnp.array(0.0)) == expected.sum()


def test_pixel_is_covered_where_its_ray_hits_the_triangle_and_row_0_is_the_top():
    # Seen from (0, 0, 3), a position in the plane z = 0 is NDC times half the height of the view there.
    triangle = np.array([[-0.9, 0.1, 0], [0.3, 0.9, 0], [-0.2, 0.95, 0]])
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)))
    alpha = jnr.render_silhouette(*padded(triangle, [[0, 1, 2]]), camera=camera, image_size=SIZE)
    x, y = ndc_centres(*SIZE)
    half = 3 * np.tan(np.pi / 6)
    points = np.stack([x * half * WIDTH / HEIGHT, y * half], axis=-1)
    sides = []
    for k in range(3):
        a, b = triangle[k, :2], triangle[(k + 1) % 3, :2]
        offset = points - a
        sides.append((b - a)[0] * offset[..., 1] - (b - a)[1] * offset[..., 0])
    inside = np.all(np.array(sides) > 0, axis=0)
    assert inside.sum() > 5
    np.testing.assert_array_equal(alpha, inside)
    assert not np.any(np.asarray(alpha)[HEIGHT // 2 :])  # all of it is in the upper half


def test_dtypes_of_faces_and_vertices_do_not_change_the_image():
    expected = render(BALL.vertices, BALL.faces)
    for dtype in (np.int8, np.uint16, np.int64):
        faces = np.asarray(BALL.faces).astype(dtype)
        assert_same_rendering(render(np.asarray(BALL.vertices, np.float64), faces), expected)
    half = render(BALL.vertices.astype(jnp.bfloat16), BALL.faces)
    rounded = render(BALL.vertices.astype(jnp.bfloat16).astype(jnp.float32), BALL.faces)
    assert_same_rendering(half, rounded)
    assert half.rgb.dtype == jnp.float32


@pytest.mark.parametrize("channels", [1, 5])
def test_textures_may_have_any_number_of_channels(channels):
    colors = jnp.tile(COLORS[:, :1], channels)
    rendering = render(BALL.vertices, BALL.faces, colors, background=0.5)
    three = render(BALL.vertices, BALL.faces, jnp.tile(COLORS[:, :1], 3), background=0.5)
    np.testing.assert_array_equal(rendering.rgb, np.tile(three.rgb[..., :1], channels))


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_image_does_not_depend_on_the_unit_of_length(scale):
    rendering = render(BALL.vertices, BALL.faces, COLORS)
    projection = jnr.Perspective(50.0, 0.1 * scale, 100.0 * scale)
    eye, at = (scale * np.asarray(v) for v in (CAMERA.pose.eye, CAMERA.pose.at))
    scaled = render(
        BALL.vertices * np.float32(scale), BALL.faces, COLORS, camera=jnr.Camera(jnr.LookAt(eye, at), projection)
    )
    np.testing.assert_array_equal(scaled.alpha, rendering.alpha)
    # float32
    np.testing.assert_allclose(scaled.depth, rendering.depth * np.float32(scale), rtol=1e-5)
    np.testing.assert_allclose(scaled.rgb, rendering.rgb, atol=2e-5)


BOTH = {
    "perspective": jnr.Perspective(50.0, far=30.0),
    "orthographic": jnr.Orthographic(1.3, far=30.0),
}


def rays(camera, height, width):
    """Origin and direction of each pixel's ray, from the definition; the direction has unit depth."""
    x, y = ndc_centres(height, width)
    inverse = np.linalg.inv(np.asarray(camera.pose.camera_from_world(), np.float64))
    ones, zeros = np.ones_like(x), np.zeros_like(x)
    if isinstance(camera.projection, jnr.Perspective):
        half = np.tan(np.deg2rad(camera.projection.fov) / 2)
        start, along = np.stack([zeros] * 3, -1), np.stack([x * half * width / height, y * half, -ones], -1)
    else:
        half = camera.projection.half_height
        start, along = np.stack([x * half * width / height, y * half, zeros], -1), np.stack([zeros, zeros, -ones], -1)
    return start @ inverse[:3, :3].T + inverse[:3, 3], along @ inverse[:3, :3].T


@pytest.mark.parametrize("handedness", ["right", "left"])
@pytest.mark.parametrize("projection", BOTH.values(), ids=BOTH)
def test_depth_of_a_plane_is_the_analytic_distance(projection, handedness):
    plane = jnr.shapes.plane()
    camera = jnr.Camera(jnr.LookAt((1.0, 0.8, 2.0), (0.1, 0.1, 0.0), handedness=handedness), projection)
    depth = np.asarray(jnr.render_depth(*padded(plane.vertices * 3, plane.faces), camera=camera, image_size=SIZE))
    start, along = rays(camera, *SIZE)
    if handedness == "left":  # the inverse of a mirrored pose mirrors x too, so the rays hold for both
        assert np.linalg.det(np.asarray(camera.pose.camera_from_world())[:3, :3]) < 0
    distance = -start[..., 2] / along[..., 2]
    hit = start + distance[..., None] * along
    edge = 1.5 - np.abs(hit[..., :2]).max(axis=-1)
    assert 0.2 < np.mean(edge > 1e-4) < 0.95
    # float32 depths up to 4
    np.testing.assert_allclose(depth[edge > 1e-4], distance[edge > 1e-4], rtol=5e-6)
    np.testing.assert_array_equal(depth[edge < -1e-4], 30)


@pytest.mark.parametrize("projection", BOTH.values(), ids=BOTH)
def test_depth_of_a_sphere_is_the_analytic_distance(projection):
    ball = jnr.shapes.icosphere(3)
    camera = jnr.Camera(jnr.LookAt((1.2, 0.8, 2.2), (0.1, 0.0, 0.0)), projection)
    depth = np.asarray(jnr.render_depth(ball.vertices, ball.faces, camera=camera, image_size=SIZE))
    start, along = rays(camera, *SIZE)
    a, b, c = (np.sum(p * q, axis=-1) for p, q in ((along, along), (start, along), (start, start)))
    root = b**2 - a * (c - 1)
    nearest = (-b - np.sqrt(np.maximum(root, 0))) / a
    # Edges of up to 0.165 lie up to (0.165 / 2)^2 / 2 = 0.0034 below the sphere, faces up to 0.0046. Along a grazing
    # ray the distance is larger, so pixels near the outline are excluded.
    inner = root > 0.2 * root.max()
    assert inner.sum() > 100
    below = depth[inner] - nearest[inner]
    assert below.min() > -1e-5
    assert below.max() < 0.012
    assert below.mean() < 0.005
    np.testing.assert_array_equal(depth[root < -0.05 * root.max()], 30)


def test_depth_of_a_pixel_with_background_is_the_mean_of_its_samples():
    depth, alpha = (f(BALL.vertices, BALL.faces, antialias=2) for f in (render_depth, render_silhouette))
    mixed = np.asarray((alpha > 0) & (alpha < 1))
    assert mixed.any()
    samples = np.asarray(render_depth(BALL.vertices, BALL.faces, image_size=(2 * HEIGHT, 2 * WIDTH)))
    np.testing.assert_allclose(depth, samples.reshape(HEIGHT, 2, WIDTH, 2).mean(axis=(1, 3)), rtol=1e-6)
    assert np.all(np.asarray(depth)[mixed] > 20)


@pytest.mark.parametrize("handedness", ["right", "left"])
def test_culling_back_faces_of_a_closed_mesh_changes_nothing_and_culling_front_faces_shows_its_far_side(handedness):
    sides = {"right": ("back", "front"), "left": ("front", "back")}  # mirroring reverses the winding of faces
    hide_far, hide_near = sides[handedness]
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0), handedness=handedness), jnr.Orthographic(1.2))
    plain, far_hidden, near_hidden = (
        jnr.render_depth(BALL.vertices, BALL.faces, camera=camera, image_size=SIZE, cull=cull)  # pyright: ignore[reportArgumentType]
        for cull in (None, hide_far, hide_near)
    )
    np.testing.assert_array_equal(far_hidden, plain)
    covered = np.asarray(plain) < 100
    np.testing.assert_array_equal(np.asarray(near_hidden) < 100, covered)
    # This icosphere is symmetric about the plane z = 0, at depth 3, so the mean of near and far depths is 3.
    np.testing.assert_allclose((plain + near_hidden)[covered], 6, atol=1e-5)  # float32


def test_culled_faces_get_no_gradient():
    # The second, nearer triangle faces away.
    corners = [[-1.0, -1, 0], [1, -1, 0], [0, 1, 0], [-1, -1, 1], [1, -1, 1], [0, 1, 1]]
    vertices, faces = padded(corners, [[0, 1, 2], [3, 5, 4]])

    def total(v):
        rendering = jnr.render(v, faces, image_size=SIZE, cull="back")
        return jnp.sum(rendering.alpha * jnp.linspace(-1, 1, WIDTH)) + jnp.sum(rendering.depth)

    gradient = jax.grad(total)(vertices)
    assert np.abs(gradient[:3]).max() > 0
    np.testing.assert_array_equal(gradient[3:], 0)


def check(f, *arguments):
    """Compares both modes with float64 central differences of step 1e-6, accurate to about 1e-8 for values up to 10."""
    check_grads(lambda *a: f(*map(jnp.asarray, a)), arguments, 1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6, eps=1e-6)


@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
def test_derivatives_with_respect_to_every_argument_equal_finite_differences(orthographic):
    """Without a visibility gradient, the image is smooth in every argument while no pixel changes its face."""

    def image(vertices, colors, eye, at, extent, strength, direction):
        projection = jnr.Orthographic(extent, far=10.0) if orthographic else jnr.Perspective(extent * 40, far=10.0)
        rendering = jnr.render(
            vertices,
            BALL.faces,
            colors,
            camera=jnr.Camera(jnr.LookAt(eye, at), projection),
            lights=(jnr.AmbientLight(0.3), jnr.DirectionalLight(strength, direction=direction)),
            image_size=12,
            gradient=None,
        )
        return rendering.rgb, rendering.depth

    with jax.enable_x64(True):
        rng = np.random.default_rng(5)
        vertices = np.asarray(BALL.vertices, np.float64) + rng.normal(0, 0.05, BALL.vertices.shape)
        colors = rng.uniform(size=(len(vertices), 3))
        eye, at, extent = np.array([1.2, 0.8, 2.2]), np.array([0.1, 0.0, 0.0]), np.array(1.3)
        strength, direction = np.array(0.7), np.array([0.5, 0.6, 0.7])
        arguments = vertices, colors, eye, at, extent, strength, direction
        assert 0.2 < np.mean(np.asarray(image(*map(jnp.asarray, arguments))[1]) < 10) < 0.9
        check(image, *arguments)


def test_gradient_of_background_depth_reaches_far():
    far = jnp.array(10.0)

    def total(far):
        camera = jnr.Camera(CAMERA.pose, jnr.Perspective(50.0, far=far))
        return jnp.sum(render_depth(BALL.vertices, BALL.faces, camera=camera))

    empty = np.sum(np.asarray(render_silhouette(BALL.vertices, BALL.faces)) == 0)
    assert float(jax.grad(total)(far)) == empty


def test_silhouette_gradient_moves_a_vertex_towards_pixels_that_should_be_covered():
    vertices, faces = padded([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.0]], [[0, 1, 2]])
    target = jnp.zeros(SIZE).at[: HEIGHT // 4].set(1.0)  # the top rows, far from the triangle

    def loss(v):
        return -jnp.sum(target * jnr.render_silhouette(v, faces, image_size=SIZE))

    gradient = jax.grad(loss)(vertices)
    assert gradient[2, 1] < 0  # descent moves the apex upwards
    # Descent does not move the base downwards.
    assert np.all(gradient[:2, 1] <= 0)


def test_silhouette_without_a_visibility_gradient_has_zero_gradient():
    gradient = jax.grad(lambda v: render_silhouette(v, BALL.faces, gradient=None).sum())(BALL.vertices)
    np.testing.assert_array_equal(gradient, 0)


def test_interior_adds_the_derivative_through_the_barycentrics():
    weights = jnp.asarray(np.random.default_rng(6).normal(size=(*SIZE, 4)), jnp.float32)

    def gradient(**options):
        def loss(vertices):
            # Without lights, because shading depends on the vertices with every option.
            rendering = render(vertices, BALL.faces, COLORS, lights=(), **options)
            return jnp.sum(weights[..., :3] * rendering.rgb) + jnp.sum(weights[..., 3] * rendering.alpha)

        return jax.grad(loss)(BALL.vertices)

    sweep, inside, both = gradient(), gradient(gradient=None), gradient(interior=True)
    assert np.abs(sweep).max() > 0.1
    assert np.abs(inside).max() > 0.1
    # float32 sums of a few hundred terms
    np.testing.assert_allclose(both, sweep + inside, rtol=1e-4, atol=1e-4)
    for name in ("opendr", "boundary"):
        np.testing.assert_array_equal(gradient(gradient=name, interior=True), gradient(gradient=name))


def test_visibility_gradient_reaches_the_camera():
    def loss(pose):
        alpha = render_silhouette(BALL.vertices, BALL.faces, camera=jnr.Camera(pose, CAMERA.projection))
        return jnp.sum(alpha * jnp.linspace(-1, 1, WIDTH))

    gradient = jax.grad(loss)(jax.tree.map(jnp.asarray, CAMERA.pose))
    for leaf in (gradient.eye, gradient.at):
        assert np.all(np.isfinite(leaf))
        assert np.abs(leaf).max() > 0.1


def test_forward_mode_through_visibility_is_an_error_with_the_reason():
    tangent = jnp.ones_like(BALL.vertices)
    for function in (render, render_silhouette):
        with pytest.raises(TypeError, match=r"forward-mode .*not linear in the cotangent"):
            jax.jvp(lambda v, function=function: function(v, BALL.faces), (BALL.vertices,), (tangent,))


def compiled_flops(f):
    return jax.jit(f).lower(BALL.vertices, COLORS).compile().cost_analysis()["flops"]


def test_unused_outputs_cost_nothing_under_jit():
    everything = compiled_flops(lambda v, c: render(v, BALL.faces, c))
    alpha = compiled_flops(lambda v, c: render(v, BALL.faces, c).alpha)
    depth = compiled_flops(lambda v, c: render(v, BALL.faces, c).depth)
    assert alpha == pytest.approx(compiled_flops(lambda v, c: render_silhouette(v, BALL.faces)), rel=0.02)
    assert depth == pytest.approx(compiled_flops(lambda v, c: render_depth(v, BALL.faces)), rel=0.02)
    assert alpha < depth < everything


def test_edge_sweep_of_one_output_receives_only_its_channels():
    def channels(pick):
        jaxpr = jax.make_jaxpr(jax.grad(lambda v: sum(jnp.sum(o) for o in pick(render(v, BALL.faces, COLORS)))))
        found = [e for e in equations(jaxpr(BALL.vertices).jaxpr) if e.primitive.name == "jnr_edge_sweep_bwd"]
        return [e.invars[0].aval.shape[-1] for e in found]

    assert channels(lambda rendering: [rendering.alpha]) == [1]
    assert channels(lambda rendering: [rendering.rgb]) == [3]
    assert channels(lambda rendering: [rendering.rgb, rendering.alpha]) == [4]
    assert channels(lambda rendering: [rendering.depth]) == []


def awkward_mesh(finite):
    """A small ball with colours and faces that CAMERA must not see, and the indices of the ball's faces."""
    ball = jnr.shapes.icosphere(0)
    eye, at = np.array(CAMERA.pose.eye), np.array(CAMERA.pose.at)
    forward = (at - eye) / np.linalg.norm(at - eye)
    side = np.cross(forward, [0, 1, 0])
    rng = np.random.default_rng(8)
    behind = eye - 2 * forward + rng.normal(0, 0.5, (3, 3))
    at_eye = eye + 0.05 * forward + 0.01 * rng.normal(size=(3, 3))  # nearer than near
    beyond = eye + 150 * forward + 30 * rng.normal(size=(3, 3))  # farther than far
    beside = eye + 2 * forward + 9 * side + rng.normal(0, 0.5, (3, 3))
    crossing_beside = np.stack([eye - forward - 9 * side, eye + forward - 9 * side, eye + forward - 12 * side])
    line = np.stack([at + 0.9 * side, at + 1.0 * side, at + 1.1 * side])
    in_camera_plane = np.stack([eye, eye + side, eye - side + np.array([0, 1, 0])])
    far_away = 1e6 * behind
    broken = np.zeros((3, 3)) if finite else np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf]])
    extra = [behind, at_eye, beyond, beside, crossing_beside, line, in_camera_plane, far_away, broken]
    faces = [[12 + 3 * k, 13 + 3 * k, 14 + 3 * k] for k in range(8)]
    faces += [[0, 0, 1], [2, 2, 2], [5, 9, 5], [-1, -1, -1], [0, 1, -1], [-1, 3, 7]]
    # Faces with non-finite corners, or without area.
    faces += [[36 + k, 3, 3 if finite else 7] for k in range(3)] + [[36, 37, 38]]
    vertices, faces = padded(np.concatenate([ball.vertices, *extra]), np.concatenate([faces, ball.faces]))
    colors = COLORS.at[12:].set(0.5 if finite else jnp.nan)
    of_ball = np.all((faces >= 0) & (faces < 12), axis=1) & (np.ptp(np.asarray(faces), axis=1) > 0)
    return vertices, faces, colors, np.flatnonzero(of_ball)


@pytest.mark.parametrize("finite", [True, False], ids=["finite", "nan_and_inf"])
def test_invisible_faces_change_neither_image_nor_gradient(finite):
    vertices, faces, colors, ball = awkward_mesh(finite)
    alone = jnp.full_like(faces, -1).at[ball].set(faces[ball])
    weights = jnp.asarray(np.random.default_rng(9).normal(size=SIZE), jnp.float32)

    def loss(vertices, colors, faces, options):
        rendering = render(vertices, faces, colors, **options)
        return jnp.sum(weights * (rendering.rgb.sum(axis=-1) + rendering.alpha + rendering.depth)), rendering

    # Outside jit, debug_nans checks every operation and not only the results.
    with jax.debug_nans(finite):
        for options in ({"gradient": None}, {"interior": True}):
            gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
            gradients, rendering = gradient(vertices, colors, faces, options)
            valid = vertices.at[12:].set(0), colors.at[12:].set(0)
            expected_gradients, expected = gradient(*valid, alone, options)
            assert 0.1 < rendering.alpha.mean() < 0.9
            assert_same_rendering(rendering, expected)
            for found, reference in zip(gradients, expected_gradients, strict=True):
                assert np.abs(reference).max() > 0.1
                np.testing.assert_array_equal(found[12:], 0)
                # float32 sums of a few hundred terms, in another order
                np.testing.assert_allclose(found[:12], reference[:12], rtol=1e-4, atol=1e-4)


def test_huge_coordinates_give_no_nan():
    # Cubes of these coordinates overflow float32.
    corners = np.random.default_rng(11).normal(0, 1e15, (12, 3))
    triangle = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.5, 0]]
    faces = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [0, 5, 14], [7, 12, 13], [12, 13, 14]]
    vertices, faces = padded(np.concatenate([corners, triangle]), faces)

    def loss(v):
        rendering = render(v, faces)
        return jnp.sum(rendering.rgb) + jnp.sum(rendering.alpha) + jnp.sum(rendering.depth)

    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(loss)(vertices)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_camera_gradient_with_invisible_faces_is_finite():
    vertices, faces, colors, _ = awkward_mesh(finite=False)

    def loss(camera):
        rendering = render(vertices, faces, colors, camera=camera)
        return jnp.sum(rendering.rgb) + jnp.sum(rendering.alpha) + jnp.sum(rendering.depth)

    for leaf in jax.tree.leaves(jax.grad(loss)(jax.tree.map(jnp.asarray, CAMERA))):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("reaches_behind", [False, True], ids=["in_front", "reaches_behind"])
def test_part_of_a_face_nearer_than_near_or_beyond_far_is_not_rendered(reaches_behind):
    # A floor 1 below the camera: a pixel's ray hits it at a depth of 1 over the slope of the ray.
    back = 5.0 if reaches_behind else -0.3
    floor = [[-40, -1, back], [40, -1, back], [40, -1, -30], [-40, -1, -30]]
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 0.0)), jnr.Perspective(120.0, near=1.0, far=5.0))
    rendering = render(*padded(floor, [[0, 1, 2], [0, 2, 3]]), camera=camera)
    _, y = ndc_centres(*SIZE)
    distance = -1 / (y * np.tan(np.deg2rad(60)))
    expected = (distance > 1) & (distance < 5)
    assert 0 < expected.sum() < (y < 0).sum()
    np.testing.assert_array_equal(rendering.alpha, expected)
    np.testing.assert_allclose(rendering.depth, np.where(expected, distance, 5), rtol=1e-5)  # float32


def brute_force(camera, vertices, faces):
    """Face and depth per pixel, and whether they are unambiguous; solves a float64 system per pixel and face."""
    matrix = np.asarray(camera.clip_from_world(WIDTH / HEIGHT), np.float64)
    clip = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1) @ matrix.T
    ndc_x, ndc_y = ndc_centres(*SIZE)
    seen, depth, clear = np.full(SIZE, -1), np.full(SIZE, 100.0), np.ones(SIZE, bool)
    nearest = np.full(SIZE, np.inf)
    for number, face in enumerate(faces):
        x, y, z, w = clip[face].T
        for pixel in np.ndindex(SIZE):
            system = np.stack([x - ndc_x[pixel] * w, y - ndc_y[pixel] * w, np.ones(3)])
            weights = np.linalg.solve(system, [0, 0, 1])
            at_w, at_z = weights @ w, weights @ z
            margins = [*weights, at_w, at_z + at_w, at_w - at_z]
            if min(margins) > -1e-3:
                clear[pixel] &= min(margins) > 1e-3
            if min(margins) >= 0:
                clear[pixel] &= abs(at_z / at_w - nearest[pixel]) > 1e-5 or not np.isfinite(nearest[pixel])
                if at_z / at_w < nearest[pixel]:
                    nearest[pixel], seen[pixel], depth[pixel] = at_z / at_w, number, at_w
    return seen, depth, clear


@pytest.mark.parametrize("seed", range(6))
def test_faces_across_the_near_plane_are_rendered_where_rays_hit_them(seed):
    rng = np.random.default_rng(seed)
    # The camera lies within the cloud of corners, so many faces reach behind it.
    vertices = rng.normal(0, 1.5, (15, 3)).astype(np.float32)
    faces = np.arange(15).reshape(5, 3)
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 1.0)), jnr.Perspective(75.0, near=0.3))
    distance = np.asarray(camera.depth(jnp.asarray(vertices))).reshape(5, 3)
    assert np.any((distance.min(axis=1) < 0.3) & (distance.max(axis=1) > 0.3))
    seen, depth, clear = brute_force(camera, vertices.astype(np.float64), faces)
    assert clear.mean() > 0.8
    colors = jnp.repeat(jnp.eye(14, 5), 3, axis=0)  # one channel per face
    rendering = jnr.render(*padded(vertices, faces), colors, camera=camera, lights=(), image_size=SIZE)
    np.testing.assert_array_equal(np.asarray(rendering.alpha)[clear], seen[clear] >= 0)
    found = np.where(np.asarray(rendering.alpha) > 0, np.argmax(np.asarray(rendering.rgb), axis=-1), -1)
    np.testing.assert_array_equal(found[clear], seen[clear])
    # float32 planes of faces seen at grazing angles
    np.testing.assert_allclose(np.asarray(rendering.depth)[clear], depth[clear], rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_faces_across_the_near_plane_have_finite_gradients(seed):
    rng = np.random.default_rng(seed)
    vertices, faces = padded(rng.normal(0, 1.5, (15, 3)), np.arange(15).reshape(5, 3))
    camera = jax.tree.map(jnp.asarray, jnr.Camera(jnr.LookAt((0.0, 0.0, 1.0)), jnr.Perspective(75.0, near=0.3)))

    def loss(vertices, camera):
        rendering = jnr.render(vertices, faces, camera=camera, image_size=SIZE)
        return jnp.sum(rendering.rgb * 0.3 - rendering.alpha[..., None]) + jnp.sum(rendering.depth)

    gradients = jax.grad(loss, argnums=(0, 1))(vertices, camera)
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))
    assert np.abs(gradients[0]).max() > 0


def test_camera_inside_a_mesh_sees_its_inner_side_everywhere():
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 0.2), (0.3, 0.2, 0.0)), jnr.Perspective(100.0, near=0.01))
    rendering = render(BALL.vertices, BALL.faces, COLORS, camera=camera)
    np.testing.assert_array_equal(rendering.alpha, 1)
    assert rendering.depth.max() < 1.25
    assert rendering.rgb.min() > 0


def test_camera_that_looks_away_renders_the_background():
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 3.0), (0.0, 0.0, 1.0)))

    def loss(v):
        rendering = render(v, BALL.faces, COLORS, camera=camera, background=0.3)
        return jnp.sum(rendering.rgb) + jnp.sum(rendering.alpha) + jnp.sum(rendering.depth), rendering

    gradient, rendering = jax.grad(loss, has_aux=True)(BALL.vertices)
    np.testing.assert_array_equal(rendering.rgb, np.float32(0.3))
    np.testing.assert_array_equal(rendering.alpha, 0)
    np.testing.assert_array_equal(rendering.depth, 100)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("num_vertices", "num_faces"), [(0, 0), (5, 0), (0, 3)], ids=["empty", "no_faces", "only_padding"]
)
def test_empty_mesh_renders_the_background(num_vertices, num_faces):
    vertices = jnp.ones((num_vertices, 3))
    faces = jnp.full((num_faces, 3), -1, jnp.int32)
    image = jnr.UVTexture(jnp.ones((2, 2, 3)), jnp.ones((num_vertices, 2)))
    for textures in (None, jnp.ones((num_vertices, 3)), jnp.ones((num_faces, 2, 2, 2, 3)), image):

        def loss(v, textures=textures):
            rendering = render(v, faces, textures, background=0.3)
            return jnp.sum(rendering.rgb) + jnp.sum(rendering.alpha) + jnp.sum(rendering.depth), rendering

        gradient, rendering = jax.grad(loss, has_aux=True)(vertices)
        np.testing.assert_array_equal(rendering.rgb, np.full((*SIZE, 3), np.float32(0.3)))
        np.testing.assert_array_equal(rendering.alpha, np.zeros(SIZE))
        np.testing.assert_array_equal(rendering.depth, np.full(SIZE, 100))
        np.testing.assert_array_equal(gradient, jnp.zeros_like(vertices))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_image_of_one_row_or_column_is_rendered_and_has_a_finite_gradient(size):
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 3.0)), jnr.Orthographic(1.5))
    weights = jnp.linspace(-1, 2, np.prod(size)).reshape(size)

    def loss(v):
        alpha = jnr.render_silhouette(v, BALL.faces, camera=camera, image_size=size)
        return jnp.sum(weights * alpha), alpha

    gradient, alpha = jax.grad(loss, has_aux=True)(BALL.vertices)
    assert alpha.shape == size
    # The view is 3 high and 3 times the aspect ratio wide.
    x, y = ndc_centres(*size)
    x, y = x * 1.5 * size[1] / size[0], y * 1.5
    expected = x**2 + y**2 < 0.85  # inside the outline of the flat faces
    beyond = x**2 + y**2 > 1
    np.testing.assert_array_equal(alpha[expected], 1)
    np.testing.assert_array_equal(alpha[beyond], 0)
    assert np.all(np.isfinite(gradient))


NAN, INF = float("nan"), float("inf")
# Id, replaced arguments, error and message. All three functions take these arguments.
INVALID_FOR_ALL = [
    ("vertices_rank", {"vertices": np.zeros(3)}, ValueError, r"vertices must have shape \(vertices, 3\), got \(3,\)\."),
    ("vertices_batch", {"vertices": np.zeros((2, 42, 3))}, ValueError, r"vertices .*, got \(2, 42, 3\)\."),
    ("vertices_flat", {"vertices": np.zeros((42, 2))}, ValueError, r"vertices .*, got \(42, 2\)\."),
    ("vertices_clip", {"vertices": np.zeros((42, 4))}, ValueError, r"vertices .*, got \(42, 4\)\."),
    ("vertices_complex", {"vertices": np.zeros((42, 3), complex)}, TypeError, r"vertices .* got dtype complex"),
    ("vertices_bool", {"vertices": np.zeros((42, 3), bool)}, TypeError, r"vertices .* got dtype bool\."),
    ("vertices_none", {"vertices": None}, TypeError, r"vertices must be an array of numbers, got NoneType\."),
    ("vertices_name", {"vertices": "ball"}, TypeError, r"vertices must be an array of numbers, got str\."),
    ("vertices_ragged", {"vertices": [[1.0, 2.0], [3.0]]}, TypeError, r"vertices must be an array .*, got list\."),
    ("faces_rank", {"faces": np.zeros(3, int)}, ValueError, r"faces must have shape \(faces, 3\), got \(3,\)\."),
    ("faces_batch", {"faces": np.zeros((2, 80, 3), int)}, ValueError, r"faces .*, got \(2, 80, 3\)\."),
    ("faces_quads", {"faces": np.zeros((80, 4), int)}, ValueError, r"faces .*, got \(80, 4\)\."),
    (
        "faces_float",
        {"faces": np.zeros((80, 3), np.float32)},
        TypeError,
        r"faces must be integers, got dtype float32\.",
    ),
    ("faces_bool", {"faces": np.zeros((80, 3), bool)}, TypeError, r"faces must be integers, got dtype bool\."),
    ("faces_none", {"faces": None}, TypeError, r"faces must be given: write render\(vertices, faces\)"),
    ("faces_high", {"faces": np.array([[0, 1, 42]])}, ValueError, r"faces .* from 0 to 41 .*, got 0 to 42\."),
    ("faces_low", {"faces": np.array([[0, 1, -2]])}, ValueError, r"faces .* from 0 to 41 .*, got -2 to 1\."),
    ("faces_wrap", {"faces": np.array([[0, 1, 2**32 + 2]])}, (TypeError, ValueError), r"faces .*"),
    (
        "faces_without_vertices",
        {"vertices": np.zeros((0, 3)), "faces": np.zeros((1, 3), int)},
        ValueError,
        r"faces .* 0 to 0",
    ),
    ("size_zero", {"image_size": 0}, ValueError, r"image_size must be at least 1 per axis, got 0\."),
    ("size_negative", {"image_size": (8, -1)}, ValueError, r"image_size must be at least 1 per axis, got \(8, -1\)\."),
    ("size_float", {"image_size": 8.0}, TypeError, r"image_size must be an int or a .* pair of ints, got 8\.0\."),
    ("size_three", {"image_size": (8, 8, 3)}, ValueError, r"image_size must be .*, got \(8, 8, 3\)\."),
    ("size_one", {"image_size": (8,)}, ValueError, r"image_size must be .*, got \(8,\)\."),
    ("size_none", {"image_size": None}, TypeError, r"image_size must be .*, got None\."),
    ("size_name", {"image_size": "256"}, TypeError, r"image_size must be .*, got '256'\."),
    ("size_huge", {"image_size": 2**16}, ValueError, r"image_size must be at most 2\*\*30 pixels .*65536 x 65536\."),
    ("antialias_zero", {"antialias": 0}, ValueError, r"antialias must be at least 1, got 0\."),
    ("antialias_float", {"antialias": 2.0}, TypeError, r"antialias must be an int, got 2\.0\."),
    ("antialias_bool", {"antialias": True}, TypeError, r"antialias must be an int, got True\."),
    ("image_size_bool", {"image_size": True}, TypeError, r"image_size must be an int .* got True\."),
    ("antialias_huge", {"antialias": 2**15}, ValueError, r"(antialias|image_size) .*, got .*\."),
    ("cull", {"cull": "both"}, ValueError, r"cull must be one of None, 'back', 'front', got 'both'\."),
    ("cull_true", {"cull": True}, ValueError, r"cull must be one of None, 'back', 'front', got True\."),
    ("backend", {"backend": "cuda"}, ValueError, r"backend must be None or one of .*, got 'cuda'\."),
    ("backend_number", {"backend": 3}, ValueError, r"backend must be None or one of .*, got 3\."),
    ("camera_name", {"camera": "front"}, TypeError, r"camera must be a jnr\.Camera or None, got str\."),
    ("camera_pose", {"camera": jnr.LookAt((0.0, 0.0, 3.0))}, TypeError, r"camera must be .*, got LookAt\."),
    ("camera_matrix", {"camera": np.eye(4)}, TypeError, r"camera must be .*, got ndarray\."),
    (
        "camera_shape",
        {"camera": jnr.Camera(jnr.LookAt((0.0, 1.0)))},
        ValueError,
        r"eye must have shape \(3,\), got \(2,\)",
    ),
]
INVALID_FOR_SWEEP = [
    ("gradient", {"gradient": "soft"}, ValueError, r"gradient must be .*'boundary' or a function, got 'soft'\."),
    ("gradient_true", {"gradient": True}, ValueError, r"gradient must be .*'boundary' or a function, got True\."),
    ("eps_negative", {"eps": -1e-3}, ValueError, r"eps must be a finite number that is not negative, got -0\.001\."),
    ("eps_nan", {"eps": NAN}, ValueError, r"eps must be a finite number that is not negative, got nan\."),
    ("eps_inf", {"eps": INF}, ValueError, r"eps must be a finite number that is not negative, got inf\."),
    ("eps_name", {"eps": "small"}, (TypeError, ValueError), r"eps must be a finite number .*, got 'small'\."),
    ("eps_array", {"eps": np.zeros(2)}, (TypeError, ValueError), r"eps must be a finite number .*, got array"),
]
INVALID_BACKGROUND = [
    ("two_channels", (0.1, 0.2), ValueError, r"background must .* the 3 channels, .* got shape \(2,\)\."),
    ("rank_2", np.zeros(SIZE), ValueError, r"background must .*, got shape \(20, 28\)\."),
    ("rank_4", np.zeros((1, *SIZE, 3)), ValueError, r"background must .*, got shape \(1, 20, 28, 3\)\."),
    (
        "transposed",
        np.zeros((WIDTH, HEIGHT, 3)),
        ValueError,
        r"background must have shape \(20, 28, 3\), got \(28, 20, 3\)",
    ),
    ("gray_image", np.zeros((*SIZE, 1)), ValueError, r"background must have shape \(20, 28, 3\), got \(20, 28, 1\)"),
    ("complex", 1j, TypeError, r"background must be real numbers, got dtype complex64\."),
    ("name", "black", TypeError, r"background must be an array of numbers, got str\."),
]


@pytest.mark.validation
@pytest.mark.parametrize("function", [render, render_silhouette, render_depth], ids=["render", "silhouette", "depth"])
@pytest.mark.parametrize(
    ("options", "error", "message"), [b[1:] for b in INVALID_FOR_ALL], ids=[b[0] for b in INVALID_FOR_ALL]
)
def test_invalid_argument_is_named_in_the_error(function, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        function(**{"vertices": BALL.vertices, "faces": BALL.faces, **options})


@pytest.mark.validation
@pytest.mark.parametrize("function", [render, render_silhouette], ids=["render", "silhouette"])
@pytest.mark.parametrize(
    ("options", "error", "message"), [b[1:] for b in INVALID_FOR_SWEEP], ids=[b[0] for b in INVALID_FOR_SWEEP]
)
def test_invalid_gradient_option_is_named_in_the_error(function, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        function(BALL.vertices, BALL.faces, **options)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("background", "error", "message"), [b[1:] for b in INVALID_BACKGROUND], ids=[b[0] for b in INVALID_BACKGROUND]
)
def test_invalid_background_is_named_in_the_error(background, error, message):
    with pytest.raises(error, match=f"^{message}"):
        render(BALL.vertices, BALL.faces, background=background)


@pytest.mark.validation
@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_concrete_vertex_index_out_of_range_is_an_error_under_jit(as_array):
    faces = as_array(np.array([[0, 1, 42]], np.int32))
    with pytest.raises(ValueError, match=r"^faces must hold vertex indices from 0 to 41 .*, got 0 to 42\."):
        jax.jit(lambda v: render_silhouette(v, faces))(BALL.vertices)


@pytest.mark.validation
@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((2, 3, 4), 2**15, r"image_size times the batch must stay below 2\*\*31 pixels, got 2 images of 32768 x 32768"),
        ((2**20, 2**11, 4), 1, r"faces and vertices .*, got a batch of 1048576, 1 faces and 2048 vertices\."),
    ],
    ids=["pixels", "vertices"],
)
def test_batch_too_large_for_32_bit_indices_is_an_error(shape, size, message):
    rasterize = jax.vmap(lambda clip: jnr.rasterize(clip, jnp.array([[0, 1, 2]]), size).face_index)
    with pytest.raises(ValueError, match=f"^{message}"):
        jax.eval_shape(rasterize, jax.ShapeDtypeStruct(shape, jnp.float32))


def test_face_with_a_traced_index_out_of_range_is_not_rendered():
    invalid = jnp.concatenate([jnp.array([[0, 1, 42], [5, -7, 3], [10**9, 1, 2]]), BALL.faces[3:]])
    padding = invalid.at[:3].set(-1)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_rendering(v, faces):
        rendering = render(v, faces, COLORS, gradient=None)
        return jnp.sum(rendering.rgb) + jnp.sum(rendering.depth), rendering

    gradient, rendering = gradient_and_rendering(BALL.vertices, invalid)
    expected_gradient, expected = gradient_and_rendering(BALL.vertices, padding)
    assert 0 < rendering.alpha.mean() < 1
    for one, other in zip((*rendering, gradient), (*expected, expected_gradient), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rendering_outside_jit_compiles_few_programs():
    compiled, mesh = [], jnr.shapes.icosphere(1)
    jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **_: compiled.append(event))
    jax.clear_caches()
    jax.block_until_ready(jnr.render(mesh.vertices, mesh.faces, image_size=17))
    # One program each for camera, fragments, texture, normals, light, depth and the conversions of the checks, instead
    # of one per operation.
    assert 0 < sum("backend_compile" in event for event in compiled) < 70


@pytest.mark.parametrize("function", [render, render_silhouette, render_depth], ids=["render", "silhouette", "depth"])
def test_mesh_in_place_of_vertices_and_faces_is_rendered_with_its_textures(function):
    mesh = jnr.Mesh(BALL.vertices, BALL.faces, COLORS)
    textures = (COLORS,) if function is render else ()
    expected = function(mesh.vertices, mesh.faces, *textures)
    jax.tree.map(np.testing.assert_array_equal, function(mesh), expected)
    with pytest.raises(TypeError, match=r"write render\(vertices, faces\), or render\(mesh\)"):
        function(mesh.vertices)
    with pytest.raises(TypeError, match="faces must not be given with a mesh"):
        function(mesh, mesh.faces)


def test_given_textures_replace_those_of_a_mesh():
    mesh = jnr.Mesh(BALL.vertices, BALL.faces, COLORS)
    expected = render(mesh.vertices, mesh.faces, 1 - COLORS)
    jax.tree.map(np.testing.assert_array_equal, render(mesh, textures=1 - COLORS), expected)


def gradient_options(gradient, **options):
    """The options of the edge sweep in the backward pass of a silhouette."""

    def loss(vertices):
        return jnp.sum(render_silhouette(vertices, BALL.faces, gradient=gradient, **options))

    program = equations(jax.make_jaxpr(jax.grad(loss))(BALL.vertices).jaxpr)
    (sweep,) = (e for e in program if e.primitive.name == "jnr_edge_sweep_bwd")
    return sweep.params


def test_backend_of_render_reaches_a_gradient_without_a_backend():
    sweep = jnr.gradients.EdgeSweep
    expected = {"backend": "xla", "deterministic": False, "eps": 5.0, "silhouettes_only": False}
    assert gradient_options(sweep(eps=5.0), backend="xla") == expected
    assert gradient_options(sweep(backend="xla"))["backend"] == "xla"
    assert gradient_options(sweep())["backend"] is None
    assert gradient_options("edge_sweep", eps=0.5, backend="xla") == gradient_options(sweep(0.5), backend="xla")
    assert gradient_options("edge_sweep")["eps"] == 0.001


@pytest.mark.parametrize("gradient", [jnr.gradients.EdgeSweep(), "opendr", None], ids=["object", "opendr", "none"])
def test_eps_is_an_error_unless_gradient_is_the_name_edge_sweep(gradient):
    with pytest.raises(ValueError, match=r'eps must be None unless gradient is "edge_sweep", got eps 5.0'):
        render_silhouette(BALL.vertices, BALL.faces, gradient=gradient, eps=5.0)


def test_default_rendering_checks_each_argument_once(monkeypatch):
    from jnr import _checks

    calls = collections.Counter()

    def counted(name, function):
        def wrapper(*args, **kwargs):
            bound = inspect.signature(function).bind(*args, **kwargs)
            calls[name, bound.arguments.get("name")] += 1
            return function(*args, **kwargs)

        return wrapper

    checks = [name for name in vars(_checks) if name.startswith(("as_", "check_"))]
    for name in checks:
        monkeypatch.setattr(_checks, name, counted(name, getattr(_checks, name)))
    jax.eval_shape(lambda v, c: render(v, BALL.faces, c, lights=(jnr.AmbientLight(),)), BALL.vertices, COLORS)
    assert {("as_compute", "vertices"), ("as_faces", None), ("as_color", "textures")} <= set(calls)
    assert set(calls.values()) == {1}, calls
