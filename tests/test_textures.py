"""UV textures against a direct sampler in NumPy loops, and conversions between textures."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jnr
from jnr import sample_cubes, sample_uv
from jnr._textures import Wrap

WRAPS: list[Wrap] = ["repeat", "mirror", "clamp", "border"]
BORDER = (0.9, 0.1, 0.4)


def random_image(height, width, seed=0, dtype: type[np.floating] = np.float32):
    return np.random.default_rng(seed).uniform(size=(height, width, 3)).astype(dtype)


def texel(image, row, column, wrap):
    """One texel, inside or outside the image."""
    across, up = (wrap, wrap) if isinstance(wrap, str) else wrap
    index = []
    for i, n, wrap in ((row, image.shape[0], up), (column, image.shape[1], across)):
        if wrap == "border" and not 0 <= i < n:
            return np.array(BORDER)
        if wrap == "repeat":
            i = i % n
        elif wrap == "mirror":
            i = i % (2 * n)
            i = i if i < n else 2 * n - 1 - i
        index.append(min(max(i, 0), n - 1))
    return image[tuple(index)].astype(float)


def nearest(image, u, v, wrap):
    return texel(image, int(np.floor((1 - v) * image.shape[0])), int(np.floor(u * image.shape[1])), wrap)


def bilinear(image, u, v, wrap):
    x, y = u * image.shape[1] - 0.5, (1 - v) * image.shape[0] - 0.5
    left, above = int(np.floor(x)), int(np.floor(y))
    total = np.zeros(3)
    for row, column in itertools.product((above, above + 1), (left, left + 1)):
        total += (1 - abs(x - column)) * (1 - abs(y - row)) * texel(image, row, column, wrap)
    return total


def area_average(image, axis):
    """Halves an axis: each texel is the mean of the part of the image that it covers."""
    n = image.shape[axis]
    m = max(n // 2, 1)
    weights = np.zeros((m, n))
    for i, j in np.ndindex(m, n):
        weights[i, j] = max(0, min((i + 1) * n / m, j + 1) - max(i * n / m, j)) * m / n
    return np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)


def trilinear(image, u, v, step, wrap):
    """One trilinear sample; `step` holds the change of (u, v) to the next column and to the next row."""
    levels = [image.astype(float)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(area_average(area_average(levels[-1], 0), 1))
    texels = max(np.hypot(du * image.shape[1], dv * image.shape[0]) for du, dv in step)
    level = min(max(np.log2(texels), 0), len(levels) - 1)
    low = int(np.floor(level))
    finer, coarser = (bilinear(levels[min(k, len(levels) - 1)], u, v, wrap) for k in (low, low + 1))
    return finer + (level - low) * (coarser - finer)


def corner_fragments(uv):
    """Texture coordinates, faces and fragments of one pixel per point, which sees the first corner of its own face."""
    count = len(uv)
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    fragments = jnr.Fragments(
        jnp.arange(count, dtype=jnp.int32)[None],
        jnp.broadcast_to(jnp.array([1.0, 0, 0]), (1, count, 3)),
        jnp.ones((1, count)),
    )
    return jnp.asarray(np.repeat(uv, 3, axis=0), jnp.float32), jnp.asarray(faces), fragments


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1), (1, 7)], ids=str)
@pytest.mark.parametrize("wrap", [*WRAPS, ("repeat", "clamp"), ("border", "mirror")], ids=str)
@pytest.mark.parametrize("sampler", [nearest, bilinear])
def test_texture_equals_the_direct_sampler(sampler, wrap: Any, size):
    image = random_image(*size)
    # Points outside the image on every side, and near two of its corners.
    uv = np.concatenate([np.random.default_rng(1).uniform(-2.5, 3.5, (200, 2)), [[0.01, 0.01], [0.99, 0.99]]])
    uv = uv.astype(np.float32)
    table, faces, fragments = corner_fragments(uv)
    wrap = wrap if isinstance(wrap, str) else (wrap,)
    texture = jnr.UVTexture(image, table, wrap=wrap, filter=sampler.__name__, border=BORDER)
    found = sample_uv(texture, faces, fragments, jnp.zeros((len(table), 4)))[0]
    wrap = wrap if isinstance(wrap, str) else wrap[0]
    expected = [sampler(image, u, v, wrap) for u, v in uv.astype(float)]
    # float32 coordinates of up to 3.5 times 7 texels are accurate to 2e-6 texels.
    np.testing.assert_allclose(found, expected, atol=1e-5)


def plane_scene(image_size):
    """A slanted plane that fills the image and repeats the texture, and the texture coordinates under a pixel."""
    vertices = np.array([[-9, 0, 0.9], [9, 0, 0.9], [9, 0, -60], [-9, 0, -60]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.array([[-25, -1], [27, -1], [27, 40], [-25, 40]], np.float32)
    camera = jnr.Camera(jnr.LookAlong((0, 1, 1), (0, -0.8, -1)), jnr.Perspective(40.0))

    def uv_of(row, column):
        """Texture coordinates where the ray through a point of the image hits the plane, in float64."""
        inverse = np.linalg.inv(np.asarray(camera.clip_from_world(), np.float64))
        x, y = (2 * column + 1) / image_size - 1, 1 - (2 * row + 1) / image_size
        near, far = (inverse @ [x, y, z, 1] for z in (-1.0, 0.9))
        near, far = near[:3] / near[3], far[:3] / far[3]
        point = near + (far - near) * near[1] / (near[1] - far[1])
        return np.array([(point[0] + 9) / 18 * 52 - 25, (0.9 - point[2]) / 60.9 * 41 - 1])

    return vertices, faces, uv, camera, uv_of


@pytest.mark.parametrize(("wrap", "size"), list(zip(WRAPS, [(16, 16), (13, 6)] * 2, strict=True)))
def test_trilinear_texture_equals_the_direct_sampler_with_derivatives_of_the_rays(size, wrap):
    pixels = 12
    vertices, faces, uv, camera, uv_of = plane_scene(pixels)
    image = random_image(*size)
    texture = jnr.UVTexture(image, uv, wrap=wrap, filter="trilinear", border=BORDER)
    found = jnr.render(vertices, faces, texture, camera=camera, lights=(), image_size=pixels)
    assert np.all(found.alpha == 1)
    levels = []
    for row, column in np.ndindex(pixels, pixels):
        step = [
            (uv_of(row + h * d[0], column + h * d[1]) - uv_of(row - h * d[0], column - h * d[1])) / (2 * h)
            for h, d in ((1e-4, (0, 1)), (1e-4, (1, 0)))
        ]
        expected = trilinear(image, *uv_of(row, column), step, wrap)  # pyright: ignore[reportCallIssue]
        # A float32 camera and coordinates of up to 27, in levels of up to 16 texels: accurate to 1e-4 texels.
        np.testing.assert_allclose(found.rgb[row, column], expected, atol=5e-4)
        levels.append(max(np.hypot(du * size[1], dv * size[0]) for du, dv in step))
    assert max(levels) > 2 * min(levels) > 2


def test_last_level_of_the_pyramid_is_the_mean_of_the_image():
    for size in ((8, 8), (7, 5), (9, 1), (6, 11)):
        image = random_image(*size)
        # So small in the image that only the last level is sampled.
        table, faces, fragments = corner_fragments(np.array([[0.3, 0.6]]))
        huge = table * np.array([[1.0], [1e6], [-1e6]], np.float32)
        clip = jnp.array([[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]])
        texture = jnr.UVTexture(image, huge, filter="trilinear", wrap="clamp")
        color = sample_uv(texture, faces, fragments, clip)[0, 0]
        np.testing.assert_allclose(color, image.mean(axis=(0, 1)), atol=1e-6)


def test_magnified_trilinear_texture_is_bilinear():
    plane = jnr.shapes.plane()
    texture = jnr.UVTexture(random_image(8, 8), plane.vertices[:, :2] + 0.5, filter="trilinear")
    smooth = dataclasses.replace(texture, filter="bilinear")
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 0.6)))
    found, expected = (jnr.render(*plane[:2], t, camera=camera, image_size=48).rgb for t in (texture, smooth))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_distant_texture_is_its_mean_with_trilinear_filtering_and_aliases_without():
    plane = jnr.shapes.plane()
    checker = np.tile(np.eye(2, dtype=np.float32), (32, 32))[..., None].repeat(3, axis=-1)
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 2.0)))
    colors = {}
    for kind in ("nearest", "bilinear", "trilinear"):
        texture = jnr.UVTexture(checker, plane.vertices[:, :2] * 3.7 + 0.5, filter=kind)
        rendering = jnr.render(*plane[:2], texture, camera=camera, lights=(), image_size=32)
        colors[kind] = np.asarray(rendering.rgb)[np.asarray(rendering.alpha) == 1]
    np.testing.assert_allclose(colors["trilinear"], 0.5, atol=1e-3)
    assert np.std(colors["bilinear"]) > 0.05
    assert np.std(colors["nearest"]) > 0.4


def test_texture_coordinates_a_thousand_repeats_away_stay_accurate():
    image = random_image(4, 4)
    uv = np.random.default_rng(0).uniform(0, 1, (50, 2)).astype(np.float32)
    far = (uv + np.array([1024, -2048])).astype(np.float32)
    near = far.astype(float) - [1024, -2048]
    table, faces, fragments = corner_fragments(far)
    found = sample_uv(jnr.UVTexture(image, table), faces, fragments, jnp.zeros((len(table), 4)))[0]
    np.testing.assert_allclose(found, [bilinear(image, u, v, "repeat") for u, v in near], atol=1e-5)


def test_non_finite_texture_coordinates_read_within_bounds():
    table, faces, fragments = corner_fragments(np.array([[np.nan, 0.5], [np.inf, 0.5], [-np.inf, np.nan], [1e30, 0]]))
    for wrap, kind in itertools.product(WRAPS, ("nearest", "bilinear")):
        texture = jnr.UVTexture(np.ones((3, 3, 1)), table, wrap=wrap, filter=kind)
        assert sample_uv(texture, faces, fragments, jnp.zeros((len(table), 4))).shape == (1, 4, 1)


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "trilinear"])
def test_texture_of_no_faces_is_zero_everywhere(kind):
    fragments = jnr.Fragments(jnp.full((2, 3), -1), jnp.zeros((2, 3, 3)), jnp.zeros((2, 3)))
    texture = jnr.UVTexture(random_image(4, 4), jnp.zeros((5, 2)), filter=kind)
    found = sample_uv(texture, jnp.zeros((0, 3), jnp.int32), fragments, jnp.ones((5, 4)))
    np.testing.assert_array_equal(found, np.zeros((2, 3, 3)))


def test_each_material_has_its_image_and_its_wrap():
    cube = jnr.shapes.cube()
    images = [random_image(4, 4, 0), random_image(3, 7, 1), random_image(1, 1, 2)]
    material = np.arange(12) // 2 % 3
    uv = np.random.default_rng(0).uniform(-1, 2, (36, 2)).astype(np.float32)
    uv_faces = np.arange(36).reshape(12, 3)
    wraps: Any = ("mirror", ("border", "repeat"), "clamp")
    camera = jnr.Camera(jnr.LookAt((1.5, 1.2, 2.0)))
    for kind in ("nearest", "bilinear", "trilinear"):
        together = jnr.UVTexture(images, uv, uv_faces, material, wraps, kind, BORDER)
        rendering = jnr.render(*cube[:2], together, camera=camera, image_size=40)
        seen = np.asarray(jnr.rasterize(camera.clip_positions(cube.vertices), cube.faces, 40).face_index)
        shown = 0
        for k, image in enumerate(images):
            alone = jnr.UVTexture(image, uv, uv_faces, wrap=(wraps[k],), filter=kind, border=BORDER)
            expected = jnr.render(*cube[:2], alone, camera=camera, image_size=40)
            mine = (seen >= 0) & (material[seen] == k)
            shown += mine.any()
            np.testing.assert_allclose(rendering.rgb[mine], expected.rgb[mine], atol=1e-6)
        assert shown == 3


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "trilinear"])
def test_padding_of_an_image_is_never_sampled(kind):
    plane = jnr.shapes.plane()
    image = random_image(5, 6)
    padded = np.full((9, 8, 3), np.nan, np.float32)
    padded[:5, :6] = image
    uv = plane.vertices[:, :2] * 9
    for wrap in WRAPS:
        texture = jnr.UVTexture(image, uv, wrap=wrap, filter=kind)
        other = dataclasses.replace(texture, images=padded, sizes=[np.array([5, 6])])
        if kind == "trilinear":
            # In the means of the pyramid, weights of zero times NaN would be NaN.
            other = dataclasses.replace(other, images=np.nan_to_num(padded))
        found, expected = (jnr.render(*plane[:2], t, image_size=24, lights=()).rgb for t in (other, texture))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_background_is_zero_and_unseen_texture_coordinates_have_zero_gradient():
    ball = jnr.shapes.icosphere(1)
    seen = np.unique(jnr.rasterize(jnr.Camera().clip_positions(ball.vertices), ball.faces, 32).face_index)
    unseen = np.setdiff1d(np.arange(80), seen)
    uv = np.random.default_rng(0).uniform(size=(240, 2)).astype(np.float32)
    uv[unseen[0] * 3] = np.nan
    texture = jnr.UVTexture(random_image(4, 4), uv, np.arange(240).reshape(80, 3), filter="trilinear")
    rendering = jnr.render(ball.vertices, ball.faces, texture, image_size=32)
    assert np.all(np.isfinite(rendering.rgb))
    assert np.all(rendering.rgb[rendering.alpha == 0] == 0)

    def total(uv):
        return jnp.sum(jnr.render(*ball[:2], dataclasses.replace(texture, uv=uv), image_size=32).rgb)

    gradient = jax.grad(total)(jnp.asarray(uv)).reshape(80, 3, 2)
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient[unseen] == 0)
    assert np.any(gradient != 0)


@pytest.mark.parametrize(
    ("kind", "wrap"), [("bilinear", "mirror"), ("bilinear", "border"), *(("trilinear", wrap) for wrap in WRAPS)]
)
def test_derivatives_with_respect_to_texels_coordinates_and_positions_equal_finite_differences(kind, wrap):
    pixels = 8
    vertices, faces, uv, camera, _ = plane_scene(pixels)
    weights = np.random.default_rng(2).normal(size=(pixels, pixels, 3))
    with jax.enable_x64(True):

        def loss(image, uv, vertices, border):
            texture = jnr.UVTexture(image, uv, wrap=wrap, filter=kind, border=border)
            rendering = jnr.render(vertices, faces, texture, camera=camera, lights=(), image_size=pixels, gradient=None)
            return jnp.sum(rendering.rgb * weights)

        compiled = jax.jit(loss)
        arguments = [random_image(6, 5, dtype=np.float64), uv.astype(float), vertices.astype(float), np.array(BORDER)]
        # float64 steps of 1e-6; with this seed no pixel lies at a texel's centre or at a whole level.
        check_grads(
            lambda *a: compiled(*map(jnp.asarray, a)),
            arguments,
            1,
            modes=("fwd", "rev"),
            atol=1e-5,
            rtol=1e-5,
            eps=1e-6,
        )
        for k, gradient in enumerate(jax.grad(compiled, argnums=range(4))(*map(jnp.asarray, arguments))):
            assert np.any(gradient != 0) == (k < 3 or wrap == "border")


def test_gradient_of_a_nearest_texture_counts_the_pixels_of_each_texel():
    plane = jnr.shapes.plane()
    camera = jnr.Camera(jnr.LookAt((0.0, 0.0, 2.0)), jnr.Orthographic(0.5))
    texture = jnr.UVTexture(random_image(4, 4), plane.vertices[:, :2] + 0.5, filter="nearest")

    def total(image):
        return jnp.sum(
            jnr.render(
                *plane[:2], dataclasses.replace(texture, images=image), camera=camera, lights=(), image_size=16
            ).rgb
        )

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(texture.images)), 16)


def test_gradient_of_positions_is_that_of_the_edge_sweep_alone_unless_interior_is_set():
    vertices, faces, uv, camera, _ = plane_scene(16)
    texture = jnr.UVTexture(random_image(8, 8), uv, filter="trilinear")

    def gradient(**options):
        return jax.grad(
            lambda v: jnp.sum(jnr.render(v, faces, texture, camera=camera, lights=(), image_size=16, **options).rgb)
        )(jnp.asarray(vertices))

    def sweep_alone(v):
        clip = camera.clip_positions(v)
        fragments = jnr.rasterize(clip, faces, 16)
        color = sample_uv(texture, faces, jax.lax.stop_gradient(fragments), jax.lax.stop_gradient(clip))
        return jnp.sum(jnr.edge_sweep(color, clip, faces, fragments))

    alone = jax.grad(sweep_alone)(jnp.asarray(vertices))
    np.testing.assert_allclose(gradient(), alone, atol=1e-6)
    np.testing.assert_allclose(gradient(interior=True), alone + gradient(gradient=None), rtol=1e-4, atol=1e-4)


def test_vmap_and_jit_over_textures_equal_a_loop():
    plane = jnr.shapes.plane()
    images = np.stack([random_image(4, 4, k) for k in range(3)])
    texture = jnr.UVTexture(images[0], plane.vertices[:, :2], filter="trilinear")

    def render(image):
        return jnr.render(*plane[:2], dataclasses.replace(texture, images=image), image_size=16).rgb

    found = jax.jit(jax.vmap(render))(images)
    np.testing.assert_allclose(found, [render(image) for image in images], atol=1e-6)
    whole = jax.jit(lambda t: jnr.render(*plane[:2], t, image_size=16).rgb)(jax.tree.map(jnp.asarray, texture))
    np.testing.assert_allclose(whole, found[0], atol=1e-6)


def test_cubes_made_from_a_linear_image_render_like_it():
    rows = np.linspace(0, 1, 64)[:, None, None] * np.array([1.0, 0.3, 0.0])
    columns = np.linspace(0, 1, 64)[None, :, None] * np.array([0.0, 0.5, 1.0])
    plane = jnr.shapes.plane(2, 2)
    texture = jnr.UVTexture((rows + columns).astype(np.float32), plane.vertices[:, :2] * 0.9 + 0.5, wrap="clamp")
    camera = jnr.Camera(jnr.LookAt((0.3, 0.2, 1.1)))
    expected = jnr.render(*plane[:2], texture, camera=camera, lights=(), image_size=32).rgb
    errors = []
    for size in (2, 3, 5):
        cubes = jnr.uv_to_cubes(texture, plane.faces, size)
        assert cubes.shape == (8, size, size, size, 3)
        rendering = jnr.render(*plane[:2], cubes, camera=camera, lights=(), image_size=32).rgb
        errors.append(np.abs(rendering - expected).max())
    # Samples include texels beside the plane on which weights sum to one.
    assert errors[0] < 0.05
    assert errors[2] < errors[0] / 3


def test_corner_texels_of_cubes_are_the_texture_at_the_corners():
    image = random_image(8, 8)
    plane = jnr.shapes.plane()
    texture = jnr.UVTexture(image, plane.vertices[:, :2] * 1.7, wrap="mirror")
    cubes = np.asarray(jnr.uv_to_cubes(texture, plane.faces, 4))
    for face, vertices in enumerate(np.asarray(plane.faces)):
        for k, vertex in enumerate(vertices):
            at = [3 if axis == k else 0 for axis in range(3)]
            np.testing.assert_allclose(
                cubes[face][tuple(at)],
                bilinear(image, *np.asarray(texture.uv)[vertex].astype(float), "mirror"),  # pyright: ignore[reportCallIssue]: unpacked
                atol=1e-5,
            )


def test_cubes_of_no_faces_are_empty():
    texture = jnr.UVTexture(random_image(2, 2), jnp.zeros((4, 2)))
    assert jnr.uv_to_cubes(texture, jnp.zeros((0, 3), jnp.int32), 3).shape == (0, 3, 3, 3, 3)


def test_cubes_made_from_vertex_colors_render_like_them():
    ball = jnr.shapes.icosphere(1)
    colors = np.random.default_rng(0).uniform(size=(42, 3)).astype(np.float32)
    expected = jnr.render(*ball[:2], colors, image_size=48).rgb
    found = jnr.render(*ball[:2], jnr.colors_to_cubes(colors, ball.faces), image_size=48).rgb
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("tile", [2, 5, 16])
def test_atlas_of_linear_cubes_renders_like_them(tile):
    ball = jnr.shapes.icosphere(1)
    colors = np.random.default_rng(0).uniform(size=(42, 3)).astype(np.float32)
    cubes = jnr.colors_to_cubes(colors, ball.faces)
    texture = jnr.cubes_to_uv(cubes, tile=tile)
    assert texture.images.shape == (9 * tile, 9 * tile, 3)  # 80 faces in 9 x 9 tiles
    expected = jnr.render(*ball[:2], cubes, image_size=48).rgb
    found = jnr.render(*ball[:2], texture, image_size=48).rgb
    # float32 texture coordinates in an image of 144 texels are accurate to 1e-5 texels.
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_atlas_of_cubes_equals_them_at_its_texels():
    cubes = np.random.default_rng(0).uniform(size=(5, 4, 4, 4, 3)).astype(np.float32)
    tile = 7
    texture = jnr.cubes_to_uv(cubes, tile=tile)
    for face, (i, j) in itertools.product(range(5), np.ndindex(tile, tile)):
        if i + j >= tile:
            continue
        row, column = face // 3 * tile + i, face % 3 * tile + j
        weights = np.array([tile - 1 - i - j, j, i]) / (tile - 1)
        fragment = jnr.Fragments(jnp.array([[face]]), jnp.asarray(weights, jnp.float32)[None, None], jnp.ones((1, 1)))
        np.testing.assert_allclose(
            np.asarray(texture.images)[row, column], sample_cubes(cubes, fragment)[0, 0], atol=1e-5
        )


def test_conversions_are_differentiable():
    ball = jnr.shapes.icosphere(0)
    uv = np.random.default_rng(0).uniform(size=(12, 2)).astype(np.float32)

    def total(image, uv, colors):
        cubes = jnr.uv_to_cubes(jnr.UVTexture(image, uv), ball.faces, 3)
        atlas = jnr.cubes_to_uv(cubes, tile=4).images
        return jnp.sum(jnp.asarray(atlas) ** 2) + jnp.sum(jnr.colors_to_cubes(colors, ball.faces) ** 2)

    arguments = random_image(4, 4), uv, random_image(1, 12)[0]
    for gradient in jax.grad(total, argnums=(0, 1, 2))(*map(jnp.asarray, arguments)):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)


PLANE = jnr.shapes.plane()
UV = np.zeros((4, 2), np.float32)
IMAGE = np.zeros((4, 4, 3), np.float32)
RGBA = np.zeros((4, 4, 4), np.float32)
INVALID = {
    "no_images": (lambda: jnr.UVTexture((), UV), r"images must hold at least one image, got none\."),
    "gray_image": (lambda: jnr.UVTexture(IMAGE[..., 0], UV), r"images must have shape \(rows, columns, channels\)"),
    "channels": (
        lambda: jnr.UVTexture((IMAGE, IMAGE[..., :1]), UV, material=np.zeros(2, int)),
        r"images must have shape \(rows, columns, 3\), got \(4, 4, 1\)\.",
    ),
    "empty_image": (
        lambda: jnr.UVTexture(IMAGE[:0], UV),
        r"images must have at least one texel, got shape \(0, 4, 3\)",
    ),
    "size_beyond_the_image": (
        lambda: jnr.UVTexture(IMAGE, UV, sizes=[np.array([4, 5])]),
        r"sizes must lie within their images, got \[4 5\] for \(4, 4\)\.",
    ),
    "few_uv": (lambda: jnr.UVTexture(IMAGE, UV[:3]), r"uv must have shape \(4, 2\), got \(3, 2\)\."),
    "uvw": (lambda: jnr.UVTexture(IMAGE, np.zeros((4, 3))), r"uv must have shape \(4, 2\), got \(4, 3\)\."),
    "few_uv_faces": (
        lambda: jnr.UVTexture(IMAGE, UV, np.zeros((1, 3), int)),
        r"uv_faces must have shape \(2, 3\), got \(1, 3\)\.",
    ),
    "uv_faces_range": (
        lambda: jnr.UVTexture(IMAGE, UV, np.full((2, 3), 4)),
        r"uv_faces must hold rows of uv from 0 to 3 \(or -1 for padding\), got 4 to 4\.",
    ),
    "no_material": (
        lambda: jnr.UVTexture((IMAGE, IMAGE), UV),
        r"material must say which of the 2 images each face has, got None\.",
    ),
    "material_range": (
        lambda: jnr.UVTexture(IMAGE, UV, material=np.array([0, 1])),
        r"material must hold images from 0 to 0, got 0 to 1\.",
    ),
    "few_materials": (
        lambda: jnr.UVTexture(IMAGE, UV, material=np.array([0])),
        r"material must have shape \(2,\), got \(1,\)\.",
    ),
    "wrap": (lambda: jnr.UVTexture(IMAGE, UV, wrap="REPEAT"), r"wrap must be one of 'repeat', .*, got 'REPEAT'\."),  # pyright: ignore[reportArgumentType]: wrong on purpose
    "wraps": (
        lambda: jnr.UVTexture(IMAGE, UV, wrap=("clamp", "clamp")),
        r"wrap must be one name or one for each of the 1 images, got \('clamp', 'clamp'\)\.",
    ),
    "wrap_pair": (
        lambda: jnr.UVTexture(IMAGE, UV, wrap=(("clamp", "round"),)),  # pyright: ignore[reportArgumentType]: wrong on purpose
        r"wrap must be one of 'repeat', .* or a pair of these, got 'round'\.",
    ),
    "alpha": (
        lambda: jnr.UVTexture(RGBA, UV, alpha="opaque"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        r"alpha must be one of 'blend', 'mask' or None, got 'opaque'\.",
    ),
    "alpha_of_three_channels": (
        lambda: jnr.UVTexture(IMAGE, UV, alpha="blend"),
        r"alpha must be None unless images have 4 channels, got 'blend' and \(4, 4, 3\)\.",
    ),
    "alphas": (
        lambda: jnr.UVTexture(RGBA, UV, alpha=("blend", "mask")),
        r"alpha must be one name or one for each of the 1 images, got \('blend', 'mask'\)\.",
    ),
    "alpha_cutoff": (
        lambda: jnr.UVTexture(RGBA, UV, alpha="mask", alpha_cutoff=(0.5, 0.5)),
        r"alpha_cutoff must be a number or have one value for each of the 1 images, got shape \(2,\)\.",
    ),
    "filter": (
        lambda: jnr.UVTexture(IMAGE, UV, filter="linear"),  # pyright: ignore[reportArgumentType]: wrong on purpose
        r"filter must be one of 'nearest', .*, got 'linear'\.",
    ),
    "border": (
        lambda: jnr.UVTexture(IMAGE, UV, border=(0.1, 0.2)),
        r"border must be a number or have one value for each of the 3 channels, got shape \(2,\)\.",
    ),
    "sizes": (lambda: jnr.UVTexture(IMAGE, UV, sizes=()), r"sizes must hold \(height, width\) of each of the 1 images"),
}


@pytest.mark.validation
@pytest.mark.parametrize(("make", "message"), INVALID.values(), ids=INVALID)
def test_invalid_texture_is_an_error_that_names_the_field(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        jnr.render(PLANE.vertices, PLANE.faces, make(), image_size=4)


@pytest.mark.validation
def test_invalid_conversion_is_an_error_that_names_the_argument():
    with pytest.raises(ValueError, match=r"^size must be at least 2, got 1\."):
        jnr.uv_to_cubes(jnr.UVTexture(IMAGE, UV), PLANE.faces, 1)
    with pytest.raises(ValueError, match=r"^uv must have shape \(5, 2\), got \(4, 2\)\."):
        jnr.uv_to_cubes(jnr.UVTexture(IMAGE, UV), PLANE.faces, num_vertices=5)
    large = jax.ShapeDtypeStruct((2**16, 2**15, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"^images must have fewer than 2\*\*31 texels in all, got 2147483648\."):
        jax.eval_shape(lambda image: jnr.uv_to_cubes(jnr.UVTexture(image, UV), PLANE.faces), large)
    with pytest.raises(ValueError, match=r"^tile must be at least 2, got 1\."):
        jnr.cubes_to_uv(np.zeros((2, 3, 3, 3, 3)), tile=1)
    with pytest.raises(ValueError, match=r"^cubes must have shape \(faces, 3, 3, 3, channels\), got"):
        jnr.cubes_to_uv(np.zeros((2, 3, 3, 2, 3)))
    with pytest.raises(ValueError, match=r"^colors must have shape \(vertices, channels\), got \(4,\)\."):
        jnr.colors_to_cubes(np.zeros(4), PLANE.faces)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_images_and_borders_are_rounded_once(dtype):
    rng = np.random.default_rng(0)
    image, border = (jnp.asarray(rng.uniform(size=shape)).astype(dtype) for shape in ((3, 4, 3), 3))
    vertices, faces, uv, camera, _ = plane_scene(16)

    def render(image, border):
        texture = jnr.UVTexture(image, uv / 20, wrap="border", border=border)
        return jnr.render(vertices, faces, texture, camera=camera, lights=(), image_size=16).rgb

    found, expected = render(image, border), render(image.astype(jnp.float32), border.astype(jnp.float32))
    assert found.dtype == dtype
    # Texels, the border and their sum are each rounded once.
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=4 * float(jnp.finfo(dtype).eps))
