"""Mip pyramids, texture coordinates at pixels and samples: definition, C++ kernels, and derivatives of every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr._backend import has_cpu_kernels
from jnr._ops.texture import sample_texels, texel_table, uv_and_steps

BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")),
]
# Every wrap mode in both directions; sizes that are odd, even, and one texel wide.
SIZES = [(6, 5), (8, 4), (1, 7), (3, 1)]
WRAPS = (("repeat", "mirror"), ("mirror", "border"), ("clamp", "repeat"), ("border", "clamp"))
LEVELS = 4
PIXELS = 16


def random(*shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def table_of(images, border, backend, *, sizes=None, levels=LEVELS):
    return texel_table(images, sizes, border, wraps=WRAPS[: len(images)], levels=levels, backend=backend)


def random_images(channels=3):
    return [random(*size, channels, seed=k) for k, size in enumerate(SIZES)]


def mean_over_areas(image):
    """The next level, each texel the mean of the area that it covers, by weights of overlap."""
    for axis in range(2):
        n = image.shape[axis]
        m = max(n // 2, 1)
        weights = np.zeros((m, n))
        for i, j in np.ndindex(m, n):
            weights[i, j] = max(0, min((i + 1) * n / m, j + 1) - max(i * n / m, j)) * m / n
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_levels_are_means_of_areas(backend, channels):
    with jax.enable_x64(True):
        images = random_images(channels)
        texels, places = table_of(images, jnp.arange(1.0 * channels), backend)
        assert places.shape == (LEVELS * len(SIZES), 6)
        for k, image in enumerate(images):
            level = np.asarray(image)
            for first, stride, height, width, *_ in np.asarray(places)[k * LEVELS : (k + 1) * LEVELS]:
                assert (height, width) == level.shape[:2]
                rows = np.asarray(texels)[first : first + stride * height].reshape(height, stride, channels)
                np.testing.assert_allclose(rows, level, atol=1e-14)
                level = mean_over_areas(level)
        np.testing.assert_array_equal(texels[-1], np.arange(channels))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(5, 6), (4, 8), (1, 3)], ids=str)
def test_levels_of_padded_images_are_those_of_the_image(backend, size):
    with jax.enable_x64(True):
        image = random(*size, 3)
        padded = jnp.full((9, 8, 3), 1e6).at[: size[0], : size[1]].set(image)
        expected, places = table_of([image], jnp.zeros(3), "xla")
        found, padded_places = table_of([padded], jnp.zeros(3), backend, sizes=[jnp.array(size, jnp.int32)])
        for (first, stride, height, width, *_), place in zip(
            np.asarray(places), np.asarray(padded_places), strict=True
        ):
            np.testing.assert_array_equal(place[2:4], (height, width))
            for row in range(height):
                own = found[place[0] + row * place[1] :][:width]
                np.testing.assert_allclose(own, expected[first + row * stride :][:width], atol=1e-12)


def scene(seed=0):
    """A quad in perspective with a face behind it, one without texture coordinates, and coordinates of every corner."""
    clip = np.array([[-2.0, -2, 0, 1.5], [2.5, -2, 0.1, 2], [2, 2, 0.3, 1.8], [-2, 2, 0.2, 1.2], [0.2, 3, 0, 3]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 2], [-1, -1, -1]], np.int32)
    uv_faces = np.array([[0, 1, 2], [3, 4, 5], [6, -1, 7], [0, 1, 2]], np.int32)
    uv = np.random.default_rng(seed).uniform(-1, 2, (8, 2)) * [3, 1]
    return jnp.asarray(clip), jnp.asarray(uv), jnp.asarray(faces), jnp.asarray(uv_faces)


def fragments_of(clip, faces, pixels=PIXELS):
    fragments = jnr.rasterize(clip, faces, pixels)
    return fragments._replace(face_index=fragments.face_index.at[0, :3].set(-1).at[5, 5].set(-1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_differences_of_neighbouring_coordinates(backend):
    with jax.enable_x64(True):
        clip, uv, faces, uv_faces = scene()
        fragments = jnr.rasterize(clip, faces, PIXELS)
        found = np.asarray(uv_and_steps(clip, uv, faces, uv_faces, fragments, backend=backend))
        index = np.asarray(fragments.face_index)
        assert {0, 1, 2} <= set(index.ravel())
        of_corners = np.where(np.asarray(uv_faces)[..., None] >= 0, np.asarray(uv)[np.asarray(uv_faces)], 0)

        def coordinates(face, row, column):
            """u and v where a ray through a point of the image meets a face's plane."""
            x, y = (2 * column + 1) / PIXELS - 1, 1 - (2 * row + 1) / PIXELS
            corners = np.asarray(clip)[np.asarray(faces)[face]][:, [0, 1, 3]]
            weights = np.linalg.solve(corners.T, [x, y, 1])
            return weights / weights.sum() @ of_corners[face]

        for row, column in np.argwhere(index >= 0):
            face = index[row, column]
            moves = ((0, 0), (0, 1e-5), (0, -1e-5), (1e-5, 0), (-1e-5, 0))
            at = [coordinates(face, row + down, column + across) for down, across in moves]
            expected = np.concatenate([at[0], (at[1] - at[2]) / 2e-5, (at[3] - at[4]) / 2e-5])
            np.testing.assert_allclose(found[row, column], expected, rtol=1e-7, atol=1e-7)
        np.testing.assert_array_equal(found[index < 0], 0)


