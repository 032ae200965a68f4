"""Textures: vertex colours, a cube of texels per face, or UV-mapped images; and conversions between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._inline_jit import inline_jit
from jnr._ops.barycentrics import visible_corners
from jnr._ops.barycentrics.definition import barycentric_derivatives
from jnr._ops.gather import gather, weighted_gather
from jnr._ops.indexing import gather_in_bounds, gather_or_fill
from jnr._ops.interpolate import interpolate_unchecked
from jnr._ops.rasterize import Fragments, check_fragments
from jnr._pytree import pytree

Wrap = Literal["repeat", "mirror", "clamp", "border"]
Filter = Literal["nearest", "bilinear", "trilinear"]
Alpha = Literal["blend", "mask"]
WRAPS = ("repeat", "mirror", "clamp", "border")
FILTERS = ("nearest", "bilinear", "trilinear")
ALPHAS = ("blend", "mask")
# Of what is made for each face.
MAX_TEXELS_PER_SIDE = 256


@pytree(static=("wrap", "filter", "alpha"))
class UVTexture:
    """Images mapped onto a mesh by texture coordinates; `render` takes one as `textures`.

    (0, 0) is the lower left corner of an image and (1, 1) the upper right, as in OBJ files and OpenGL. The centre of
    the texel in row r and column c of `height` x `width` lies at ((c + 0.5) / width, 1 - (r + 0.5) / height).

    Gradients: reach `images`, `border`, `uv` and, through the barycentrics, the positions. Nearest sampling has no
    gradient to `uv`.

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
    images, filter = [image.astype(dtype) for image in images], _Filter(texture.filter)
    return CheckedUV(images, sizes, uv, uv_faces, material, wraps, filter, border, alphas, cutoff)


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
    uv = interpolate_unchecked(checked.uv, checked.uv_faces, fragments, backend=backend)
    material = None
    if checked.material is not None:
        material = gather_in_bounds(checked.material, jnp.maximum(fragments.face_index, 0))
    step = None
    if checked.filter == "trilinear":
        step = _uv_steps(checked, faces, fragments, clip_positions, uv, backend)
    color = _sample(checked, covered, uv, material, step, nearest=checked.filter == "nearest", backend=backend)
    return jnp.where(covered[..., None], color, 0)


def _uv_steps(checked, faces, fragments, clip_positions, uv, backend):
    """Derivatives of (u, v) with respect to column and to row, each `(height, width)`."""
    read = partial(gather, backend=backend)
    gradient = barycentric_derivatives(clip_positions, faces, fragments.face_index, gather=read)
    corners = read(checked.uv, visible_corners(checked.uv_faces, fragments.face_index, backend=backend))
    covered = fragments.face_index >= 0
    # An image for each number: XLA for the CPU does not vectorize short last axes.
    edges = [[jnp.where(covered, corners[..., k, i] - uv[..., i], 0) for i in range(2)] for k in range(3)]
    return [
        [sum(edges[k][i] * gradient[k][axis].astype(uv.dtype) for k in range(3)) for i in range(2)] for axis in range(2)
    ]


class _Pyramid(NamedTuple):
    """All mip levels of all images as rows of one table, and where each level is."""

    texels: jax.Array
    places: jax.Array  # (images * levels, 4), int32: the fields of _Place
    levels: int


class _Place(NamedTuple):
    """Where the texels of a level are in the table: the first one, the distance of rows, and the level's size."""

    first: jax.Array
    stride: jax.Array
    height: jax.Array
    width: jax.Array


def _pyramid(images, sizes, *, mipmap: bool) -> _Pyramid:
    levels = max(max(image.shape[:2]) for image in images).bit_length() if mipmap else 1
    tables, places = [], []
    offset = 0
    for k, image in enumerate(images):
        size = image.shape[:2] if sizes is None else sizes[k]
        for level in range(levels):
            if level:
                image, size = _halve(image, size)
            tables.append(image.reshape(-1, image.shape[-1]))
            places.append((offset, image.shape[1], *size))
            offset += image.shape[0] * image.shape[1]
    if offset >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 texels in all, got {offset}.")
    return _Pyramid(jnp.concatenate(tables), jnp.array(places, jnp.int32), levels)


