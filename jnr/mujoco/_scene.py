"""Scenes of MuJoCo models."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jnr import _checks
from jnr._camera import Camera
from jnr._lights import Light
from jnr._mesh import Mesh
from jnr._pytree import pytree
from jnr._render import Rendering, render
from jnr._scene import PlacedScene, Scene
from jnr.mujoco import _geoms, _textures, _views
from jnr.mujoco._geoms import mujoco


@pytree()
class ModelScene:
    """The geoms, cameras and lights of a MuJoCo model, to be rendered from the states of MuJoCo or MJX.

    Every geom of the model is an instance, so that instances' indices are MuJoCo's geom ids. Geoms that are not drawn
    have no faces. A scene is a pytree; `load` makes one.

    Attributes:
        scene: The geoms' meshes, textures and colours.
        scales: Factors along each geom's axes from its mesh, which geoms of several sizes share, to its size.
        steps: Lengths of the steps along its own axes in which each infinite plane follows the camera; zero otherwise.
        normals: Normals at the corners of each mesh's faces.
        cameras: Numbers of the model's cameras.
    """

    scene: Scene
    scales: Float[Array, "geoms 3"]
    steps: Float[Array, "geoms 2"]
    normals: tuple[Float[Array, "_ 3 3"], ...]
    cameras: _views.Cameras

    def poses(self, data: Any, camera: Camera | None = None) -> Float[Array, "geoms 4 4"]:
        """Returns matrices from each geom's mesh to world space, which `scene.place` takes.

        Gradients: reach `geom_xpos` and `geom_xmat`.

        Args:
            data: `mujoco.MjData` or `mjx.Data` of one environment; use `vmap` for several.
            camera: Camera that infinite planes follow, as MuJoCo draws them; None leaves them at their origin.
        """
        positions, rotations = (_checks.as_compute(getattr(data, name), name) for name in ("geom_xpos", "geom_xmat"))
        count = self.scene.count
        if positions.shape != (count, 3):
            raise ValueError(
                f"data must have geom_xpos of shape ({count}, 3), one row for each of the model's geoms, got "
                f"{positions.shape}. Use jax.vmap for several environments."
            )
        rotations = rotations.reshape(count, 3, 3)
        scales = jnp.asarray(self.scales, positions.dtype)
        if camera is not None:
            positions = positions + self._following(positions, rotations, camera)
        top = jnp.concatenate([rotations * scales[:, None], positions[..., None]], axis=2)
        last = jnp.broadcast_to(jnp.array([[[0, 0, 0, 1]]], top.dtype), (count, 1, 4))
        return jnp.concatenate([top, last], axis=1)

    def _following(self, positions, rotations, camera):
        """How far infinite planes have moved after the camera."""
        view = lax.stop_gradient(camera.pose.camera_from_world()).astype(positions.dtype)
        eye = -(view[:3, :3].T @ view[:3, 3])
        steps = 2 * jnp.asarray(self.steps, positions.dtype)
        along = jnp.einsum("gi,gik->gk", lax.stop_gradient(eye - positions), rotations[..., :2])
        moved = jnp.where(steps > 0, jnp.round(along / jnp.where(steps > 0, steps, 1)) * steps, 0)
        return jnp.einsum("gik,gk->gi", rotations[..., :2], moved)

    def place(
        self, data: Any, camera: Camera | None = None, *, visible: Bool[ArrayLike, " geoms"] | None = None
    ) -> PlacedScene:
        """Returns the mesh of all geoms in world space and the geom id of each face.

        Gradients: reach `geom_xpos` and `geom_xmat`.

        Args:
            data: As for `poses`.
            camera: As for `poses`.
            visible: False leaves a geom out; None shows all that are drawn.
        """
        return self.scene.place(self.poses(data, camera), visible=visible)

    def corner_normals(self, data: Any) -> Float[Array, "faces 3 3"]:
        """Returns normals at the corners of `place`'s faces in world space, as MuJoCo shades them.

        Args:
            data: As for `poses`.
        """
        rotations = _checks.as_compute(data.geom_xmat, "geom_xmat").reshape(self.scene.count, 3, 3)
        matrices = rotations / jnp.asarray(self.scales, rotations.dtype)[:, None]
        instances = self.scene._instances
        each = [
            jnp.einsum("fki,ji->fkj", jnp.asarray(self.normals[mesh], matrices.dtype), matrices[geom])
            for geom, mesh in enumerate(instances)
        ]
        return jnp.concatenate(each)

    def camera(
        self, data: Any, camera: int | str | Any = -1, *, image_size: int | tuple[int, int] | None = None
    ) -> Camera:
        """Returns a camera of the model.

        Args:
            data: As for `poses`.
            camera: Index or name of a camera; -1 is MuJoCo's default free camera, which needs no camera in the model.
            image_size: Height and width of the image, on which the pixels of cameras with intrinsics depend.
        """
        if isinstance(camera, Camera):
            return camera
        index = self._camera_index(camera)
        if isinstance(index, int) and index < 0:
            return _views.free_camera(self.cameras)
        return _views.model_camera(self.cameras, data, index, self.image_size(index, image_size))

    def image_size(self, camera, image_size=None):
        if image_size is not None:
            return _checks.as_image_size(image_size)
        if isinstance(camera, (int, str)):
            index = self._camera_index(camera)
            resolution = self.cameras.resolutions[index] if index >= 0 else None
            if resolution is not None:
                return resolution
        return (240, 320)

    def _camera_index(self, camera):
        if isinstance(camera, str):
            if camera not in self.cameras.names:
                raise ValueError(f"camera must be one of {self.cameras.names}, got {camera!r}.")
            return self.cameras.names.index(camera)
        return camera

    def render(
        self,
        data: Any,
        camera: Any = -1,
        *,
        image_size: int | tuple[int, int] | None = None,
        visible: Bool[ArrayLike, " geoms"] | None = None,
        lights: Sequence[Light] | None = None,
        **options: Any,
    ) -> Rendering:
        """Renders the model."""
        size = self.image_size(camera, image_size)
        view = self.camera(data, camera, image_size=size)
        placed = self.place(data, view, visible=visible)
        given = {"cull": "back", "normals": self.corner_normals(data), "lights": lights} | options
        if "instance" in inspect.signature(render).parameters:
            given["instance"] = placed.instance
        return render(placed.mesh, camera=view, image_size=size, **given)


def load(model: Any, *, groups: Sequence[int] = (0, 1, 2), resolution: tuple[int, int] | None = None) -> ModelScene:
    """Returns the scene of a compiled MuJoCo model."""
    slices, stacks = (model.vis.quality.numslices, model.vis.quality.numstacks) if resolution is None else resolution
    colors, is_drawn = _colors(model, groups)
    meshes: dict[tuple, tuple] = {}
    instances, white = [], jnp.ones((1, 1, 3), jnp.float32)
    images = {}
    coatings = [
        _textures.coating_of(model, geom) if is_drawn[geom] else _textures.Coating() for geom in range(model.ngeom)
    ]
    is_textured = any(coating.kind != "none" for coating in coatings)
    for geom, coating in enumerate(coatings):
        key: tuple = ("empty",)
        if is_drawn[geom]:
            key = (*_geoms.key_of(model, geom), coating)
            if coating.kind == "explicit" and coating.shift:
                key = (*key, tuple(_geoms.half_sizes_of_plane(model, geom)))
        if key not in meshes:
            outline = _geoms.EMPTY
            if is_drawn[geom]:
                rows = stacks if coating.kind == "cube" else 1
                outline = _geoms.outline(model, key[:2], slices, stacks, rows)
            if coating.texture not in images and coating.texture >= 0:
                images[coating.texture] = [jnp.asarray(i) for i in _textures.images_of(model, coating.texture)]
            texture = None
            if coating.kind != "none":
                outline, uv, side = _textures.coordinates(
                    model, key[:2], outline, coating, _geoms.half_sizes_of_plane(model, geom)
                )
                own = images[coating.texture]
                material = side if len(own) > 1 else np.zeros_like(side)
                texture = _textures.uv_texture(own, uv, material, "clamp" if coating.kind == "cube" else "repeat")
            elif is_textured:
                count = len(outline.faces)
                texture = _textures.uv_texture([white], np.zeros((count, 3, 2)), np.zeros(count, int), "repeat")
            mesh = Mesh(
                jnp.asarray(outline.vertices, jnp.float32).reshape(-1, 3),
                jnp.asarray(outline.faces, jnp.int32).reshape(-1, 3),
                texture,
            )
            meshes[key] = len(meshes), mesh, jnp.asarray(outline.normals, jnp.float32)
        instances.append(meshes[key][0])
    steps = [
        _geoms.step_of_plane(model, g) if model.geom_type[g] == _geoms.PLANE else (0, 0) for g in range(model.ngeom)
    ]
    return ModelScene(
        Scene([mesh for _, mesh, _ in meshes.values()], instances, jnp.asarray(colors, jnp.float32)),
        jnp.asarray(np.array([_geoms.scale_of(model, geom) for geom in range(model.ngeom)]), jnp.float32),
        jnp.asarray(np.array(steps), jnp.float32),
        tuple(normals for *_, normals in meshes.values()),
        _views.cameras_of(model),
    )


def _colors(model, groups):
    """Colour of each geom, and whether it is drawn."""
    rgba = np.asarray(model.geom_rgba, float)
    is_default = np.all(rgba == (0.5, 0.5, 0.5, 1), axis=1)
    material = model.geom_matid
    of_material = np.asarray(model.mat_rgba, float)[material] if model.nmat else rgba
    rgba = np.where((is_default & (material >= 0))[:, None], of_material, rgba)
    group = np.clip(model.geom_group, 0, mujoco.mjNGROUP - 1)
    return rgba[:, :3], np.isin(group, groups) & (rgba[:, 3] > 0)
