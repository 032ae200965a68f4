"""Scenes of MuJoCo models."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jnr import _checks
from jnr._camera import Camera, affine
from jnr._lights import Light
from jnr._mesh import Mesh
from jnr._pytree import pytree
from jnr._render import Rendering, render
from jnr._scene import PlacedScene, Scene, place_points
from jnr._textures import UVTexture, one_or_per_image
from jnr.mujoco import _geoms, _textures, _views
from jnr.mujoco._geoms import mujoco

# As mujoco.Renderer.
IMAGE_SIZE = 240, 320


@pytree()
class ModelScene:
    """The geoms, cameras and lights of a MuJoCo model, rendered from the states of MuJoCo or MJX. `load` makes one.

    Every geom of the model is an instance, so an instance's index is MuJoCo's geom id. Geoms that are not drawn have no
    faces.

    A scene is a pytree of arrays. Pass it to a function under `jit` rather than let the function close over it: a large
    mesh as a constant takes long to compile. `vmap` over `data` is the batch of environments, `vmap` over indices of
    cameras that of views.

    `data` is a `mujoco.MjData`, a `mjx.Data` or another object with their fields, after `mj_forward`, `mjx.forward` or
    a step: `geom_xpos`, `geom_xmat`; for cameras of the model `cam_xpos`, `cam_xmat`; for lights in MJX `xpos`, `xmat`
    and `subtree_com`.

    Attributes:
        scene: Meshes and colours of the geoms.
        textures: Textures of `place`'s mesh, None if the model has none.
        sky: Images of the skybox, six or one for all sides; None if the model has none.
        scales: Factors along each geom's axes from its mesh, which geoms of other sizes may share, to its size.
        steps: Steps along its axes x and y in which an infinite plane follows the camera; zero for all else.
        normals: Normals at the vertices of each mesh.
        cameras: Fields of view and other numbers of the cameras.
        lighting: Colours and other numbers of the lights.
    """

    scene: Scene
    textures: UVTexture | None
    sky: tuple[Float[Array, "size size 3"], ...] | None
    scales: Float[Array, "geoms 3"]
    steps: Float[Array, "geoms 2"]
    normals: tuple[Float[Array, "_ 3"], ...]
    cameras: _views.Cameras
    lighting: _views.Lights

    def poses(self, data: Any, camera: int | str | Camera | Any | None = None) -> Float[Array, "geoms 4 4"]:
        """Matrices from each geom's mesh to world space, as `jnr.Scene.place` takes them; they contain the scales.

        Gradients: reach `geom_xpos`, `geom_xmat` and `scales`.

        Args:
            data: A state of one environment.
            camera: Camera that infinite planes follow, as for `camera`; None leaves them around their origin.

        Raises:
            ValueError: If `data` is not of this model or of several environments, or a number is not finite; and as for
                `camera`.
            TypeError: If `data` lacks a field; and as for `camera`.
        """
        rotations, positions = self._frames(data)
        scales = jnp.asarray(self.scales, positions.dtype)
        if camera is not None:
            positions = positions + self._following(positions, rotations, self.camera(data, camera))
        return affine(rotations * scales[:, None], positions)

    def _frames(self, data):
        positions, rotations = _views.field(data, "geom_xpos"), _views.field(data, "geom_xmat")
        count = self.scene.count
        if positions.shape != (count, 3):
            raise ValueError(
                f"data must have geom_xpos of shape ({count}, 3), a row for each of the model's geoms, got "
                f"{positions.shape}. Use jax.vmap for several environments."
            )
        return rotations.reshape(count, 3, 3), positions

    def _following(self, positions, rotations, camera):
        """How far what is drawn of infinite planes has moved after the camera."""
        view = lax.stop_gradient(camera.pose.camera_from_world()).astype(positions.dtype)
        eye = -jnp.sum(view[:3, :3] * view[:3, 3:], axis=0)
        steps, along = jnp.asarray(self.steps, positions.dtype), rotations[:, :, :2]
        away = jnp.sum(along * lax.stop_gradient(eye[None] - positions)[:, :, None], axis=1)
        moved = jnp.where(steps > 0, jnp.round(away / jnp.where(steps > 0, steps, 1)) * steps, 0)
        return jnp.sum(along * lax.stop_gradient(moved)[:, None], axis=2)

    def place(
        self,
        data: Any,
        camera: int | str | Camera | Any | None = None,
        *,
        visible: Bool[ArrayLike, " geoms"] | None = None,
    ) -> PlacedScene:
        """The mesh of all geoms in world space, the last geom first, and the geom id of each face.

        Gradients: reach `geom_xpos`, `geom_xmat`, `scales` and the scene's colours.

        Args:
            data: A state of one environment.
            camera: As for `poses`.
            visible: False leaves a geom out; None shows all that `load` drew.

        Raises:
            ValueError: As for `poses`.
            TypeError: As for `poses`.
        """
        mesh, instance = self.scene.place(self.poses(data, camera), visible=visible)
        # The first face wins where surfaces coincide, the last one in MuJoCo.
        mesh, instance = mesh._replace(faces=mesh.faces[::-1]), instance[::-1]
        if self.textures is not None:
            colors = jnp.asarray(self.scene.colors)
            textures = dataclasses.replace(self.textures, factor=jnp.take(colors, instance, axis=0))
            mesh = mesh._replace(textures=textures)
        return PlacedScene(mesh, instance)

    def vertex_normals(self, data: Any) -> Float[Array, "vertices 3"]:
        """Normals at the vertices of `place`'s mesh, of any length, smooth and sharp where MuJoCo's are.

        Args:
            data: A state of one environment.
        """
        rotations, positions = self._frames(data)
        matrices = affine(rotations / jnp.asarray(self.scales, positions.dtype)[:, None], jnp.zeros_like(positions))
        return place_points(self.scene, self.normals, matrices)

    def camera(
        self, data: Any, camera: int | str | Camera | Any = -1, *, image_size: int | tuple[int, int] | None = None
    ) -> Camera:
        """A camera as MuJoCo's renderer has it.

        The near and far planes are MuJoCo's: `vis.map.znear` and `vis.map.zfar` times `stat.extent`. A camera with
        `sensorsize` becomes `jnr.Intrinsics` for images of `image_size`; as in MuJoCo, an image of another aspect ratio
        than the sensor is stretched.

        Gradients: reach `cam_xpos` and `cam_xmat`, and the numbers in `cameras`.

        Args:
            data: A state of one environment.
            camera: Index or name of a camera of the model, -1 for MuJoCo's free camera, or a `mujoco.MjvCamera`. An
                index may be traced, so that `vmap` renders several cameras; -1 is then the last camera. A `jnr.Camera`
                is returned.
            image_size: Height and width of the image, or one int for both; None as for `render`.

        Raises:
            ValueError: If there is no such camera.
            TypeError: If `camera` is of another kind, or `data` lacks a field.
        """
        if isinstance(camera, Camera):
            return camera
        index = self._index(camera)
        if isinstance(index, int) and index < 0:
            given: Any = camera
            if not isinstance(given, mujoco.MjvCamera):
                return _views.free_camera(self.cameras)
            is_tracking = given.type == mujoco.mjtCamera.mjCAMERA_TRACKING
            lookat = _views.field(data, "subtree_com")[given.trackbodyid] if is_tracking else given.lookat
            return _views.free_camera(self.cameras, given, lookat)
        return _views.fixed_camera(self.cameras, data, index, self._image_size(index, image_size))

    def _index(self, camera) -> Any:
        """The index of a camera, -1 for a free one."""
        names = self.cameras.names
        if isinstance(camera, mujoco.MjvCamera):
            kind = mujoco.mjtCamera
            if camera.type in (kind.mjCAMERA_FREE, kind.mjCAMERA_TRACKING):
                return -1
            if camera.type != kind.mjCAMERA_FIXED:
                raise ValueError(f"camera must be free, tracking or fixed, got type {camera.type}.")
            camera = camera.fixedcamid
        if isinstance(camera, str):
            if not camera or camera not in names:
                raise ValueError(f"camera must be the name of one of the model's cameras {names}, got {camera!r}.")
            return names.index(camera)
        if isinstance(camera, jax.Array) or (isinstance(camera, np.ndarray) and camera.ndim == 0):
            if camera.shape != () or not jnp.issubdtype(camera.dtype, jnp.integer):
                raise TypeError(f"camera must be one index, got shape {camera.shape} and dtype {camera.dtype}.")
            if not names:
                raise ValueError("camera must be -1 where the model has no cameras, got an array.")
            return camera
        try:
            return _checks.as_count(camera, "camera", least=-1, most=len(names) - 1)
        except TypeError as error:
            raise TypeError(
                f"camera must be an index, a name, a mujoco.MjvCamera or a jnr.Camera, got {type(camera).__name__}."
            ) from error

    def _image_size(self, index, image_size) -> tuple[int, int]:
        if image_size is not None:
            return _checks.as_image_size(image_size)
        resolution = self.cameras.resolutions[index] if isinstance(index, int) and index >= 0 else None
        return resolution or IMAGE_SIZE

    def lights(self, data: Any, camera: int | str | Camera | Any = -1) -> tuple[Light, ...]:
        """The ambient light, the headlight and the active lights, as far as jnr has them.

        Directional lights, point lights and spot lights have MuJoCo's diffuse colour, attenuation, cutoff and exponent.
        There are no shadows, reflections or highlights.

        Gradients: reach the numbers in `lighting`, and the fields of `data` that place the lights.

        Args:
            data: A state of one environment.
            camera: Camera along whose view the headlight shines, as for `camera`.

        Raises:
            ValueError: As for `camera`.
            TypeError: As for `camera`.
        """
        return _views.lights_at(self.lighting, data, self.camera(data, camera))

    def render(
        self,
        data: Any,
        camera: int | str | Camera | Any = -1,
        *,
        image_size: int | tuple[int, int] | None = None,
        visible: Bool[ArrayLike, " geoms"] | None = None,
        lights: Sequence[Light] | None = None,
        **options: Any,
    ) -> Rendering:
        """Renders a state from a camera. `instance` of the result has MuJoCo's geom ids, -1 where there is none.

        Gradients: as for `jnr.render`; they reach `geom_xpos`, `geom_xmat`, `cam_xpos` and `cam_xmat`, and with MJX
        what these depend on.

        Args:
            data: A state of one environment.
            camera: As for `camera`.
            image_size: Height and width, or one int for both; None is the camera's `resolution`, if it has one, or 240
                by 320 as in `mujoco.Renderer`.
            visible: False leaves a geom out; None shows all that `load` drew.
            lights: None for the model's lights; an empty sequence shows colours and textures unlit.
            options: Other arguments of `jnr.render`. Different defaults are `cull="back"`, as in MuJoCo, the normals of
                `vertex_normals`, and the skybox as background.

        Returns:
            The rendering, row 0 at the top.

        Raises:
            ValueError: As for `poses`, `camera` and `jnr.render`.
            TypeError: As for `poses`, `camera` and `jnr.render`.

        Example:
            >>> scene = jnr.mujoco.load(model)
            >>> images = jax.vmap(lambda data: scene.render(data, "side", image_size=64).rgb)(batch_of_mjx_data)
        """
        index = None if isinstance(camera, Camera) else self._index(camera)
        size = self._image_size(index, image_size)
        view = self.camera(data, camera, image_size=size)
        placed = self.place(data, view, visible=visible)
        given = {"cull": "back", "instance": placed.instance} | options
        if self.sky is not None and "background" not in given:
            given["background"] = _views.sky_seen(self.sky, view, size)
        if "normals" not in given:
            given["normals"] = self.vertex_normals(data)
        lights = self.lights(data, view) if lights is None else lights
        return render(placed.mesh, camera=view, lights=lights, image_size=size, **given)


def load(model: Any, *, groups: Sequence[int] = (0, 1, 2), resolution: tuple[int, int] | None = None) -> ModelScene:
    """Prepares a compiled MuJoCo model to be rendered.

    Geoms look as in MuJoCo's renderer: their shapes and tessellation, colours of geoms and materials, textures (2D and
    cube) and their mapping, planes that are infinite. A shape that several geoms have is stored once; boxes, cylinders,
    spheres and ellipsoids are scaled. Meshes are drawn as they are, not as their convex hulls.

    What jnr cannot draw is left out with one warning that names it.

    Args:
        model: A `mujoco.MjModel`. A brax system has it as `sys.mj_model`.
        groups: Groups of the geoms that are drawn, by default those that MuJoCo's renderer draws.
        resolution: Slices around the axis and stacks from pole to pole of spheres, capsules and cylinders; None is the
            model's, by default 28 and 16. Small images need less: (10, 6) has a sixth of the faces.

    Raises:
        ImportError: If mujoco is missing.
        TypeError: If `model` is not a compiled model, or a number is not an int.
        ValueError: If the model has no geoms, or a number is out of range.

    Example:
        >>> model = mujoco.MjModel.from_xml_path("humanoid.xml")
        >>> scene = jnr.mujoco.load(model)
        >>> image = scene.render(data, image_size=128).rgb
    """
    if not isinstance(model, mujoco.MjModel):
        raise TypeError(f"model must be a mujoco.MjModel, got {type(model).__name__}.")
    if not model.ngeom:
        raise ValueError("model must have at least one geom, got none.")
    if not isinstance(groups, (tuple, list, range)):
        raise TypeError(f"groups must be a sequence of ints, got {type(groups).__name__}.")
    groups = [_checks.as_count(group, "groups", least=0, most=mujoco.mjNGROUP - 1) for group in groups]
    slices, stacks = _resolution(model, resolution)
    rgba, is_drawn = _colors(model, groups)
    left_out = _left_out(model, rgba, is_drawn)
    if left_out:
        warnings.warn(f"jnr.mujoco.load leaves out {'; '.join(left_out)}.", stacklevel=2)

    builder = _Builder(model, slices, stacks, is_drawn)
    instances, textures = builder.instances(), builder.textures()
    steps = [_geoms.step_of_plane(model, i) * (model.geom_type[i] == _geoms.PLANE) for i in range(model.ngeom)]
    sky = _textures.skybox_of(model)
    return ModelScene(
        scene=Scene([part.mesh for part in builder.parts.values()], instances, jnp.asarray(rgba[:, :3], jnp.float32)),
        textures=textures,
        sky=None if sky is None else tuple(map(jnp.asarray, sky)),
        scales=jnp.asarray(np.stack([_geoms.scale_of(model, i) for i in range(model.ngeom)]), jnp.float32),
        steps=jnp.asarray(np.stack(steps), jnp.float32),
        normals=tuple(part.normals for part in builder.parts.values()),
        cameras=_views.cameras_of(model),
        lighting=_views.lights_of(model),
    )


class _Part(NamedTuple):
    """What geoms of one shape and texture share: a mesh, its normals, texture coordinates and images per face."""

    mesh: Mesh
    normals: jax.Array
    uv: np.ndarray
    image: np.ndarray


class _Builder:
    """Makes the meshes and textures of geoms, each once."""

    def __init__(self, model, slices, stacks, is_drawn):
        self.model, self.slices, self.stacks, self.is_drawn = model, slices, stacks, is_drawn
        none = _textures.Coating()
        self.coatings = [_textures.coating_of(model, i) if drawn else none for i, drawn in enumerate(is_drawn)]
        self.parts: dict[tuple, _Part] = {}
        self.images = [np.ones((1, 1, 3), np.float32)]
        self.wraps = ["repeat"]
        self.first_images = {-1: 0}

    def instances(self):
        """Index of every geom's mesh."""
        keys = [self._key(geom) for geom in range(self.model.ngeom)]
        for geom, key in enumerate(keys):
            if key not in self.parts:
                self.parts[key] = self._part(geom)
        places = {key: place for place, key in enumerate(self.parts)}
        self.of_geom = [self.parts[key] for key in keys]
        return [places[key] for key in keys]

    def textures(self):
        """The texture of all geoms' faces, in the order of `ModelScene.place`."""
        if len(self.images) == 1:
            return None
        uv = np.concatenate([part.uv for part in self.of_geom])[::-1]
        image = np.concatenate([part.image for part in self.of_geom])[::-1]
        rows, uv_faces = _geoms.joined(uv)
        return UVTexture(
            images=tuple(map(jnp.asarray, self.images)),
            uv=jnp.asarray(rows, jnp.float32),
            uv_faces=jnp.asarray(uv_faces, jnp.int32),
            material=jnp.asarray(image, jnp.int32),
            wrap=one_or_per_image(self.wraps),
            filter="trilinear",
        )

    def _key(self, geom):
        """Geoms of one key share a part."""
        if not self.is_drawn[geom]:
            return ()
        shape, coating = _geoms.key_of(self.model, geom), self.coatings[geom]
        # The texture of an infinite plane has the scale of space, not of the plane.
        is_endless = shape[0] == _geoms.PLANE and coating.shift != 0
        return shape, coating, tuple(_geoms.half_sizes_of_plane(self.model, geom)) if is_endless else None

    def _part(self, geom):
        coating = self.coatings[geom]
        if not self.is_drawn[geom]:
            outline = _geoms.EMPTY
        else:
            shape = _geoms.key_of(self.model, geom)
            # A cube's images are stretched linearly within a face, so faces must not be long. A box shows one image per
            # side if the cube is not stretched.
            is_exact = shape[0] == _geoms.BOX and len(set(coating.scale)) == 1
            rows = self.stacks if coating.kind == "cube" and not is_exact else 1
            outline = _geoms.outline_of(self.model, shape, self.slices, self.stacks, rows)
        uv, side = np.zeros((*outline.faces.shape, 2)), np.zeros(len(outline.faces), int)
        if coating.kind != "none":
            half_sizes = _geoms.half_sizes_of_plane(self.model, geom)
            outline, uv, side = _textures.coordinates(self.model, shape, outline, coating, half_sizes)
        first, count = self._add_images(coating)
        vertices, normals = (jnp.asarray(array, jnp.float32) for array in (outline.vertices, outline.normals))
        mesh = Mesh(vertices, jnp.asarray(outline.faces, jnp.int32))
        return _Part(mesh, normals, uv, first + np.minimum(side, count - 1))

    def _add_images(self, coating):
        """Index of the first image of a texture, and the number of its images."""
        texture = coating.texture
        if texture < 0:
            return 0, 1
        images = _textures.images_of(self.model, texture)
        if texture not in self.first_images:
            self.first_images[texture] = len(self.images)
            self.images += images
            self.wraps += ["clamp" if coating.kind == "cube" else "repeat"] * len(images)
        return self.first_images[texture], len(images)


