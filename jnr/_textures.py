"""Textures: vertex colours, a cube of texels per face, or UV-mapped images; and conversions between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._inline_jit import inline_jit
from jnr._ops.gather import gather, weighted_gather
from jnr._ops.indexing import gather_in_bounds, gather_or_fill
from jnr._ops.interpolate import interpolate_unchecked
from jnr._ops.rasterize import Fragments, check_fragments
from jnr._ops.texture import WRAPS, sample_texels, texel_table, uv_and_steps
from jnr._pytree import pytree

Wrap = Literal["repeat", "mirror", "clamp", "border"]
Filter = Literal["nearest", "bilinear", "trilinear"]
Alpha = Literal["blend", "mask"]
FILTERS = ("nearest", "bilinear", "trilinear")
ALPHAS = ("blend", "mask")
# Of what is made for each face.
MAX_TEXELS_PER_SIDE = 256


@pytree(static=("wrap", "filter", "alpha"))
class UVTexture:
    """Images mapped onto a mesh by texture coordinates; `render` takes one as `textures`.

    (0, 0) is the lower left corner of an image and (1, 1) the upper right, as in OBJ files and OpenGL. The centre of
    the texel in row r and column c of `height` x `width` lies at ((c + 0.5) / width, 1 - (r + 0.5) / height).

    Gradients: reach `images`, `border`, `factor`, `uv` and, through the barycentrics, the positions. Nearest sampling
    has no gradient to `uv`.

    Attributes:
        images: One image, or one per material, of any sizes and with the same number of channels; row 0 at the top.
        uv: Texture coordinates: one row per vertex, or rows that `uv_faces` refers to.
        uv_faces: Rows of `uv` at each face's corners; None if `uv` has one row per vertex.
        material: Index of each face's image; None if all faces have the same image.
        wrap: Texels outside of the image: `"repeat"`, `"mirror"` (every other copy is mirrored), `"clamp"` (the
            outermost texel), `"border"` (the colour `border`); or one of these per image. A pair `(across, up)` stands
            for one name if the two axes differ, so one image takes `wrap=(("repeat", "clamp"),)`.
        filter: `"nearest"`, `"bilinear"`, or `"trilinear"`: bilinear in the two mip levels whose texels are closest to
            a pixel in size, which prevents distant textures from flickering.
        border: Colour outside of the images for `"border"`: a scalar, or one value per channel.
        sizes: (height, width) of the part of each image that is used, which starts at its first row and column; None if
            all of it is. `jnr.stack` pads images to one size.
        alpha: Makes the last of four channels opacity, which light does not multiply. `"blend"` mixes the colour with
            the background; `"mask"` leaves the surface out where its opacity is below `alpha_cutoff`; a sequence has
            one of these per image. With None all four channels are features. Only the nearest surface counts: what
            lies behind a transparent one is not rendered.
        alpha_cutoff: Opacity from which a `"mask"` keeps the surface: a scalar, or one value per image.
        factor: Multiplies the sampled colours, so that objects of different colours share an image: one value per
            channel, or one row per face; None for no factor.

    Example:
        >>> checker = jnp.tile(jnp.eye(2), (4, 4))[..., None].repeat(3, axis=-1)
        >>> plane = jnr.shapes.plane()
        >>> texture = jnr.UVTexture(checker, plane.vertices[:, :2] + 0.5, filter="nearest")
        >>> image = jnr.render(plane.vertices, plane.faces, texture).rgb
    """

    images: (
        Float[Array | np.ndarray, "... rows columns channels"] | Sequence[Float[Array | np.ndarray, "... _ _ channels"]]
    )
    uv: Float[Array | np.ndarray, "... uvs 2"]
    uv_faces: Int[Array | np.ndarray, "... faces 3"] | None = None
    material: Int[Array | np.ndarray, "... faces"] | None = None
    wrap: Wrap | tuple[Wrap | tuple[Wrap, Wrap], ...] = "repeat"
    filter: Filter = "bilinear"
    border: ArrayLike | Sequence[float] = 0.0
    sizes: Sequence[Int[Array | np.ndarray, "... 2"]] | None = None
    alpha: Alpha | tuple[Alpha, ...] | None = None
    alpha_cutoff: ArrayLike | Sequence[float] = 0.5
    factor: Float[ArrayLike, "... channels"] | Sequence[float] | None = None


# One colour per vertex, one cube of texels per face, or images.
Textures = jax.Array | np.ndarray | UVTexture


@jax.tree_util.register_static
class _Constants(tuple):
    """One value per image, constants to JAX."""

    __slots__ = ()


@jax.tree_util.register_static
class _Filter(str):
    """The filter, a constant to JAX."""

    __slots__ = ()


class CheckedUV(NamedTuple):
    """A `UVTexture` whose fields are arrays of the right shapes."""

    images: list
    sizes: list | None
    uv: jax.Array
    uv_faces: jax.Array
    material: jax.Array | None
    wraps: _Constants  # a name, or a pair of names for the directions of u and v
    filter: _Filter
    border: jax.Array
    alphas: _Constants | None
    alpha_cutoff: jax.Array
    factor: jax.Array | None  # (channels,) or (faces, channels)


def check_uv(texture: UVTexture, faces: Int[Array, "faces 3"], num_vertices: int) -> CheckedUV:
    """The texture's fields as arrays that match the mesh."""
    _require_uv(texture)
    images = texture.images
    images = list(images) if isinstance(images, (tuple, list)) else [images]
    if not images:
        raise ValueError("images must hold at least one image, got none.")
    images = [_checks.as_color(image, "images") for image in images]
    dtype = jnp.result_type(*images)
    for image in images:
        _checks.check_shape(image, "images", "rows", "columns", images[0].shape[-1] if image.ndim == 3 else "channels")
        if 0 in image.shape[:2]:
            raise ValueError(f"images must have at least one texel, got shape {image.shape}.")
    wraps = _per_image(texture.wrap, "wrap", len(images))
    for wrap in wraps:
        is_pair = isinstance(wrap, (tuple, list)) and len(wrap) == 2
        for name in wrap if is_pair else (wrap,):
            _checks.check_choice(name, "wrap", WRAPS, others="a pair of these")
    _checks.check_choice(texture.filter, "filter", FILTERS)
    uv = _checks.as_compute(texture.uv, "uv")
    num_faces = faces.shape[0]
    if texture.uv_faces is None:
        _checks.check_shape(uv, "uv", num_vertices, 2)
        uv_faces = faces
    else:
        _checks.check_shape(uv, "uv", "uvs", 2)
        uv_faces = _checks.as_indices(texture.uv_faces, "uv_faces", 3, uv.shape[0], "rows of uv", lowest=-1)
        _checks.check_shape(uv_faces, "uv_faces", num_faces, 3)
    material = texture.material
    if material is not None:
        material = _checks.as_numbers(material, "material", num_faces, len(images), "images")
    elif len(images) > 1:
        raise ValueError(f"material must say which of the {len(images)} images each face has, got None.")
    sizes = texture.sizes
    if sizes is not None:
        is_sequence = isinstance(sizes, (tuple, list)) or getattr(sizes, "ndim", 0) > 0
        if (
            not is_sequence
            or len(sizes) != len(images)
            or any(_checks.as_array(size, "sizes").shape != (2,) for size in sizes)
        ):
            raise ValueError(f"sizes must hold (height, width) of each of the {len(images)} images, got {sizes}.")
        for size, image in zip(sizes, images, strict=True):
            if _checks.is_concrete(size) and not np.all((np.asarray(size) >= 1) & (size <= np.array(image.shape[:2]))):
                raise ValueError(f"sizes must lie within their images, got {size} for {image.shape[:2]}.")
        # Traced sizes are not checked and must not lead out of the table.
        sizes = [
            jnp.clip(jnp.asarray(size, jnp.int32), 1, jnp.array(image.shape[:2], jnp.int32))
            for size, image in zip(sizes, images, strict=True)
        ]
    border = _checks.as_color(texture.border, "border").astype(dtype)
    _checks.check_finite(texture.border, "border")
    if border.ndim > 1 or border.size not in (1, images[0].shape[-1]):
        raise ValueError(
            f"border must be a number or have one value for each of the {images[0].shape[-1]} channels, got shape "
            f"{border.shape}."
        )
    alphas, cutoff = _check_alpha(texture, images)
    factor = _check_factor(texture.factor, num_faces, images[0].shape[-1], dtype)
    images, filter = [image.astype(dtype) for image in images], _Filter(texture.filter)
    return CheckedUV(images, sizes, uv, uv_faces, material, wraps, filter, border, alphas, cutoff, factor)