def blend_of(levels, place, u, v):
    """One bilinear sample of a level by loops."""
    _, _, height, width, across, up = place
    total = 0
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            inside, at = True, []
            for k, n, wrap in ((i, height, up), (j, width, across)):
                inside &= wrap != 3 or 0 <= k < n
                k = k % (2 * n) if wrap == 1 else k % n if wrap == 0 else min(max(k, 0), n - 1)
                at.append(k if k < n else 2 * n - 1 - k)
            texel = levels[at[0], at[1]] if inside else np.arange(3)
            total = total + (1 - abs(y - i)) * (1 - abs(x - j)) * texel
    return total


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_blend_two_levels(backend, dtype):
    with jax.enable_x64(True):
        images = [image.astype(dtype) for image in random_images()]
        texels, places = table_of(images, jnp.arange(3.0).astype(dtype), backend)
        rng = np.random.default_rng(3)
        count = 300
        material = rng.integers(-1, len(images) + 1, count)
        # Steps from much less than a texel to more than the image.
        steps = rng.normal(size=(count, 4)) * 2.0 ** rng.uniform(-6, 3, (count, 1))
        coordinates = np.concatenate([rng.uniform(-2, 3, (count, 2)), steps], axis=1).astype(dtype)
        found = sample_texels(
            texels, jnp.asarray(coordinates), jnp.asarray(material, jnp.int32), places, levels=LEVELS, backend=backend
        )
        assert found.dtype == dtype
        seen = set()
        for color, k, (u, v, *steps) in zip(np.asarray(found), material, coordinates.astype(float), strict=True):
            if not 0 <= k < len(images):
                np.testing.assert_array_equal(color, 0)
                continue
            own = np.asarray(places)[k * LEVELS : (k + 1) * LEVELS]
            pyramid = [np.asarray(images[k], np.float64)]
            while len(pyramid) < LEVELS:
                pyramid.append(mean_over_areas(pyramid[-1]))
            height, width = SIZES[k]
            size = max(np.hypot(steps[a] * width, steps[a + 1] * height) for a in (0, 2))
            level = np.clip(np.log2(size), 0, np.floor(np.log2(max(height, width))))
            low = int(level)
            seen.add(low)
            expected = blend_of(pyramid[low], own[low], u, v)
            if level > low:
                expected = expected + (level - low) * (blend_of(pyramid[low + 1], own[low + 1], u, v) - expected)
            # Coordinates of up to 3 times 8 texels in float32 are accurate to 3e-6 texels.
            np.testing.assert_allclose(color, expected, atol=2e-5 if dtype == np.float32 else 1e-12)
        assert seen == {0, 1, 2, 3}


