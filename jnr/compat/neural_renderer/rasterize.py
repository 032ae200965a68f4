"""Neural Renderer's rasterizer of screen-space faces: x and y in [-1, 1] across the image, z is the depth."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr.compat.neural_renderer._batch import as_soup, as_textures, corners, over_batch
from jnr.compat.neural_renderer._cameras import screen

DEFAULT_IMAGE_SIZE = 256
DEFAULT_ANTI_ALIASING = True
DEFAULT_NEAR = 0.1
DEFAULT_FAR = 100
DEFAULT_EPS = 1e-4
DEFAULT_BACKGROUND_COLOR = (0, 0, 0)


def rasterize_rgbad(
    faces: Float[ArrayLike, "#batch faces 3 3"],
    textures: Float[ArrayLike, "#batch faces t t t channels"] | None = None,
    image_size: int = DEFAULT_IMAGE_SIZE,
    anti_aliasing: bool = DEFAULT_ANTI_ALIASING,
    near: ArrayLike = DEFAULT_NEAR,
    far: ArrayLike = DEFAULT_FAR,
    eps: float = DEFAULT_EPS,
    background_color: ArrayLike | Sequence[float] | None = DEFAULT_BACKGROUND_COLOR,
    return_rgb: bool = True,
    return_alpha: bool = True,
    return_depth: bool = True,
) -> dict[str, Array | None]:
    """Renders screen-space faces. Faces that are clockwise in the image are culled.

    Gradients: `rgb` reaches `textures`. `rgb` and `alpha` together reach x and y of `faces` by the edge sweep, Neural
    Renderer's visibility gradient. `depth` reaches x, y and z of `faces`. Reverse mode only, because of the edge sweep.

    Args:
        faces: Corners: x to the right and y up in [-1, 1] across the image, z the depth from the camera.
        textures: Texture cubes; None renders white faces.
        image_size: Height and width in pixels.
        anti_aliasing: Whether each pixel is the mean of 2 x 2 samples.
        near: Depth of the near plane; nothing nearer is rendered.
        far: Depth of the far plane, beyond which nothing is rendered; also the depth of the background.
        eps: Regularization of the edge sweep, see `jnr.edge_sweep`.
        background_color: One value per channel, (channels,) or (batch, channels); may be None without RGB.
        return_rgb: Whether to return `"rgb"`, else None in its place.
        return_alpha: Whether to return `"alpha"`, else None in its place.
        return_depth: Whether to return `"depth"`, else None in its place.

    Returns:
        A dict of `"rgb"` (batch, channels, height, width), `"alpha"` and `"depth"` (batch, height, width), row 0 at the
        top.

    Raises:
        TypeError: If an argument is not an array of the right kind of numbers.
        ValueError: If a shape or setting is not valid.
    """
    faces = as_soup(faces)
    if background_color is None and return_rgb:
        raise ValueError("background_color must be given if return_rgb is True, got None.")

    def one(faces, textures, background_color):
        return jnr.render(
            faces.reshape(-1, 3),
            corners(faces),
            textures,
            camera=screen(near, far),
            lights=(),
            image_size=image_size,
            background=background_color,
            antialias=2 if anti_aliasing else 1,
            cull="back",
            eps=eps,
        )

    rendering = over_batch(one, faces, as_textures(textures, faces), background_color=(background_color, 1))
    return {
        "rgb": jnp.moveaxis(rendering.rgb, -1, 1) if return_rgb else None,
        "alpha": rendering.alpha if return_alpha else None,
        "depth": rendering.depth if return_depth else None,
    }


def rasterize(
    faces: Float[ArrayLike, "#batch faces 3 3"],
    textures: Float[ArrayLike, "#batch faces t t t channels"] | None,
    image_size: int = DEFAULT_IMAGE_SIZE,
    anti_aliasing: bool = DEFAULT_ANTI_ALIASING,
    near: ArrayLike = DEFAULT_NEAR,
    far: ArrayLike = DEFAULT_FAR,
    eps: float = DEFAULT_EPS,
    background_color: ArrayLike | Sequence[float] = DEFAULT_BACKGROUND_COLOR,
) -> Float[Array, "batch channels height width"]:
    """Returns `"rgb"` of `rasterize_rgbad`, which describes arguments and gradients."""
    images = rasterize_rgbad(faces, textures, image_size, anti_aliasing, near, far, eps, background_color)
    return _not_none(images["rgb"])


def rasterize_silhouettes(
    faces: Float[ArrayLike, "#batch faces 3 3"],
    image_size: int = DEFAULT_IMAGE_SIZE,
    anti_aliasing: bool = DEFAULT_ANTI_ALIASING,
    near: ArrayLike = DEFAULT_NEAR,
    far: ArrayLike = DEFAULT_FAR,
    eps: float = DEFAULT_EPS,
) -> Float[Array, "batch height width"]:
    """Returns `"alpha"` of `rasterize_rgbad`, which describes arguments and gradients."""
    return _not_none(rasterize_rgbad(faces, None, image_size, anti_aliasing, near, far, eps)["alpha"])


def rasterize_depth(
    faces: Float[ArrayLike, "#batch faces 3 3"],
    image_size: int = DEFAULT_IMAGE_SIZE,
    anti_aliasing: bool = DEFAULT_ANTI_ALIASING,
    near: ArrayLike = DEFAULT_NEAR,
    far: ArrayLike = DEFAULT_FAR,
    eps: float = DEFAULT_EPS,
) -> Float[Array, "batch height width"]:
    """Returns `"depth"` of `rasterize_rgbad`. It has no visibility gradient, so `eps` has no effect."""
    return _not_none(rasterize_rgbad(faces, None, image_size, anti_aliasing, near, far, eps)["depth"])


class Rasterize:
    """The rasterizer without antialiasing, which returns images with row 0 at the bottom and colours last.

    Example:
        >>> draw = nr.Rasterize(64, 0.1, 100, 1e-3, (0, 0, 0), return_rgb=True)
        >>> rgb, _, _ = draw(faces, textures)
    """

    def __init__(
        self,
        image_size: int,
        near: ArrayLike,
        far: ArrayLike,
        eps: float,
        background_color: ArrayLike | Sequence[float] | None,
        return_rgb: bool = False,
        return_alpha: bool = False,
        return_depth: bool = False,
    ):
        """Sets the options of `rasterize_rgbad`, which describes them."""
        self.image_size = image_size
        self.near, self.far = near, far
        self.eps = eps
        self.background_color = background_color
        self.return_rgb, self.return_alpha, self.return_depth = return_rgb, return_alpha, return_depth

    def __call__(
        self,
        faces: Float[ArrayLike, "#batch faces 3 3"],
        textures: Float[ArrayLike, "#batch faces t t t channels"] | None = None,
    ) -> tuple[
        Float[Array, "batch height width channels"] | None,
        Float[Array, "batch height width"] | None,
        Float[Array, "batch height width"] | None,
    ]:
        """Returns RGB, alpha and depth of `rasterize_rgbad`, which describes arguments and gradients; else None."""
        images = rasterize_rgbad(
            faces,
            textures,
            self.image_size,
            False,
            self.near,
            self.far,
            self.eps,
            self.background_color,
            self.return_rgb,
            self.return_alpha,
            self.return_depth,
        )
        rgb, alpha, depth = (None if image is None else jnp.flip(image, -2) for image in images.values())
        return None if rgb is None else jnp.moveaxis(rgb, 1, -1), alpha, depth

    forward = __call__


def use_unsafe_rasterizer(flag: bool) -> None:
    """Does nothing: jnr has one rasterizer, which is deterministic. The originals have a fast and a safe one."""
    del flag


def _not_none(image):
    assert image is not None
    return image