def _check_factor(factor, num_faces, channels, dtype):
    if factor is None:
        return None
    colors = _checks.as_color(factor, "factor")
    _checks.check_finite(factor, "factor")
    if colors.shape not in ((channels,), (num_faces, channels)):
        raise ValueError(
            f"factor must have shape ({channels},), or ({num_faces}, {channels}) per face, got {colors.shape}."
        )
    return colors.astype(dtype)


def _per_image(value, name, count):
    """One entry per image of an argument that is one name for all images or a sequence of one per image."""
    if not isinstance(value, (str, tuple, list)):
        raise TypeError(f"{name} must be a name or one per image, got {type(value).__name__}.")
    entries = (value,) * count if isinstance(value, str) else tuple(value)
    if len(entries) != count:
        raise ValueError(f"{name} must be one name or one for each of the {count} images, got {value!r}.")
    return _Constants(tuple(entry) if isinstance(entry, list) else entry for entry in entries)


def one_or_per_image(entries: Sequence) -> Any:
    """A field of `UVTexture` from its entries per image: one name if all are the same name."""
    return entries[0] if len(set(entries)) == 1 and isinstance(entries[0], str) else tuple(entries)


def _check_alpha(texture, images):
    """What each image's opacity does, None if there is none, and the cutoff."""
    cutoff = _checks.as_compute(texture.alpha_cutoff, "alpha_cutoff")
    _checks.check_finite(texture.alpha_cutoff, "alpha_cutoff")
    if cutoff.shape not in ((), (1,), (len(images),)):
        raise ValueError(
            f"alpha_cutoff must be a number or have one value for each of the {len(images)} images, got shape "
            f"{cutoff.shape}."
        )
    if texture.alpha is None:
        return None, cutoff
    alphas = _per_image(texture.alpha, "alpha", len(images))
    for alpha in alphas:
        _checks.check_choice(alpha, "alpha", ALPHAS, others="None")
    if images[0].shape[-1] != 4:
        raise ValueError(f"alpha must be None unless images have 4 channels, got {alphas[0]!r} and {images[0].shape}.")
    return alphas, cutoff