def functions(backend):
    """Functions of one float array each, and the array, by the name of what is differentiated."""
    clip, uv, faces, uv_faces = scene()
    fragments = fragments_of(clip, faces)
    material = jnp.where(fragments.face_index >= 0, fragments.face_index % len(SIZES), -1)
    border = random(3, seed=9)
    texels, places = table_of(random_images(), border, backend)
    coordinates = random(7, 9, 6, seed=5) * jnp.array([1.0, 1, 0.3, 0.3, 0.2, 0.2])
    images = jnp.asarray(np.random.default_rng(6).integers(-1, 4, (7, 9)), jnp.int32)

    def steps(clip, uv, barycentric):
        fragments_here = fragments._replace(barycentric=barycentric)
        return uv_and_steps(clip, uv, faces, uv_faces, fragments_here, backend=backend)

    def sample(texels, coordinates, images):
        return sample_texels(texels, coordinates, images, places, levels=LEVELS, backend=backend)

    yield "image", (lambda x: table_of([x, *random_images()[1:]], border, backend)[0]), random(6, 5, 3)
    padding = [jnp.array([3, 5], jnp.int32)]
    yield "padded image", (lambda x: table_of([x], border, backend, sizes=padding)[0]), random(6, 5, 3)
    yield "border", (lambda x: table_of(random_images(), x, backend)[0]), border
    yield "clip positions", (lambda x: steps(x, uv, fragments.barycentric)), clip
    yield "uv", (lambda x: steps(clip, x, fragments.barycentric)), uv
    yield "barycentric", (lambda x: steps(clip, uv, x)), fragments.barycentric
    yield "texels", (lambda x: sample(x, coordinates, images)), texels
    yield "coordinates", (lambda x: sample(texels, x, images)), coordinates
    yield "coordinates without levels", (lambda x: sample(texels, x, images)), coordinates[..., :2]
    yield "everything", (lambda x: sample(texels, steps(x, uv, fragments.barycentric), material)), clip


NAMES = [
    "image",
    "padded image",
    "border",
    "clip positions",
    "uv",
    "barycentric",
    "texels",
    "coordinates",
    "coordinates without levels",
    "everything",
]


