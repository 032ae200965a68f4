"""2D-to-3D style transfer: a mesh that looks, from all around, as if painted like a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jnr import _checks
from jnr._camera import Camera, LookAt
from jnr._lights import AmbientLight, DirectionalLight
from jnr._mesh import Mesh
from jnr._pytree import pytree
from jnr._render import render
from jnr.applications import _fitting
from jnr.losses import total_variation

# Of the light to the upward axis, in degrees.
_LIGHT = 30.0


@pytree(static=(*_fitting.STATIC, "background"))
class StyleTransferConfig(_fitting.Config):
    """Settings of `style_transfer`; the defaults are the original's.

    The weights are for features as large as those of the original VGG-16 in Caffe (`load_vgg(...,
    normalization="caffe")`). Features s times as large make the style term s**4 times as large.

    Attributes:
        image_size: Pixels each way.
        texture_size: Texels along a side of new texture cubes.
        steps: How many.
        batch: Views a step.
        elevation: Lowest and highest, in degrees.
        distance: Of the views from the origin, on the mean.
        distance_noise: Its standard deviation.
        style_weight: Of the squared differences of Gram matrices, summed over layers and meaned over views.
        content_weight: Of the squared distances of vertices from where they began, summed.
        variation_weight: Of the squared differences between neighbouring pixels of the mesh, summed over views.
        vertices_rate: Factor on the learning rate for vertices.
        textures_rate: Factor on the learning rate for textures.
        learning_rate: Of Adam, a number or a schedule.
        b1: Of Adam.
        antialias: Samples a pixel each way.
        background: `"random"`: a colour for each image; `"mean"`: that of the style image, as in the original's code.
    """

    steps: int = 5000
    elevation: tuple[float, float] = (20.0, 40.0)
    style_weight: float = 1.0
    content_weight: float = 2e9
    variation_weight: float = 1e7
    learning_rate: float | Callable = 0.05
    background: Literal["random", "mean"] = "random"


def style_transfer(
    mesh: Mesh,
    style: Float[Array, "rows columns 3"],
    features: Callable[[Float[Array, "batch height width 3"]], PyTree],
    config: StyleTransferConfig | None = None,
    *,
    key: jax.Array,
    progress: bool = False,
) -> _fitting.Fit:
    """Fits a mesh's textures, and a little its vertices, until its pictures have the style of an image.

    Pictures are taken from random sides, under light from random directions 30 degrees off the vertical, and compared
    with the image by the Gram matrices of a network's feature maps over the part that the mesh covers. Two more terms
    hold the vertices where they were and smooth the pictures.

    Args:
        mesh: About as large as the unit cube (see `jnr.normalize`); its texture cubes are the start, grey noise where
            it has no textures.
        style: An image in [0, 1], brought to the size of the pictures.
        features: From images in [0, 1] to feature maps, (batch, rows, columns, channels) each: see
            `jnr.applications.features`, or any function that JAX can differentiate. A pytree of arrays such as those
            there is passed to `jit` as an argument, any other function compiled in.
        config: Settings; None is `StyleTransferConfig()`.
        key: Of `jax.random`; the same key gives the same mesh on the same machine.
        progress: Whether to show a bar.

    Returns:
        The mesh with its texture cubes, and the terms `"style"`, `"content"` and `"variation"` at each step, weighted.

    Raises:
        ImportError: If optax, or tqdm for a bar, is missing; `pip install "jnr[examples]"` brings them.
        ValueError: If a shape or setting is not allowed.

    Example:
        >>> network = jnr.applications.features.load_vgg("vgg16.npz")
        >>> fit = jnr.applications.style_transfer(mesh, image, network, key=jax.random.key(0))
        >>> jnr.save("painted.obj", fit.mesh)

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.3; Gatys, Ecker and Bethge, Image style
        transfer using convolutional neural networks, CVPR 2016, for the style term.
    """
    config = StyleTransferConfig() if config is None else config
    _checks.check_choice(config.background, "background", ("random", "mean"))
    style = _checks.as_compute(style, "style")
    _checks.check_shape(style, "style", "rows", "columns", 3)
    size = _checks.as_count(config.image_size, "image_size")
    features = _fitting.as_argument(features)
    image, targets = _targets(style, features, size=size)
    constants = jnp.asarray(mesh.faces), features, _checks.as_compute(mesh.vertices, "vertices"), targets, image
    return _fitting.fit(_terms, mesh, constants, config, key, progress=progress)


def gram_matrix(
    features: Float[Array, "rows columns channels"], mask: Float[Array, "height width"] | None = None
) -> Float[Array, "channels channels"]:
    """Products of channels, meaned over the places of a feature map and divided by the number of channels.

    Args:
        features: A feature map.
        mask: Weights of an image's pixels, brought to the size of the map by the mean; None weighs all places alike.
            Where all weights are zero so is the matrix.
    """
    features = _checks.as_compute(features, "features")
    _checks.check_shape(features, "features", "rows", "columns", "channels")
    rows, columns, channels = features.shape
    weights = jnp.ones((rows, columns), features.dtype)
    if mask is not None:
        mask = _checks.as_compute(mask, "mask").astype(features.dtype)
        _checks.check_shape(mask, "mask", "height", "width")
        weights = _pooled(mask, rows, columns)
    total = jnp.sum(weights)
    products = jnp.einsum("hwc,hwd,hw->cd", features, features, weights, precision=lax.Precision.HIGHEST)
    return products / (channels * jnp.where(total > 0, total, 1))


def _pooled(mask, rows, columns):
    height, width = mask.shape
    if height % rows == 0 and width % columns == 0:
        return jnp.mean(mask.reshape(rows, height // rows, columns, width // columns), axis=(1, 3))
    return jax.image.resize(mask, (rows, columns), "linear")


def _targets(style, features, *, size):
    """The style image as large as the pictures, and the Gram matrices of its features."""

    @jax.jit
    def targets(style, features):
        image = jnp.clip(jax.image.resize(style, (size, size, 3), "linear"), 0, 1)
        return image, [gram_matrix(found[0]) for found in jax.tree.leaves(features(image[None]))]

    return targets(style, features)


def _terms(params, key, constants, config):
    faces, features, start, targets, style = constants
    vertices, cubes = params["vertices"], jax.nn.sigmoid(params["textures"])
    for_eyes, for_lights, for_backgrounds = jax.random.split(key, 3)
    eyes = _fitting.random_eyes(for_eyes, config)
    around = jax.random.uniform(for_lights, (config.batch,), maxval=2 * jnp.pi)
    off, up = jnp.sin(jnp.deg2rad(_LIGHT)), jnp.cos(jnp.deg2rad(_LIGHT))
    directions = jnp.stack([off * jnp.sin(around), jnp.full_like(around, up), off * jnp.cos(around)], axis=-1)
    if config.background == "random":
        backgrounds = jax.random.uniform(for_backgrounds, (config.batch, 3))
    else:
        backgrounds = jnp.broadcast_to(jnp.mean(style, axis=(0, 1)), (config.batch, 3))

    def draw(eye, direction, background):
        return render(
            vertices,
            faces,
            cubes,
            camera=Camera(LookAt(eye)),
            lights=(AmbientLight(0.5), DirectionalLight(0.5, direction=direction)),
            image_size=config.image_size,
            background=background,
            antialias=config.antialias,
        )

    pictures = jax.vmap(draw)(eyes, directions, backgrounds)
    mask = lax.stop_gradient(pictures.alpha)
    found = jax.tree.leaves(features(pictures.rgb))
    grams = [jax.vmap(gram_matrix)(maps, mask) for maps in found]
    apart = [jnp.sum((gram - target) ** 2) for gram, target in zip(grams, targets, strict=True)]
    whole = (mask == 1).astype(pictures.rgb.dtype)
    return {
        "style": config.style_weight * sum(apart) / config.batch,
        "content": config.content_weight * jnp.sum((vertices - start) ** 2),
        "variation": config.variation_weight * config.batch * total_variation(pictures.rgb, whole),
    }