def _require_uv(texture):
    if not isinstance(texture, UVTexture):
        raise TypeError(f"texture must be a jnr.UVTexture, got {type(texture).__name__}.")


def sample_uv(
    texture: UVTexture,
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    clip_positions: Float[ArrayLike, "vertices 4"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Samples a UV texture at every pixel; zero on background.

    Gradients: as `UVTexture` says; reaches `clip_positions` through `fragments.barycentric` and, with trilinear
    filtering, through the level.

    References:
        Williams, Pyramidal parametrics, SIGGRAPH 1983.
    """
    clip_positions = _checks.as_compute(clip_positions, "clip_positions")
    _checks.check_shape(clip_positions, "clip_positions", "vertices", 4)
    faces = _checks.as_faces(faces, clip_positions.shape[0])
    fragments = check_fragments(fragments)
    check_backend(backend)
    checked = check_uv(texture, faces, clip_positions.shape[0])
    return _sample_uv(checked, faces, fragments, clip_positions, backend=backend)


@inline_jit("backend")
def _sample_uv(checked, faces, fragments, clip_positions, *, backend):
    covered = fragments.face_index >= 0
    channels = checked.images[0].shape[-1]
    if 0 in (faces.shape[0], clip_positions.shape[0], checked.uv.shape[0], channels):
        return jnp.zeros((*covered.shape, channels), checked.images[0].dtype)
    uv = _coordinates_dtype(checked)
    if checked.filter == "trilinear":
        operands = clip_positions, uv, faces, checked.uv_faces, fragments
        coordinates = uv_and_steps(*operands, backend=backend)
    else:
        coordinates = interpolate_unchecked(uv, checked.uv_faces, fragments, backend=backend)
    material = jnp.minimum(fragments.face_index, 0)
    if checked.material is not None:
        material = gather(checked.material[:, None], fragments.face_index, backend=backend)[..., 0]
    colors = _sample(checked, coordinates, material, backend=backend)
    if checked.factor is None:
        return colors
    if checked.factor.ndim == 1:
        return colors * checked.factor[None, None]
    return colors * gather(checked.factor, fragments.face_index, backend=backend)


def _coordinates_dtype(checked):
    """Texture coordinates in the dtype that texels are blended in."""
    return checked.uv.astype(jnp.promote_types(_checks.widened(checked.images[0]).dtype, checked.uv.dtype))


@inline_jit("backend")
def _sample(checked, coordinates, material, *, backend=None):
    """Colours `(..., channels)` of the images `material` `(...)`, zero where it is negative.

    Coordinates are as `sample_texels` takes them.
    """
    images = checked.images
    has_levels = coordinates.shape[-1] > 2
    levels = max(max(image.shape[:2]) for image in images).bit_length() if has_levels else 1
    wraps = tuple((wrap, wrap) if isinstance(wrap, str) else (wrap[0], wrap[1]) for wrap in checked.wraps)
    texels, places = texel_table(
        [image.astype(coordinates.dtype) for image in images],
        checked.sizes,
        checked.border,
        wraps=wraps,
        levels=levels,
        backend=backend,
    )
    nearest = checked.filter == "nearest"
    colors = sample_texels(texels, coordinates, material, places, levels=levels, nearest=nearest, backend=backend)
    return colors.astype(images[0].dtype)


def sample_cubes(
    cubes: Float[ArrayLike, "faces size size size channels"], fragments: Fragments, *, backend: Backend | None = None
) -> Float[Array, "height width channels"]:
    """Samples a texture cube per face, trilinear in the barycentrics; zero on background.

    Axis k of a face's cube is the weight of its corner k, from 0 to 1. Only the part near the plane where the weights
    sum to one is visible.

    Gradients: reach `cubes` and, through the barycentrics, the positions.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 3.1.
    """
    fragments = check_fragments(fragments)
    check_backend(backend)
    return _sample_cubes(_check_cubes(cubes, "cubes"), fragments, backend=backend)


def _check_cubes(cubes, name):
    cubes = _checks.as_color(cubes, name)
    if cubes.ndim != 5 or len(set(cubes.shape[1:4])) != 1:
        raise ValueError(f"{name} must have shape (faces, t, t, t, channels), got {cubes.shape}.")
    if cubes.shape[1] == 0:
        raise ValueError(f"{name} must have at least one texel per side, got shape {cubes.shape}.")
    return cubes


@inline_jit("backend")
def _sample_cubes(cubes, fragments, *, backend):
    num_faces, size, channels = cubes.shape[0], cubes.shape[1], cubes.shape[-1]
    covered = fragments.face_index >= 0
    if 0 in cubes.shape:
        return jnp.zeros((*covered.shape, channels), cubes.dtype)
    position = fragments.barycentric.astype(_checks.widened(cubes).dtype) * (size - 1)
    low = jnp.clip(jnp.floor(lax.stop_gradient(position)).astype(jnp.int32), 0, max(size - 2, 0))
    fraction = position - low.astype(position.dtype)
    face = jnp.clip(fragments.face_index, 0, num_faces - 1)
    indices, weights = [], []
    for corner in range(8 if size > 1 else 1):
        bits = [(corner >> k) & 1 for k in range(3)]
        weight = jnp.ones(covered.shape, position.dtype)
        index = face
        for k in range(3):
            weight = weight * (fraction[..., k] if bits[k] else 1 - fraction[..., k])
            index = index * size + low[..., k] + bits[k]
        indices.append(jnp.where(covered, index, -1))
        weights.append(weight)
    indices, weights = jnp.stack(indices, axis=-1), jnp.stack(weights, axis=-1)
    return weighted_gather(cubes.reshape(-1, channels), weights, indices, backend=backend)


def check_textures(
    textures: Textures | None, faces: Int[Array, "faces 3"], num_vertices: int
) -> Array | CheckedUV | None:
    """Whatever `render` takes as textures, as arrays that match the mesh."""
    if textures is None:
        return None
    if isinstance(textures, UVTexture):
        return check_uv(textures, faces, num_vertices)
    colors = _checks.as_color(textures, "textures")
    if colors.ndim == 5:
        cubes = _check_cubes(colors, "textures")
        _checks.check_shape(cubes, "textures", faces.shape[0], *cubes.shape[1:])
        return cubes
    if colors.ndim != 2:
        raise ValueError(
            "textures must be vertex colours (vertices, channels), texture cubes (faces, t, t, t, channels) or a "
            f"UVTexture, got shape {colors.shape}."
        )
    _checks.check_shape(colors, "textures", num_vertices, "channels")
    return colors


def is_vertex_colors(textures: Array | CheckedUV | None) -> bool:
    """Whether checked textures are vertex colours."""
    return isinstance(textures, jax.Array) and textures.ndim == 2


def sample_textures(
    textures: Array | CheckedUV | None,
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    clip_positions: Float[Array, "vertices 4"],
    *,
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Colour of each pixel from textures that have been checked; white where there are none, zero on background."""
    if textures is None:
        return _white(fragments)
    if isinstance(textures, CheckedUV):
        return _sample_uv(textures, faces, fragments, clip_positions, backend=backend)
    if is_vertex_colors(textures):
        return interpolate_unchecked(textures, faces, fragments, backend=backend)
    return _sample_cubes(textures, fragments, backend=backend)


@inline_jit()
def _white(fragments):
    """White at every covered pixel."""
    covered = (fragments.face_index >= 0)[..., None]
    return jnp.broadcast_to(covered, (*covered.shape[:2], 3)).astype(fragments.barycentric.dtype)


def has_opacity(textures: Array | CheckedUV | None) -> bool:
    """Whether textures have an opacity, which is not a colour."""
    return isinstance(textures, CheckedUV) and textures.alphas is not None


def split_opacity(
    textures: Array | CheckedUV | None, color: Float[Array, "height width channels"], fragments: Fragments
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Splits sampled colours into colour, opacity and where the surface is kept.

    Opacity and `kept` are `(height, width, 1)`. Opacity is None if the textures have none; `kept` is None if no image
    is a mask, and False where a mask's opacity is below its cutoff. There a surface is as if it were not there.
    """
    if not isinstance(textures, CheckedUV) or textures.alphas is None:
        return color, None, None
    color, opacity = color[..., :3], color[..., 3:]
    if "mask" not in textures.alphas:
        return color, opacity, None
    is_mask, cutoff = jnp.asarray([alpha == "mask" for alpha in textures.alphas]), textures.alpha_cutoff
    count = len(textures.images)
    cutoff = jnp.broadcast_to(cutoff, (count,)).astype(opacity.dtype)
    if textures.material is None:
        is_mask, cutoff = is_mask[0], cutoff[0]
    else:
        material = gather_in_bounds(textures.material, jnp.maximum(fragments.face_index, 0))[..., None]
        is_mask, cutoff = gather_in_bounds(is_mask, material), gather_in_bounds(cutoff, material)
    return color, jnp.where(is_mask, 1, opacity), ~is_mask | (opacity >= cutoff)


def uv_to_cubes(
    texture: UVTexture, faces: Int[ArrayLike, "faces 3"], size: int = 4, *, num_vertices: int | None = None
) -> Float[Array, "faces size size size channels"]:
    """Texture cubes with the colours of a UV texture.

    Texel (i, j, k) of a face's cube has the colour of the point with weights (i, j, k) / (i + j + k), which is the
    closest point of the visible part of the cube; texel (0, 0, 0) has the colour of the centre. Detail finer than the
    cube is lost. Trilinear textures are sampled at their finest level. Opacity is left out, see `UVTexture.alpha`.

    Gradients: reach the texture's images and coordinates.

    Args:
        texture: The texture.
        faces: Vertex indices of each face.
        size: Texels along each side of a cube, from 2 to 256.
        num_vertices: Number of vertices of the mesh, to check a texture with one coordinate per vertex; None takes the
            texture's.

    References:
        Neural Renderer's `load_obj` does the same with different sampling.
    """
    _require_uv(texture)
    size = _checks.as_count(size, "size", least=2, most=MAX_TEXELS_PER_SIDE)
    if num_vertices is not None:
        num_vertices = _checks.as_count(num_vertices, "num_vertices", least=0)
    else:
        num_vertices = int(jnp.shape(texture.uv)[0]) if texture.uv_faces is None else 2**31 - 1
    faces = _checks.as_faces(faces, num_vertices)
    checked = check_uv(texture, faces, num_vertices)
    channels = checked.images[0].shape[-1] if checked.alphas is None else 3
    if faces.shape[0] == 0 or checked.uv.shape[0] == 0:
        return jnp.zeros((faces.shape[0], size, size, size, channels), checked.images[0].dtype)
    weights = np.moveaxis(np.indices((size, size, size)), 0, -1).reshape(-1, 3).astype(np.float32)
    weights[0] = 1
    weights /= weights.sum(axis=-1, keepdims=True)
    corners = gather_or_fill(_coordinates_dtype(checked), checked.uv_faces)
    uv = jnp.einsum("tk,fkc->ftc", jnp.asarray(weights, corners.dtype), corners, precision=lax.Precision.HIGHEST)
    material = jnp.zeros(faces.shape[0], jnp.int32) if checked.material is None else checked.material
    material = jnp.where(checked.uv_faces[:, 0] >= 0, material, -1)
    color = _sample(checked, uv, jnp.broadcast_to(material[:, None], uv.shape[:2]))
    if checked.factor is not None:
        color = color * (checked.factor[None, None] if checked.factor.ndim == 1 else checked.factor[:, None])
    return color[..., :channels].reshape(faces.shape[0], size, size, size, channels)


def colors_to_cubes(
    colors: Float[ArrayLike, "vertices channels"], faces: Int[ArrayLike, "faces 3"]
) -> Float[Array, "faces 2 2 2 channels"]:
    """Texture cubes with the colours of vertex colours: exact with two texels per side, since both are linear."""
    colors = _checks.as_color(colors, "colors")
    _checks.check_shape(colors, "colors", "vertices", "channels")
    faces = _checks.as_faces(faces, colors.shape[0])
    corners = [gather_or_fill(colors, faces[:, k]) for k in range(3)]
    weights = jnp.asarray(np.moveaxis(np.indices((2, 2, 2)), 0, -1), colors.dtype)
    # Trilinear interpolation of weighted sums of the corners is the weighted sum of the corners.
    cubes = jnp.zeros((faces.shape[0], 2, 2, 2, colors.shape[1]), colors.dtype)
    for k, corner in enumerate(corners):
        cubes = cubes + corner[:, None, None, None] * weights[None, ..., k, None]
    return cubes


def cubes_to_uv(cubes: Float[ArrayLike, "faces t t t channels"], *, tile: int = 16) -> UVTexture:
    """A UV texture with the colours of texture cubes: one image with a square per face.

    The corners of a face lie on the centres of its square's outer texels, so that bilinear sampling reads no texel of
    another face. It is exact for cubes with 2 texels per side that are linear in the barycentrics (`colors_to_cubes`),
    and at the texels if `tile - 1` is a multiple of `t - 1`.

    Gradients: reach `cubes`.

    Args:
        cubes: Texture cubes.
        tile: Texels along the side of a face's square, from 2 to 256.
    """
    cubes = _checks.as_color(cubes, "cubes")
    _checks.check_shape(cubes, "cubes", "faces", *(cubes.shape[1:2] * 3), "channels")
    tile = _checks.as_count(tile, "tile", least=2, most=MAX_TEXELS_PER_SIDE)
    num_faces = cubes.shape[0]
    across = max(int(np.ceil(np.sqrt(num_faces))), 1)
    down = max(-(-num_faces // across), 1)
    row, column = np.indices((tile, tile)) / (tile - 1)
    # Texels just beyond the long side continue the colours; those farther away are never sampled.
    beyond = np.clip(1 - row - column, -1 / (tile - 1), None)
    weights = np.stack([beyond, column, row], axis=-1)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    face = np.arange(across * down).reshape(down, across).repeat(tile, 0).repeat(tile, 1)
    weights = jnp.asarray(np.tile(weights, (down, across, 1)), cubes.dtype)
    face = jnp.asarray(np.where(face < num_faces, face, -1), jnp.int32)
    image = sample_cubes(cubes, Fragments(face, weights, weights[..., 0]))

    index = np.arange(num_faces)
    origin = np.stack([index % across, index // across], axis=-1)[:, None] * tile
    corners = origin + 0.5 + np.array([[0, 0], [tile - 1, 0], [0, tile - 1]])
    uv = corners / (across * tile, down * tile)
    uv[..., 1] = 1 - uv[..., 1]
    uv_faces = np.arange(3 * num_faces, dtype=np.int32).reshape(-1, 3)
    return UVTexture(image, jnp.asarray(uv.reshape(-1, 2), jnp.float32), jnp.asarray(uv_faces), wrap="clamp")
