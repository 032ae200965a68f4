"""Neural Renderer's interface as the Chainer original has it.

`import jnr.compat.neural_renderer.chainer as neural_renderer`. The class without arguments, whose `render` returns RGB
alone, and the mesh that reads its file; all else is that of `jnr.compat.neural_renderer`.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import jnr
from jnr.compat import neural_renderer as port
from jnr.compat.neural_renderer import (
    cross as cross,
    get_points_from_angles as get_points_from_angles,
    lighting as lighting,
    load_obj as load_obj,
    look as look,
    look_at as look_at,
    optimizers as optimizers,
    perspective as perspective,
    rasterize as rasterize,
    rasterize_depth as rasterize_depth,
    rasterize_rgbad as rasterize_rgbad,
    rasterize_silhouettes as rasterize_silhouettes,
    save_obj as save_obj,
    use_unsafe_rasterizer as use_unsafe_rasterizer,
    vertices_to_faces as vertices_to_faces,
)
from jnr.compat.neural_renderer._functions import FLIP_Z


class Renderer(port.Renderer):
    """As `jnr.compat.neural_renderer.Renderer`, with every setting an attribute.

    `camera_mode` is `"look_at"` at first; any name but that and `"look"` takes vertices as seen by the camera, x right,
    y up, z forward.
    """

    def __init__(self):
        super().__init__(camera_mode="look_at")

    def render(
        self,
        vertices: Float[Array, "batch vertices 3"],
        faces: Int[Array, "batch faces 3"],
        textures: Float[Array, "batch faces t t t channels"] | None = None,
        *camera: Any,
    ) -> Float[Array, "batch channels height width"]:
        """RGB (batch, channels, height, width)."""
        return self.render_rgb(vertices, faces, textures, *camera)

    def _camera(self, numbers):
        if self.camera_mode in ("look_at", "look"):
            return super()._camera(numbers)
        return jnr.Camera(jnr.Pose(jnp.asarray(FLIP_Z)), self._projection())

    def _check_camera_mode(self):
        """Any name will do."""


@jax.tree_util.register_pytree_node_class
class Mesh(port.Mesh):
    """As `jnr.compat.neural_renderer.Mesh`, of an OBJ file, with textures of normal noise."""

    def __init__(
        self, filename_obj: str | os.PathLike, texture_size: int = 4, normalization: bool = True, *, seed: int = 0
    ):
        super().__init__(*load_obj(filename_obj, normalization), texture_size=texture_size, seed=seed)
