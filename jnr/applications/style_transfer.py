"""2D-to-3D style transfer: optimizes a mesh so that its renderings have the style of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from jnr import _checks
from jnr._camera import Camera, LookAt
from jnr._lights import AmbientLight, DirectionalLight
from jnr._mesh import Mesh
from jnr._pytree import pytree
from jnr._render import render
from jnr.applications import _fitting
from jnr.losses import total_variation

# Angle between the light direction and the y axis, in degrees.
_LIGHT_ANGLE = 30.0


@pytree(static=(*_fitting.STATIC, "background"))
class StyleTransferConfig(_fitting.Config):
    """Settings of `style_transfer`. The defaults are those of the original.

    The default weights fit the feature magnitudes of the original VGG-16 in Caffe (`load_vgg(...,
    normalization="caffe")`). Features scaled by s scale the style term by s**4.

    Attributes:
        image_size: Height and width of the renderings, in pixels.
        texture_size: Texels along each side of new texture cubes.
        steps: Number of optimization steps.
        batch: Number of views per step.
        elevation: Lowest and highest elevation of the views, in degrees.
        distance: Mean distance of the views from the origin.
        distance_noise: Standard deviation of the distance.
        style_weight: Weight of the squared differences of Gram matrices, summed over layers and averaged over views.
        content_weight: Weight of the squared distances of vertices from their initial positions, summed.
        variation_weight: Weight of the squared differences between neighbouring pixels of the mesh, summed over views.
        vertices_rate: Factor on the learning rate of vertices.
        textures_rate: Factor on the learning rate of textures.
        learning_rate: Learning rate of Adam: a number or an optax schedule.
        b1: Decay rate of Adam's mean of the gradients.
        antialias: Supersampling factor per axis.
        background: `"random"`: a random colour per image; `"mean"`: the mean colour of the style image, as in the code
            of the original.
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
    style: Float[ArrayLike, "rows columns 3"],
    features: Callable[[Float[Array, "batch height width 3"]], PyTree],
    config: StyleTransferConfig | None = None,
    *,
    key: jax.Array,
    progress: bool = False,
) -> _fitting.Fit:
    """Optimizes textures and, more slowly, vertices of a mesh so that its renderings have the style of an image.

    The renderings show the mesh from random directions, lit from random directions 30 degrees off the vertical. The
    style term compares Gram matrices of a network's feature maps, weighted by the coverage of the mesh, with those of
    the style image. A content term keeps vertices near their initial positions, and a variation term smooths the
    renderings.

    Args:
        mesh: A mesh of about the size of the cube [-1, 1]^3, see `jnr.normalize`. Its texture cubes are the initial
            textures; None starts from grey noise.
        style: The style image in [0, 1]; it is resized to the size of the renderings.
        features: Differentiable function from images in [0, 1] to a pytree of feature maps, each (batch, rows, columns,
            channels), such as a network of `jnr.applications.features`. A function that is a pytree of arrays is passed
            to `jit` as an argument; any other function is static.
        config: Settings; None is `StyleTransferConfig()`.
        key: Key of `jax.random`. Equal keys give equal results on the same machine.
        progress: Whether to show a progress bar.

    Returns:
        The mesh with its texture cubes and the history of the weighted terms `"style"`, `"content"` and `"variation"`.

    Raises:
        ImportError: If optax or, with `progress`, tqdm is missing; install them with `pip install "jnr[examples]"`.
        TypeError: If `features` is not callable, or an array is of the wrong kind.
        ValueError: If a shape or setting is not valid.

    Example:
        >>> network = jnr.applications.features.load_vgg("vgg16.npz")
        >>> fit = jnr.applications.style_transfer(mesh, image, network, key=jax.random.key(0))
        >>> jnr.save("painted.obj", fit.mesh)

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 4.3; Gatys, Ecker and Bethge, Image style
        transfer using convolutional neural networks, CVPR 2016, for the style term.
    """
    config = StyleTransferConfig() if config is None else config
    _fitting.check(mesh, config, StyleTransferConfig, progress=progress)
    _checks.check_choice(config.background, "background", ("random", "mean"))
    style = _checks.widened(_checks.as_color(style, "style"))
    _checks.check_shape(style, "style", "rows", "columns", 3)
    size = config.image_size
    features = _fitting.as_argument(features)
    image, targets = _targets(style, features, size=size)
    constants = jnp.asarray(mesh.faces), features, _checks.as_compute(mesh.vertices, "vertices"), targets, image
    return _fitting.fit(_terms, mesh, constants, config, key, progress=progress)