def _resolution(model, resolution):
    if resolution is None:
        resolution = model.vis.quality.numslices, model.vis.quality.numstacks
    if not isinstance(resolution, (tuple, list)) or len(resolution) != 2:
        raise TypeError(f"resolution must be a pair of ints, slices and stacks, or None, got {resolution!r}.")
    slices = _checks.as_count(resolution[0], "resolution", least=3, most=1024)
    stacks = _checks.as_count(resolution[1], "resolution", least=2, most=1024)
    # MuJoCo's spheres consist of two halves.
    return slices, stacks - stacks % 2


def _colors(model, groups):
    """Colour and opacity of each geom, and whether it is drawn."""
    rgba, material = np.asarray(model.geom_rgba, np.float32), model.geom_matid
    # MuJoCo's rule: a geom's own colour wins unless it is the default.
    is_default = np.all(rgba == np.array([0.5, 0.5, 0.5, 1], np.float32), axis=1)
    of_material = np.asarray(model.mat_rgba, np.float32)[material] if model.nmat else rgba
    rgba = np.where((is_default & (material >= 0))[:, None], of_material, rgba)
    group = np.clip(model.geom_group, 0, mujoco.mjNGROUP - 1)
    return rgba, np.isin(group, groups) & (rgba[:, 3] > 0)


