"""Colours of lit surfaces and their derivatives in every mode, on every backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr._backend import has_cpu_kernels
from jnr._ops.lighting import lit_colors
from jnr._render import is_built_in

BACKENDS = [
    "xla",
    pytest.param("cpu", marks=pytest.mark.skipif(not has_cpu_kernels(), reason="installed without kernels")),
]
# With numbers of points that are no multiple of a vector or of a chunk.
SHAPES = [(1, 3), (19, 13), (128, 2)]


def scene(shape, channels, *, highlights, num_lights=2, seed=0):
    """Operands of the op. Some normals are zero or cancel, a light has no direction, and one is behind."""
    rng = np.random.default_rng(seed)
    surface = rng.normal(size=(*shape, 8 if highlights else 4))
    surface[..., 3] = np.abs(surface[..., :3]).max(axis=-1)
    surface[0, 0, :3] = 0
    surface[-1, -1, 3] *= 1e20
    lights = np.concatenate(
        [rng.normal(size=(1 + num_lights, 3)), rng.uniform(size=(1 + num_lights, channels))], axis=1
    )
    if num_lights > 2:
        lights[-1, :3] = 0
    highlight = np.concatenate([rng.uniform(0.2, 1, size=channels), [5.5]])
    albedo, side = rng.uniform(size=(*shape, channels)), rng.choice([-1.0, 1.0], size=shape)
    return [jnp.asarray(x, jnp.float64) for x in (surface, albedo, side, lights, highlight, [0.4, 2, 3, 1])]


def colors_by_numpy(surface, albedo, side, lights, highlight, viewer):
    """The op point by point, from the formulas of Lambert and Phong."""
    surface, albedo, side, lights, highlight, viewer = map(
        np.asarray, (surface, albedo, side, lights, highlight, viewer)
    )
    colors = np.zeros(albedo.shape)
    for place in np.ndindex(side.shape):
        vector, size = surface[place][:3], surface[place][3]
        cancels = np.abs(vector).max() <= 16 * np.finfo(float).eps * size
        normal = np.zeros(3) if cancels else side[place] * vector / np.linalg.norm(vector)
        colors[place] = albedo[place] * lights[0, 3:]
        for row in lights[1:]:
            toward, color = row[:3], row[3:]
            colors[place] += albedo[place] * color * max(0, normal @ toward)
            if surface.shape[-1] == 8 and normal @ toward > 0:
                ray = viewer[:3] - viewer[3] * surface[place][4:7]
                direction = toward / np.linalg.norm(toward)
                mirrored = (2 * (normal @ direction) * normal - direction) @ ray / np.linalg.norm(ray)
                colors[place] += highlight[:-1] * color * max(0, mirrored) ** highlight[-1]
    return colors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("highlights", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_colors_are_those_of_lambert_and_phong(backend, highlights, channels, shape):
    with jax.enable_x64(True):
        operands = scene(shape, channels, highlights=highlights, num_lights=3)
        found = lit_colors(*operands, backend=backend)
        np.testing.assert_allclose(found, colors_by_numpy(*operands), atol=1e-14)
        narrow = lit_colors(*(x.astype(jnp.float32) for x in operands), backend=backend)
        assert narrow.dtype == jnp.float32
        np.testing.assert_allclose(narrow[:-1], found[:-1], atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("highlights", [False, True])
def test_derivatives_of_every_operand_mode_and_order(backend, highlights):
    with jax.enable_x64(True):
        surface, albedo, side, *rest = scene((4, 35), 3, highlights=highlights)
        # Where a cosine is zero the derivative jumps; the zero normal stays.
        surface = surface.at[..., 3].set(0)
        operands, rng = [surface, albedo, *rest], np.random.default_rng(1)
        tangents = [jnp.asarray(rng.normal(size=x.shape)) for x in operands]
        tangents[0] = tangents[0].at[0, 0, :4].set(0).at[..., 3].set(0)
        weights = jnp.asarray(rng.normal(size=albedo.shape))

        def function(surface, albedo, *rest):
            return lit_colors(surface, albedo, side, *rest, backend=backend)

        def loss(*operands):
            return jnp.sum(weights * function(*operands))

        def moved(step):
            return [x + step * t for x, t in zip(operands, tangents, strict=True)]

        def difference(f):
            return (f(*moved(1e-6)) - f(*moved(-1e-6))) / 2e-6

        np.testing.assert_allclose(jax.jvp(function, operands, tangents)[1], difference(function), atol=1e-6)
        gradient = jax.grad(loss, argnums=tuple(range(5)))
        total = sum(jnp.vdot(g, t) for g, t in zip(gradient(*operands), tangents, strict=True))
        np.testing.assert_allclose(total, difference(loss), rtol=1e-6)
        for k in range(2):
            second = jax.jvp(lambda *x, k=k: gradient(*x)[k], operands, tangents)[1]
            expected = difference(lambda *x, k=k: gradient(*x)[k])
            np.testing.assert_allclose(second, expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("highlights", [False, True])
def test_vmap_is_a_loop(backend, highlights):
    with jax.enable_x64(True):
        operands = scene((3, 50), 3, highlights=highlights)
        others = scene((3, 50), 3, highlights=highlights, seed=5)
        weights = jnp.asarray(np.random.default_rng(3).normal(size=(3, 50, 3)))

        @jax.jit
        def gradient(*operands):
            loss = lambda *x: jnp.sum(weights * lit_colors(*x, backend=backend))  # noqa: E731
            return jax.grad(loss, argnums=(0, 1, 3))(*operands)

        # Operands alone mapped, then all of them.
        for mapped in [(0,), (1,), (3,), (5,), tuple(range(6))]:
            each = [gradient(*(o if k in mapped else x for k, (x, o) in enumerate(zip(operands, others, strict=True))))]
            each.insert(0, gradient(*operands))
            pairs = zip(operands, others, strict=True)
            batch = [jnp.stack([x, o]) if k in mapped else x for k, (x, o) in enumerate(pairs)]
            found = jax.jit(jax.vmap(gradient, [0 if k in mapped else None for k in range(6)]))(*batch)
            for value, *expected in zip(found, *each, strict=True):
                np.testing.assert_allclose(value, jnp.stack(expected), atol=1e-12)
        # Views that share the surface: their cotangents are added up.
        viewers = jnp.stack([operands[-1], others[-1] + 1])

        def shared(surface):
            colors = jax.vmap(lambda v: lit_colors(*[surface, *operands[1:-1], v], backend=backend))(viewers)
            return jnp.sum(weights * colors)

        expected = sum(gradient(*operands[:-1], v)[0] for v in viewers)
        np.testing.assert_allclose(jax.grad(shared)(operands[0]), expected, atol=1e-12)


def lit(mesh, general, monkeypatch, **options):
    """A picture and its gradients by the op, or by the general code that serves shaders and lights of one's own."""
    if general:
        monkeypatch.setattr("jnr._render.is_built_in", lambda *_: False)
    colors = jnp.asarray(np.random.default_rng(0).uniform(size=mesh.vertices.shape), jnp.float32)

    @jax.jit
    def picture_and_gradients(*operands):
        def loss(vertices, colors):
            rgb = jnr.render(vertices, mesh.faces, colors, image_size=(37, 53), gradient=None, **options).rgb
            return jnp.sum(rgb**2), rgb

        gradients, rgb = jax.grad(loss, argnums=(0, 1), has_aux=True)(*operands)
        return rgb, *gradients

    return picture_and_gradients(mesh.vertices, colors)


