"""Neural Renderer's rasterizer of faces on the screen: x and y in [-1, 1] across the image, z the distance."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

import jnr
from jnr._pytree import pytree
from jnr.compat.neural_renderer._batch import as_soup, as_textures, over_batch
from jnr.compat.neural_renderer._functions import FLIP_Z, corners


@pytree()
class Divided(jnr.Perspective):
    """x and y are the screen's already, but in between corners all is interpolated as under perspective.

    The originals' rasterizer knows no other interpolation, parallel projection included.
    """

    def distort(self, points: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Points that a perspective of 90 degrees puts at the same x and y on the screen."""
        return jnp.concatenate([points[:, :2] * -points[:, 2:], points[:, 2:]], axis=-1)


def screen(near: ArrayLike, far: ArrayLike) -> jnr.Camera:
    """The camera that sees points of the screen where they are."""
    return jnr.Camera(jnr.Pose(jnp.asarray(FLIP_Z)), Divided(90.0, near, far))


def rasterize_rgbad(
    faces: Float[Array, "batch faces 3 3"],
    textures: Float[Array, "batch faces t t t channels"] | None = None,
    image_size: int = 256,
    anti_aliasing: bool = True,
    near: ArrayLike = 0.1,
    far: ArrayLike = 100,
    eps: float = 1e-4,
    background_color: ArrayLike | Sequence[float] = (0, 0, 0),
    return_rgb: bool = True,
    return_alpha: bool = True,
    return_depth: bool = True,
) -> dict[str, Array | None]:
    """Draws faces of the screen that are counter-clockwise there.

    Gradients: `rgb` reaches the textures; `rgb` and `alpha` together reach x and y of the faces by Neural Renderer's
    gradient of visibility; `depth` reaches x, y and z.

    Args:
        faces: Corners: x to the right and y upwards in [-1, 1] across the image, z the distance from the camera.
        textures: Texture cubes, None for white.
        image_size: Height and width.
        anti_aliasing: Whether each pixel is the mean of 2 x 2 samples.
        near: Distance before which nothing is drawn.
        far: Distance beyond which nothing is drawn, and the background's depth.
        eps: Of the gradient, see `jnr.edge_sweep`.
        background_color: (channels,) or (batch, channels).
        return_rgb: Whether the result has `"rgb"`; if not it is None there, as for the others.
        return_alpha: Whether it has `"alpha"`.
        return_depth: Whether it has `"depth"`.

    Returns:
        `"rgb"` (batch, channels, height, width), `"alpha"` and `"depth"` (batch, height, width), row 0 at the top.
    """
    faces = as_soup(faces)

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

    picture = over_batch(one, faces, as_textures(textures, faces), background_color=(background_color, 1))
    return {
        "rgb": jnp.moveaxis(picture.rgb, -1, 1) if return_rgb else None,
        "alpha": picture.alpha if return_alpha else None,
        "depth": picture.depth if return_depth else None,
    }


def rasterize(
    faces: Float[Array, "batch faces 3 3"],
    textures: Float[Array, "batch faces t t t channels"] | None,
    image_size: int = 256,
    anti_aliasing: bool = True,
    near: ArrayLike = 0.1,
    far: ArrayLike = 100,
    eps: float = 1e-4,
    background_color: ArrayLike | Sequence[float] = (0, 0, 0),
) -> Float[Array, "batch channels height width"]:
    """`"rgb"` of `rasterize_rgbad`."""
    images = rasterize_rgbad(faces, textures, image_size, anti_aliasing, near, far, eps, background_color)
    return _given(images["rgb"])


def rasterize_silhouettes(
    faces: Float[Array, "batch faces 3 3"],
    image_size: int = 256,
    anti_aliasing: bool = True,
    near: ArrayLike = 0.1,
    far: ArrayLike = 100,
    eps: float = 1e-4,
) -> Float[Array, "batch height width"]:
    """`"alpha"` of `rasterize_rgbad`."""
    return _given(rasterize_rgbad(faces, None, image_size, anti_aliasing, near, far, eps)["alpha"])


def rasterize_depth(
    faces: Float[Array, "batch faces 3 3"],
    image_size: int = 256,
    anti_aliasing: bool = True,
    near: ArrayLike = 0.1,
    far: ArrayLike = 100,
    eps: float = 1e-4,
) -> Float[Array, "batch height width"]:
    """`"depth"` of `rasterize_rgbad`; has no gradient of visibility, so `eps` changes nothing."""
    return _given(rasterize_rgbad(faces, None, image_size, anti_aliasing, near, far, eps)["depth"])


def use_unsafe_rasterizer(flag: bool) -> None:
    """Does nothing: the originals' faster and their safe rasterizer are one here, fast and deterministic."""
    del flag


def _given(image):
    assert image is not None
    return image
