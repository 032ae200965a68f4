"""Neural Renderer's interface of the Chainer original: `import jnr.compat.neural_renderer.chainer as neural_renderer`.

`Renderer` takes no arguments and its `render` returns RGB alone; `Mesh` takes the name of an OBJ file. Everything else
is that of `jnr.compat.neural_renderer`.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

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
    """`jnr.compat.neural_renderer.Renderer` with the interface of the Chainer original: all settings are attributes.

    `camera_mode` is `"look_at"` by default. For any name other than `"look_at"` and `"look"`, vertices are in camera
    space: x to the right, y up, z forward.
    """

    def __init__(self):
        super().__init__(camera_mode="look_at")

    def render(
        self,
        vertices: Float[ArrayLike, "batch vertices 3"],
        faces: Int[ArrayLike, "batch faces 3"],
        textures: Float[ArrayLike, "batch faces t t t channels"] | None = None,
        *camera: Any,
    ) -> Float[Array, "batch channels height width"]:
        """Returns RGB (batch, channels, height, width)."""
        return self.render_rgb(vertices, faces, textures, *camera)

    def _camera(self, settings):
        if self.camera_mode in ("look_at", "look"):
            return super()._camera(settings)
        return jnr.Camera(jnr.Pose(jnp.asarray(FLIP_Z)), self._projection())

    def _check_camera_mode(self):
        """Accepts any name."""


@jax.tree_util.register_pytree_node_class
class Mesh(port.Mesh):
    """`jnr.compat.neural_renderer.Mesh` of an OBJ file, with normal noise as textures.

    Args:
        filename_obj: The file.
        texture_size: Texels along each side of the texture cubes.
        normalization: Whether the mesh is centred and scaled to [-1, 1] along its longest side.
        seed: Seed of the noise.
    """

    def __init__(
        self, filename_obj: str | os.PathLike, texture_size: int = 4, normalization: bool = True, *, seed: int = 0
    ):
        super().__init__(*load_obj(filename_obj, normalization), texture_size=texture_size, seed=seed)