def gram_matrix(
    features: Float[ArrayLike, "rows columns channels"], mask: Real[ArrayLike, "height width"] | None = None
) -> Float[Array, "channels channels"]:
    """Returns the Gram matrix of a feature map: mean product of two channels, divided by the number of channels.

    Gradients: reach `features` and `mask`.

    Args:
        features: A feature map.
        mask: Weights of the pixels of an image, resized to the feature map: by the mean over blocks if its size is a
            multiple, else by linear interpolation. None weights all locations equally. If all weights are zero, so is
            the matrix.

    Raises:
        TypeError: If an argument is not an array of real numbers.
        ValueError: If a shape is wrong.

    References:
        Gatys, Ecker and Bethge, Image style transfer using convolutional neural networks, CVPR 2016.
    """
    features = _checks.as_compute(features, "features")
    _checks.check_shape(features, "features", "rows", "columns", "channels")
    rows, columns, channels = features.shape
    weights = jnp.ones((rows, columns), features.dtype)
    if mask is not None:
        mask = _checks.as_compute(mask, "mask").astype(features.dtype)
        _checks.check_shape(mask, "mask", "height", "width")
        weights = _resized(mask, rows, columns)
    total = jnp.sum(weights)
    products = jnp.einsum("hwc,hwd,hw->cd", features, features, weights, precision=lax.Precision.HIGHEST)
    return products / (channels * jnp.where(total > 0, total, 1))


def _resized(mask, rows, columns):
    """Resizes a mask by block means if its size is a multiple, else by linear interpolation."""
    height, width = mask.shape
    if height % rows == 0 and width % columns == 0:
        return jnp.mean(mask.reshape(rows, height // rows, columns, width // columns), axis=(1, 3))
    return jax.image.resize(mask, (rows, columns), "linear")


def _targets(style, features, *, size):
    """Returns the style image at the size of the renderings, and the Gram matrices of its features."""

    @jax.jit
    def targets(style, features):
        image = jnp.clip(jax.image.resize(style, (size, size, 3), "linear"), 0, 1)
        return image, [gram_matrix(maps[0]) for maps in jax.tree.leaves(features(image[None]))]

    return targets(style, features)


def _terms(params, key, constants, config):
    faces, features, start, targets, style = constants
    vertices, cubes = params["vertices"], jax.nn.sigmoid(params["textures"])
    eye_key, light_key, background_key = jax.random.split(key, 3)
    eyes = _fitting.random_eyes(eye_key, config)
    azimuth = jax.random.uniform(light_key, (config.batch,), maxval=2 * jnp.pi)
    horizontal, vertical = jnp.sin(jnp.deg2rad(_LIGHT_ANGLE)), jnp.cos(jnp.deg2rad(_LIGHT_ANGLE))
    directions = jnp.stack(
        [horizontal * jnp.sin(azimuth), jnp.full_like(azimuth, vertical), horizontal * jnp.cos(azimuth)], axis=-1
    )
    if config.background == "random":
        backgrounds = jax.random.uniform(background_key, (config.batch, 3))
    else:
        backgrounds = jnp.broadcast_to(jnp.mean(style, axis=(0, 1)), (config.batch, 3))

    def render_view(eye, direction, background):
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

    renderings = jax.vmap(render_view)(eyes, directions, backgrounds)
    mask = lax.stop_gradient(renderings.alpha)
    feature_maps = jax.tree.leaves(features(renderings.rgb))
    grams = [jax.vmap(gram_matrix)(maps, mask) for maps in feature_maps]
    distances = [jnp.sum((gram - target[None]) ** 2) for gram, target in zip(grams, targets, strict=True)]
    covered = (mask == 1).astype(renderings.rgb.dtype)
    return {
        "style": config.style_weight * sum(distances) / config.batch,
        "content": config.content_weight * jnp.sum((vertices - start) ** 2),
        "variation": config.variation_weight * config.batch * total_variation(renderings.rgb, covered),
    }