def function_named(name, backend):
    return next((function, x) for own, function, x in functions(backend) if own == name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_in_every_mode_equal_finite_differences(name, backend):
    with jax.enable_x64(True):
        function, x = function_named(name, backend)
        rng = np.random.default_rng(2)
        tangent = jnp.asarray(rng.normal(size=x.shape))
        weights = jnp.asarray(rng.normal(size=function(x).shape))

        def loss(x):
            return jnp.sum(weights * function(x))

        def difference(f):
            step = 1e-6 * tangent
            return (f(x + step) - f(x - step)) / 2e-6

        slope = jax.jvp(function, (x,), (tangent,))[1]
        assert jnp.any(slope != 0)
        np.testing.assert_allclose(slope, difference(function), atol=1e-6 * float(jnp.abs(slope).max()))
        gradient = jax.jit(jax.grad(loss))
        np.testing.assert_allclose(jnp.vdot(gradient(x), tangent), difference(loss), rtol=1e-6)
        if name not in ("clip positions", "coordinates"):
            return
        second = jax.jvp(gradient, (x,), (tangent,))[1]
        atol = 1e-5 * max(float(jnp.abs(second).max()), 1e-3)
        np.testing.assert_allclose(second, difference(gradient), atol=atol)


@pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")
@pytest.mark.parametrize("name", NAMES)
def test_kernels_equal_the_definition(name):
    with jax.enable_x64(True):
        (kernel, x), (definition, _) = (function_named(name, backend) for backend in ("cpu", "xla"))
        found, expected = kernel(x), definition(x)
        np.testing.assert_allclose(found, expected, atol=1e-12 * float(jnp.abs(expected).max()))
        weights = random(*found.shape, seed=8)
        found, expected = (jax.grad(lambda x, f=f: jnp.sum(weights * f(x)))(x) for f in (kernel, definition))
        np.testing.assert_allclose(found, expected, atol=1e-11 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["image", "clip positions", "uv", "barycentric", "texels", "coordinates"])
def test_vmap_is_a_loop(name, backend):
    with jax.enable_x64(True):
        function, x = function_named(name, backend)
        batch = jnp.stack([x, x * 1.1])
        weights = random(2, *function(x).shape, seed=3)

        def gradient(x, w):
            return jax.grad(lambda x: jnp.sum(w * function(x)))(x)

        each = jnp.stack([gradient(x, w) for x, w in zip(batch, weights, strict=True)])
        atol = 1e-11 * float(jnp.abs(each).max())
        np.testing.assert_allclose(jax.vmap(function)(batch), jnp.stack([function(x) for x in batch]), atol=1e-11)
        np.testing.assert_allclose(jax.vmap(gradient)(batch, weights), each, atol=atol)
        # Items that share the operand: their cotangents are added up.
        shared = jax.grad(lambda x: jnp.sum(jax.vmap(lambda w: jnp.sum(w * function(x)))(weights)))(x)
        np.testing.assert_allclose(shared, gradient(x, weights.sum(axis=0)), atol=atol)
        of_both = jax.grad(lambda x: jnp.sum(weights * jax.vmap(lambda s: function(s * x))(jnp.array([1.0, 1.1]))))
        expected = gradient(x, weights[0]) + 1.1 * gradient(1.1 * x, weights[1])
        np.testing.assert_allclose(of_both(x), expected, atol=2 * atol)


@pytest.mark.parametrize("backend", BACKENDS)
def test_items_of_a_batch_that_share_texels_or_coordinates(backend):
    with jax.enable_x64(True):
        texels, places = table_of(random_images(), jnp.zeros(3), backend)
        coordinates = random(2, 20, 6, seed=1)
        material = jnp.asarray(np.random.default_rng(0).integers(-1, 4, (2, 20)), jnp.int32)
        weights = random(2, 20, 3, seed=2)

        def loss(texels, coordinates, material, weights):
            colors = sample_texels(texels, coordinates, material, places, levels=LEVELS, backend=backend)
            return jnp.sum(weights * colors)

        def total(texels, coordinates, axis):
            each = jax.vmap(loss, (None, axis, 0, 0))(texels, coordinates, material, weights)
            return jnp.sum(each)

        for axis, own in ((0, coordinates), (None, coordinates[0])):
            found = jax.grad(total, (0, 1))(texels, own, axis)
            items = [own if axis is None else own[k] for k in range(2)]
            parts = [jax.grad(loss, (0, 1))(texels, items[k], material[k], weights[k]) for k in range(2)]
            np.testing.assert_allclose(found[0], parts[0][0] + parts[1][0], atol=1e-12)
            expected = parts[0][1] + parts[1][1] if axis is None else jnp.stack([part[1] for part in parts])
            np.testing.assert_allclose(found[1], expected, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_pixels_no_faces_and_no_channels(backend):
    clip, uv, faces, uv_faces = scene()
    clip, uv = clip.astype(jnp.float32), uv.astype(jnp.float32)
    nothing = jnr.Fragments(jnp.full((2, 3), -1), jnp.zeros((2, 3, 3)), jnp.zeros((2, 3)))
    for mesh in ((clip, uv, faces, uv_faces), (clip[:0], uv[:0], faces[:0], uv_faces[:0])):
        np.testing.assert_array_equal(uv_and_steps(*mesh, nothing, backend=backend), np.zeros((2, 3, 6)))
    for channels, count in ((3, 0), (0, 4)):
        images = [jnp.ones((4, 4, channels), jnp.float32)]
        texels, places = texel_table(
            images, None, jnp.zeros(()), wraps=(("clamp", "clamp"),), levels=3, backend=backend
        )
        operands = texels, jnp.zeros((count, 6)), jnp.zeros(count, jnp.int32), places
        assert sample_texels(*operands, levels=3, backend=backend).shape == (count, channels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_no_pixel_sees_may_be_nan(backend):
    texels, places = texel_table(
        [jnp.ones((4, 4, 3))], None, jnp.zeros(()), wraps=(("repeat", "repeat"),), levels=3, backend=backend
    )
    coordinates = jnp.full((5, 6), jnp.nan).at[2].set(0.1)
    material = jnp.array([-1, -1, 0, -1, 5], jnp.int32)

    def loss(texels, coordinates):
        return jnp.sum(sample_texels(texels, coordinates, material, places, levels=3, backend=backend))

    value, gradients = jax.value_and_grad(loss, (0, 1))(texels, coordinates)
    np.testing.assert_allclose(value, 3, rtol=1e-6)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(np.asarray(gradients[1])[[0, 1, 3, 4]], 0)


@pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")
def test_triton_is_refused_on_cpus():
    texels, places = table_of([jnp.ones((4, 4, 3))], jnp.zeros(3), None)
    operands = texels, jnp.zeros((5, 2)), jnp.zeros(5, jnp.int32), places
    with pytest.raises(NotImplementedError, match="sample_texels"):
        sample_texels(*operands, levels=LEVELS, backend="triton")