def _halve(image, size):
    """The next level: each texel is the mean of the area that it covers, also where the size is odd."""
    if isinstance(size, tuple) and size[0] % 2 == size[1] % 2 == 0:
        height, width, channels = image.shape
        # Sums over rows and slices of columns: XLA for the CPU vectorizes these, and their transposes.
        image = jnp.sum(0.25 * image.reshape(height // 2, 2, width * channels), axis=1)
        pairs = image.reshape(height // 2, width // 2, 2 * channels)
        return pairs[..., :channels] + pairs[..., channels:], (height // 2, width // 2)
    for axis in range(2):
        image = _halve_axis(jnp.moveaxis(image, axis, 0), jnp.asarray(size[axis]))
        image = jnp.moveaxis(image, 0, axis)
    if isinstance(size, tuple):
        return image, tuple(max(n // 2, 1) for n in size)
    return image, jnp.maximum(size // 2, 1)


def _halve_axis(image, n):
    # With n = 2m texels each covers two. With n = 2m + 1 each covers 2 + 1/m: one texel and parts of its neighbours.
    rows = max(image.shape[0] // 2, 1)
    image = jnp.pad(image, ((0, 2 * rows + 1 - image.shape[0]), (0, 0), (0, 0)))
    i, half = jnp.arange(rows, dtype=image.dtype), (n // 2).astype(image.dtype)
    odd, length = n % 2 == 1, jnp.maximum(n, 1).astype(image.dtype)
    weights = [
        jnp.where(odd, jnp.where(n == 1, 1, (half - i) / length), 0.5),
        jnp.where(odd, half / length, 0.5),
        jnp.where(odd & (n > 1), (i + 1) / length, 0),
    ]
    return sum(weights[k].reshape(-1, 1, 1) * image[k : k + 2 * rows : 2] for k in range(3))


@inline_jit("nearest", "backend")
def _sample(checked, mask, uv, material, step, *, nearest, backend=None):
    """Colours at texture coordinates `(..., 2)`, of the images `material` `(...)`, at the level that `step` determines.

    Undefined where `mask` `(...)` is False.
    """
    pyramid = _pyramid(checked.images, checked.sizes, mipmap=step is not None)
    row = None if material is None else material * pyramid.levels
    (place,) = _at_row([pyramid.places], row, backend)
    if step is None:
        return _blend(checked, pyramid, _terms(checked, mask, uv, material, place, nearest=nearest), backend)
    width, height = place.width.astype(uv.dtype), place.height.astype(uv.dtype)
    largest = jnp.maximum(*((along_u * width) ** 2 + (along_v * height) ** 2 for along_u, along_v in step))
    # Half the logarithm of the square. Below one texel per pixel it is the first level, which has no derivative.
    magnified = ~(largest > 1)
    level = jnp.where(magnified, 0, 0.5 * jnp.log2(jnp.where(magnified, 1, largest)))
    # An image that is smaller than the largest reaches one texel at an earlier level.
    last = jnp.floor(jnp.log2(jnp.maximum(width, height)) + 1e-3)
    level = jnp.where(level < last, level, last)
    low = jnp.clip(lax.stop_gradient(jnp.floor(level)), 0, pyramid.levels - 1)
    fraction = level - low
    row = low.astype(jnp.int32) if row is None else row + low.astype(jnp.int32)
    # The level above, which for the last is itself.
    is_last = jnp.all(pyramid.places[:, 2:] == 1, axis=1, keepdims=True)
    above = jnp.where(is_last, pyramid.places, jnp.roll(pyramid.places, -1, axis=0))
    terms = []
    # One sum over the texels of both levels, so that the backward pass makes one table.
    for place, share in zip(_at_row([pyramid.places, above], row, backend), (1 - fraction, fraction), strict=True):
        for index, weight, is_outside in _terms(checked, mask, uv, material, place, nearest=False):
            terms.append((index, share * weight, is_outside))
    return _blend(checked, pyramid, terms, backend)


def _at_row(places, row, backend):
    """Each table's place at `row`; None stands for the only row."""
    if row is None:
        return [_Place(*table[0]) for table in places]
    # One read for all: XLA for the CPU would compute the row again for every number that it reads.
    values = gather(jnp.concatenate(places, axis=1), row, backend=backend)
    return [_Place(*(values[..., 4 * k + i] for i in range(4))) for k in range(len(places))]


def _terms(checked, mask, uv, material, place, *, nearest):
    """For each texel that a sample of a level blends: its row in the table, its weight, whether the border is there."""
    first, stride, height, width = place
    across, up = _directions(checked.wraps)
    columns = _neighbours(_in_first_period(uv[..., 0], across), width, nearest)
    rows = _neighbours(1 - _in_first_period(uv[..., 1], up), height, nearest)
    terms = []
    for row_index, row_weight in rows:
        for column_index, column_weight in columns:
            i, inside_i = _wrapped(row_index, height, up, material)
            j, inside_j = _wrapped(column_index, width, across, material)
            inside = inside_i & inside_j
            index = jnp.where(mask & inside, first + i * stride + j, -1)
            terms.append((index, row_weight * column_weight, ~inside))
    return terms


def _directions(wraps):
    """The wrap mode of each image across and up."""
    return [[wrap if isinstance(wrap, str) else wrap[axis] for wrap in wraps] for axis in range(2)]


def _blend(checked, pyramid, terms, backend):
    """The weighted sum of texels, and of the border where there are none."""
    indices, weights = (jnp.stack(images, axis=-1) for images in list(zip(*terms, strict=True))[:2])
    color = weighted_gather(pyramid.texels, weights, indices, backend=backend)
    if not any("border" in direction for direction in _directions(checked.wraps)):
        return color
    outside = jnp.sum(jnp.where(jnp.stack([term[2] for term in terms], axis=-1), weights, 0), axis=-1)
    return color + outside[..., None].astype(color.dtype) * jnp.broadcast_to(checked.border, color.shape)


def _in_first_period(x, wraps):
    """The coordinate without whole periods: a thousand copies away it would have few digits left."""
    if len(set(wraps)) > 1 or wraps[0] not in ("repeat", "mirror"):
        return x
    period = 1 if wraps[0] == "repeat" else 2
    return x - period * lax.stop_gradient(jnp.floor(x / period))


def _neighbours(x, n, nearest):
    """Texels next to a coordinate along one axis of `n` texels, and their weights."""
    position = x * n.astype(x.dtype)
    if nearest:
        return [(_as_index(position), jnp.ones_like(x))]
    position = position - 0.5
    low = _as_index(position)
    fraction = position - low.astype(x.dtype)
    return [(low, 1 - fraction), (low + 1, fraction)]


def _as_index(position):
    """The texel below, far outside of the image where the number is too large for an int; texel 0 for NaN."""
    floor = lax.stop_gradient(jnp.floor(position))
    floor = jnp.where(jnp.isfinite(floor), floor, 0)
    return jnp.clip(floor, -(2.0**24), 2.0**24).astype(jnp.int32)


def _wrapped(index, n, wraps, material):
    """The texel that a wrap mode takes for a texel outside of the image, and whether it is inside."""

    def wrapped(wrap):
        if wrap == "repeat":
            return jnp.mod(index, n)
        if wrap == "mirror":
            mirrored = jnp.mod(index, 2 * n)
            return jnp.where(mirrored < n, mirrored, 2 * n - 1 - mirrored)
        return jnp.clip(index, 0, n - 1)

    if len(set(wraps)) == 1:
        wrap = wraps[0]
        return wrapped(wrap), (index >= 0) & (index < n) if wrap == "border" else jnp.ones(index.shape, bool)
    kind = gather_in_bounds(jnp.asarray([WRAPS.index(wrap) for wrap in wraps]), material)
    result = jnp.clip(index, 0, n - 1)
    for wrap in ("repeat", "mirror"):
        result = jnp.where(kind == WRAPS.index(wrap), wrapped(wrap), result)
    return result, (kind != WRAPS.index("border")) | ((index >= 0) & (index < n))


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
    corners = gather_or_fill(checked.uv, checked.uv_faces)
    uv = jnp.einsum("tk,fkc->ftc", jnp.asarray(weights, corners.dtype), corners, precision=lax.Precision.HIGHEST)
    material = None if checked.material is None else jnp.broadcast_to(checked.material[:, None], uv.shape[:2])
    mask = jnp.broadcast_to(checked.uv_faces[:, :1] >= 0, uv.shape[:2])
    color = _sample(checked, mask, uv, material, None, nearest=checked.filter == "nearest")
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
