"""Neural Renderer's class `Renderer` with the interface of the Chainer original."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, ArrayLike, Float, Int

from jnr.compat.neural_renderer import renderer as port


class Renderer(port.Renderer):
    """`jnr.compat.neural_renderer.Renderer` with the interface of the Chainer original: all settings are attributes.

    `camera_mode` is `"look_at"` by default. For any name other than `"look_at"` and `"look"`, vertices are in camera
    space: x to the right, y up, z forward.
    """

    def __init__(self):
        super().__init__(camera_mode="look_at")

    def render(
        self,
        vertices: Float[ArrayLike, "#batch vertices 3"],
        faces: Int[ArrayLike, "#batch faces 3"],
        textures: Float[ArrayLike, "#batch faces t t t channels"] | None = None,
        *camera: Any,
    ) -> Float[Array, "batch channels height width"]:
        """Returns RGB (batch, channels, height, width)."""
        return self.render_rgb(vertices, faces, textures, *camera)

    def _mode(self):
        return self.camera_mode if self.camera_mode in port.POSES else "camera space"