PHONG = jnr.Phong(specular=[0.3, 0.5, 0.9], shininess=7.5)


@pytest.mark.parametrize(
    ("shader", "normals"),
    [(None, "smooth"), (jnr.Lambert(), "flat"), (PHONG, "flat"), (PHONG, "smooth"), (PHONG, "corners")],
)
@pytest.mark.parametrize("level", [1, 4])  # fewer and more corners than pixels
def test_pictures_are_those_of_the_general_code(normals, shader, level, monkeypatch):
    mesh = jnr.shapes.icosphere(level)
    if normals == "corners":
        normals = 3 * np.asarray(mesh.vertices)[np.asarray(mesh.faces)] * [1, 0.8, 1.2]
    lights = jnr.AmbientLight(0.2), *(jnr.DirectionalLight(0.5, (1, 0.5, k), (k, 1, 1)) for k in (0.5, -1.0))
    options = {"normals": normals, "shader": shader, "lights": lights}
    assert is_built_in(shader, lights)
    found = lit(mesh, False, monkeypatch, **options)
    expected = lit(mesh, True, monkeypatch, **options)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(np.abs(b).max()))


def test_other_lights_and_shaders_take_the_general_code():
    class Half(jnr.DirectionalLight):
        pass

    assert not is_built_in(lambda surface: surface.albedo, ())
    assert not is_built_in(None, [jnr.PointLight()])
    assert not is_built_in(None, [Half()])
    assert not is_built_in(jnr.Phong(), [jnr.SphericalHarmonicsLight(np.zeros(9))])


def test_number_types_are_those_of_the_textures():
    mesh = jnr.shapes.icosphere(1)
    for dtype in (jnp.bfloat16, jnp.float32):
        colors = jnp.ones(mesh.vertices.shape, dtype)
        rgb = jnr.render(*mesh[:2], colors, normals="smooth", image_size=8).rgb
        assert rgb.dtype == dtype
        np.testing.assert_allclose(
            rgb.astype(jnp.float32), jnr.render(*mesh[:2], normals="smooth", image_size=8).rgb, atol=0.01
        )