def _left_out(model, rgba, is_drawn):
    """What MuJoCo's renderer shows of the model and jnr does not."""
    found = []
    for kind, count in (("site", model.nsite), ("tendon", model.ntendon), ("skin", model.nskin), ("flex", model.nflex)):
        group = np.clip(getattr(model, f"{kind}_group"), 0, mujoco.mjNGROUP - 1)
        shown = (group < 3) & (getattr(model, f"{kind}_rgba")[:, 3] > 0)
        if kind == "tendon":
            joint = int(mujoco.mjtWrap.mjWRAP_JOINT)
            shown &= np.asarray(model.wrap_type)[model.tendon_adr] != joint
        if count and shown.any():
            found.append(f"{kind}s {_named(model, kind, np.flatnonzero(shown))}")
    clear = is_drawn & (rgba[:, 3] < 0.995)
    if clear.any():
        found.append(f"the transparency of geoms {_named(model, 'geom', np.flatnonzero(clear))}, which are opaque")
    material = model.geom_matid[is_drawn & (model.geom_matid >= 0)]
    for name, values in (("emission", model.mat_emission), ("reflectance", model.mat_reflectance)):
        shown = [i for i in np.unique(material) if values[i] > 0]
        if shown:
            found.append(f"the {name} of materials {_named(model, 'material', shown)}")
    active = np.flatnonzero(model.light_active)
    shadows = [i for i in active if model.light_castshadow[i]]
    if shadows:
        found.append(f"the shadows of lights {_named(model, 'light', shadows)}")
    images = [i for i in active if model.light_type[i] == int(mujoco.mjtLightType.mjLIGHT_IMAGE)]
    if images:
        found.append(f"image lights {_named(model, 'light', images)}")
    endless = (model.geom_type == _geoms.PLANE) & is_drawn & np.all(model.geom_size[:, :2] == 0, axis=1)
    if endless.any() and np.any(model.tex_type == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX)):
        found.append("the haze at the horizon")
    return found


def _named(model, kind, indices):
    """Names of objects, or their indices where they have none; the first few."""
    names = [getattr(model, kind)(int(i)).name or str(i) for i in indices]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
