"""Rules that many functions share: what a colour is, how large an image and a count may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnr
from jnr._ops import cpp

PLANE = jnr.shapes.plane()
# A plane that fills the image.
CAMERA = jnr.Camera(jnr.LookAt((0.0, 0.0, 1.0)), jnr.Orthographic(0.5))
BYTES = np.array([[51, 102, 255]], np.uint8)
FLOATS = BYTES.astype(np.float32) / 255
UV = PLANE.vertices[:, :2] + 0.5


def pixel(textures, **options):
    options = {"lights": (), "image_size": 2, "camera": CAMERA} | options
    return np.asarray(jnr.render(PLANE.vertices, PLANE.faces, textures, **options).rgb[0, 0])


def away(colors):
    """A pixel of the background."""
    camera = jnr.Camera(jnr.LookAlong((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)))
    return pixel(None, background=colors, camera=camera)


COLORED = {
    "vertex_colours": lambda colors: pixel(colors.repeat(4, 0)),
    "cubes": lambda colors: pixel(np.broadcast_to(colors[0], (2, 2, 2, 2, 3))),
    "image": lambda colors: pixel(jnr.UVTexture(colors[None], UV)),
    "border": lambda colors: pixel(
        jnr.UVTexture(np.zeros((1, 1, 3), np.float32), UV + 9, wrap="border", border=colors[0])
    ),
    "background": lambda colors: away(colors[0]),
    "background_image": lambda colors: away(np.broadcast_to(colors[0], (2, 2, 3))),
    "colors_to_cubes": lambda colors: np.asarray(jnr.colors_to_cubes(colors.repeat(4, 0), PLANE.faces)[0, 0, 0, 0]),
    "stacked": lambda colors: np.asarray(jnr.stack([PLANE._replace(textures=colors.repeat(4, 0))]).textures[0, 0]),
}


@pytest.mark.parametrize("color_of", COLORED.values(), ids=COLORED)
def test_integer_colours_are_scaled_by_the_largest_number_of_their_type(color_of):
    expected = color_of(FLOATS)
    assert expected.max() in (0, 1)
    for colors in (BYTES, BYTES.astype(np.uint16) * 257):
        np.testing.assert_allclose(color_of(colors), expected, atol=1e-6)


@pytest.mark.validation
@pytest.mark.parametrize("color_of", COLORED.values(), ids=COLORED)
def test_colours_of_other_integers_are_an_error_with_the_rule(color_of):
    for colors in (BYTES.astype(np.int32), BYTES.astype(np.int8)):
        with pytest.raises(TypeError, match=r"must be colours: floats with 1 as the full colour, uint8 with 255"):
            color_of(colors)


@pytest.mark.validation
def test_integers_of_python_are_colours_if_they_are_zero_or_one():
    np.testing.assert_array_equal(away((1, 0, 1)), (1, 0, 1))
    np.testing.assert_array_equal(away(1), (1, 1, 1))
    with pytest.raises(TypeError, match=r"^background must be colours.*got integers"):
        away((255, 0, 0))


def test_traced_bytes_are_colours():
    np.testing.assert_allclose(jax.jit(_traced)(BYTES), FLOATS[0])


def _traced(colors):
    options = {"lights": (), "image_size": 2, "camera": CAMERA}
    return jnr.render(PLANE.vertices, PLANE.faces, jnp.repeat(colors, 4, 0), **options).rgb[0, 0]


def test_attributes_are_numbers_and_not_scaled():
    values = jnp.full((4, 1), 200, jnp.uint8)
    rendering = jnr.render(*PLANE, attributes=values, camera=CAMERA, image_size=2)
    np.testing.assert_allclose(rendering.attributes, 200)


@pytest.mark.validation
@pytest.mark.parametrize("size", [(1, 2**24 + 1), (2**24 + 1, 1), 2**31, (2**63, 1), 2**15 + 1])
def test_image_that_is_too_large_is_an_error(size):
    clip = jnp.zeros((3, 4), jnp.float32)
    with pytest.raises(ValueError, match=r"^image_size must be at most 2\*\*(24 pixels per axis|30 pixels in total)"):
        jnr.rasterize(clip, jnp.array([[0, 1, 2]]), size)


@pytest.mark.validation
def test_samples_of_an_image_that_are_too_many_are_an_error():
    with pytest.raises(ValueError, match=r"^image_size times antialias must be at most 2\*\*24 pixels per axis"):
        jnr.render_silhouette(*PLANE[:2], image_size=(1, 2**23), antialias=3)


WIDE = 2**24 + 4
FACES = jnp.array([[[0, 1, 2]]], jnp.int32)
CLIP = jnp.zeros((1, 3, 4), jnp.float32)
WIDE_CALLS = {
    "rasterize": ((1, 1, WIDE), jnp.int32, lambda: (CLIP, FACES), {"cull": np.int64(0)}),
    "barycentrics": ((1, WIDE, 1, 3), jnp.float32, lambda: (CLIP, FACES, jnp.zeros((1, WIDE, 1), jnp.int32)), {}),
    "edge_sweep_bwd": (
        (1, 3, 4),
        jnp.float32,
        lambda: (
            *[jnp.zeros((1, 1, WIDE, 1), jnp.float32)] * 2,
            *(CLIP, FACES, jnp.zeros((1, 1, WIDE), jnp.int32), jnp.zeros((1, 0, 0), jnp.float32)),
        ),
        {"eps": np.float64(1e-3), "silhouettes_only": np.bool_(False)},
    ),
}


@pytest.mark.parametrize(("shape", "dtype", "operands", "options"), WIDE_CALLS.values(), ids=WIDE_CALLS)
def test_kernel_refuses_an_image_whose_columns_float32_cannot_count(shape, dtype, operands, options, request):
    name = request.node.callspec.id
    call = jax.ffi.ffi_call(cpp.target(name, "float32"), jax.ShapeDtypeStruct(shape, dtype))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"at most 2\*\*24 rows and columns"):
        jax.block_until_ready(call(*operands(), **options))


@pytest.mark.validation
@pytest.mark.parametrize("value", [2**31, 2**63, -(2**63) - 1, 2**70])
def test_integer_that_is_too_large_is_an_error_that_names_the_argument(value):
    with pytest.raises(ValueError, match=r"^faces must hold "):
        jnr.rasterize(jnp.zeros((3, 4), jnp.float32), [[0, 1, value]], 8)  # pyright: ignore[reportArgumentType]: wrong on purpose
    with pytest.raises(ValueError, match=r"^eye must hold numbers of at most 32 bits"):
        jnr.LookAt((value, 0, 0)).camera_from_world()


COUNTS = {
    "count": (2**26, lambda n: jnr.sample_surface(jax.random.key(0), *PLANE[:2], n)),
    "size": (1024, lambda n: jnr.voxelize(*PLANE[:2], n)),
    "subdivisions": (10, jnr.shapes.icosphere),
    "divisions": (512, jnr.shapes.teapot),
    "rows": (8192, lambda n: jnr.shapes.plane(rows=n)),
    "columns": (8192, lambda n: jnr.shapes.torus(columns=n)),
    "tile": (256, lambda n: jnr.cubes_to_uv(jnp.zeros((1, 2, 2, 2, 3), jnp.float32), tile=n)),
}


@pytest.mark.validation
@pytest.mark.parametrize("name", COUNTS)
def test_count_beyond_its_bound_is_an_error_that_says_the_bound(name):
    most, call = COUNTS[name]
    for count in (most + 1, 2**31, 2**70):
        with pytest.raises(ValueError, match=rf"^{name} must be at most {most}, got {count}"):
            call(count)
