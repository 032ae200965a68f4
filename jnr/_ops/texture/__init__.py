"""UV textures: mip pyramids, texture coordinates at pixels, and samples.

They are primitives for the sake of the CPU, where XLA's code for short last axes is slow and computes the place of a
texel again for each number that reads it. On GPUs XLA fuses them with the gather op, whose sums have a Triton kernel.
"""

from functools import partial

import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int

from jnr._backend import Backend
from jnr._inline_jit import inline_jit
from jnr._ops.derivative import declare_differentiable
from jnr._ops.devices import vary_alike
from jnr._ops.gather import gather, weighted_gather_p
from jnr._ops.op import Cpp
from jnr._ops.rasterize import Fragments
from jnr._ops.texture import definition
from jnr._ops.texture.definition import WRAPS, MipPlace, level_shapes

mip_pyramid_p = declare_differentiable(
    definition.mip_pyramid,
    lambda image, size, *, levels, **_: (
        (sum(rows * columns for rows, columns in level_shapes(image.shape[1], image.shape[2], levels)), image.shape[3]),
        image.dtype,
    ),
    cpp=Cpp(attributes=lambda *, levels, **_: {"levels": np.int64(levels)}),
    on_gpu=lambda *operands, backend, **params: definition.mip_pyramid(*operands, **params),
)
uv_and_steps_p = declare_differentiable(
    definition.uv_and_steps,
    lambda *operands: ((*operands[-1].shape[1:], 6), operands[0].dtype),
    cpp=Cpp(),
    on_gpu=lambda *operands, backend: definition.uv_and_steps(*operands, gather=partial(gather, backend=backend)),
    wrt=("clip_positions", "uv", "barycentric"),
)
sample_texels_p = declare_differentiable(
    definition.sample_texels,
    lambda texels, coordinates, *_, **__: ((coordinates.shape[1], texels.shape[2]), texels.dtype),
    cpp=Cpp(attributes=lambda *, levels, nearest, **_: {"levels": np.int64(levels), "nearest": np.int64(nearest)}),
    on_gpu=lambda *operands, backend, **params: definition.sample_texels(
        *operands,
        **params,
        gather=partial(gather, backend=backend),
        weighted_gather=partial(weighted_gather_p.bind, backend=backend),
    ),
    wrt=("texels", "coordinates"),
)


@inline_jit("wraps", "levels", "backend")
def texel_table(
    images: list[Float[Array, "_ _ channels"]],
    sizes: list[Int[Array, "2"]] | None,
    border: Float[Array, "..."],
    *,
    wraps: tuple[tuple[str, str], ...],
    levels: int,
    backend: Backend | None = None,
) -> tuple[Float[Array, "rows channels"], Int[Array, "places 6"]]:
    """The operands `texels` and `places` of `sample_texels` for images: the first `levels` levels of each.

    Gradients: reach `images` and `border`, in any mode and order.

    Args:
        images: Images of one dtype.
        sizes: (height, width) of the part of each image that is in use; None if all of it is.
        border: The colour outside, for the wrap mode "border".
        wraps: The modes across and up of each image.
        levels: Number of levels, of the largest image.
        backend: See `declare`.
    """
    tables, places, offset = [], [], 0
    for k, image in enumerate(images):
        size = image.shape[:2] if sizes is None else (sizes[k][0], sizes[k][1])
        across, up = (WRAPS.index(wrap) for wrap in wraps[k])
        for rows, columns in level_shapes(image.shape[0], image.shape[1], levels):
            places.append(MipPlace(offset, columns, size[0], size[1], across, up))
            offset += rows * columns
            size = tuple(max(n // 2, 1) if isinstance(n, int) else jnp.maximum(n // 2, 1) for n in size)
        tables.append(_levels_of(image, None if sizes is None else sizes[k], levels, backend))
    if any("border" in pair for pair in wraps):
        tables.append(jnp.broadcast_to(border, (1, images[0].shape[-1])).astype(images[0].dtype))
        offset += 1
    if offset >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 texels in all, got {offset}.")
    texels = tables[0] if len(tables) == 1 else jnp.concatenate(tables)
    return texels, jnp.array(places, jnp.int32)


def _levels_of(image, size, levels, backend):
    if levels == 1:
        return image.reshape(image.shape[0] * image.shape[1], image.shape[2])
    whole = size is None
    size = jnp.array(image.shape[:2], jnp.int32) if whole else size
    image, size = vary_alike(image, size)
    return mip_pyramid_p.bind(image[None], size[None], levels=levels, whole=whole, backend=backend)[0]


@inline_jit("backend")
def uv_and_steps(
    clip_positions: Float[Array, "vertices 4"],
    uv: Float[Array, "uvs 2"],
    faces: Int[Array, "faces 3"],
    uv_faces: Int[Array, "faces 3"],
    fragments: Fragments,
    *,
    backend: Backend | None = None,
) -> Float[Array, "height width 6"]:
    """Texture coordinates (u, v) at each pixel and their derivatives by column and by row; zero on background.

    Gradients: reach `clip_positions`, `uv` and `fragments.barycentric`, in any mode and order.
    """
    floats = (x.astype(uv.dtype) for x in (clip_positions, uv, fragments.barycentric))
    operands = vary_alike(*floats, faces, uv_faces, lax.stop_gradient(fragments.face_index))
    return uv_and_steps_p.bind(*(x[None] for x in operands), backend=backend)[0]


@inline_jit("levels", "nearest", "backend")
def sample_texels(
    texels: Float[Array, "rows channels"],
    coordinates: Float[Array, "*shape numbers"],
    material: Int[Array, "*shape"],
    places: Int[Array, "places 6"],
    *,
    levels: int = 1,
    nearest: bool = False,
    backend: Backend | None = None,
) -> Float[Array, "*shape channels"]:
    """Colours at texture coordinates (u, v), zero where the material is negative.

    With derivatives behind them, as `uv_and_steps` gives them, the two levels whose texels are closest to a pixel in
    size are blended.

    Gradients: reach `texels` and `coordinates`, in any mode and order.
    """
    coordinates = coordinates.reshape(material.size, coordinates.shape[-1])
    operands = vary_alike(texels, coordinates, material.reshape(-1), places)
    colors = sample_texels_p.bind(*(x[None] for x in operands), levels=levels, nearest=nearest, backend=backend)
    return colors.reshape(*material.shape, texels.shape[1])
