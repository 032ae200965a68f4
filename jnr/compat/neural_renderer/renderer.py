"""Neural Renderer's class `Renderer` with the interface of the PyTorch port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

import jnr
from jnr import _checks
from jnr.compat.neural_renderer._batch import as_faces, as_textures, as_vertices, over_batch
from jnr.compat.neural_renderer._cameras import ScreenSpacePerspective, calibrated, calibration, camera_space

Vertices = Float[ArrayLike, "#batch vertices 3"]
Faces = Int[ArrayLike, "#batch faces 3"]
Textures = Float[ArrayLike, "#batch faces t t t channels"] | None
Matrices = Float[ArrayLike, "3 3"] | Float[ArrayLike, "#batch 3 3"] | None
Vectors = Float[ArrayLike, " _"] | Float[ArrayLike, "#batch _"] | Float[ArrayLike, "#batch 1 _"] | None
Images = Float[Array, "batch height width"]
RGB = Float[Array, "batch channels height width"]

Mode = Literal["rgb", "silhouettes", "depth"]
CAMERA_MODES = ("projection", "look", "look_at")
LIGHT = ("light_color_ambient", "light_color_directional", "light_direction")
# The attributes that place the camera.
POSES = {"look_at": ("eye",), "look": ("eye", "camera_direction")}


class Renderer:
    """Renders batches of meshes; camera and lights are attributes.

    Attributes can be set at any time. A function under `jax.jit` uses the values of its trace, so set attributes that
    change inside the function. `eye`, `camera_direction`, `background_color`, colours and direction of the light, `K`,
    `R`, `t` and `dist_coeffs` are shared by the batch or have one value per batch item; a batch of one mesh is rendered
    with each of their values. These attributes may be traced, as may `orig_size`, `near`, `far`, `viewing_angle` and
    the intensities of the light.

    Gradients: those of `jnr.render`, to the arguments and to every attribute that may be traced.

    Attributes:
        image_size: Height and width of the images, in pixels.
        anti_aliasing: Whether each pixel is the mean of 2 x 2 samples.
        background_color: One value per channel, (channels,) or (batch, channels).
        fill_back: Whether both sides of faces are rendered; if False, faces that are clockwise in the image are culled.
        camera_mode: `"projection"` (K, R, t, dist_coeffs, orig_size), `"look_at"` (from `eye` to the origin) or
            `"look"` (from `eye` along `camera_direction`). As an attribute also `"none"`: vertices are in the space of
            `rasterize`.
        K: Calibration matrix in pixels of an image of `orig_size`, (3, 3) or (batch, 3, 3), see `projection`.
        R: Rotation from world to camera, in OpenCV's axes, (3, 3) or (batch, 3, 3).
        t: World origin in camera coordinates, (3,), (batch, 3) or (batch, 1, 3).
        dist_coeffs: k1, k2, p1, p2, k3 of OpenCV's distortion model, (5,) or (batch, 5); zeros by default.
        orig_size: Width and height, in pixels, of the image that `K` refers to.
        perspective: Whether `"look_at"` and `"look"` divide by depth.
        viewing_angle: Half the field of view of `"look_at"` and `"look"`, in degrees.
        eye: Camera position of `"look_at"` and `"look"`, (3,) or (batch, 3). By default the distance is
            `1 / tan(viewing_angle) + 1`, at which an object of radius 1 fills the image.
        camera_direction: Viewing direction of `"look"`, (3,) or (batch, 3).
        near: Depth of the near plane; nothing nearer is rendered.
        far: Depth of the far plane, beyond which nothing is rendered; also the depth of the background.
        light_intensity_ambient: Factor on `light_color_ambient`.
        light_intensity_directional: Factor on `light_color_directional`.
        light_color_ambient: One value per channel, (channels,) or (batch, channels).
        light_color_directional: One value per channel, (channels,) or (batch, channels).
        light_direction: Direction towards the light, not normalized, (3,) or (batch, 3). As in the originals, its sign
            is reversed in `"projection"` mode, whose images are not mirrored.
        rasterizer_eps: Regularization of the edge sweep of `render` and `render_rgb`, see `jnr.edge_sweep`.
        silhouettes_eps: Regularization of the edge sweep of `render_silhouettes`; a constant in the originals.

    Example:
        >>> renderer = nr.Renderer(image_size=64, camera_mode="look_at")
        >>> renderer.eye = nr.get_points_from_angles(2.732, 30, 45)
        >>> ball = jnr.shapes.icosphere(2)
        >>> alpha = renderer(ball.vertices[None], ball.faces[None], mode="silhouettes")
    """

    def __init__(
        self,
        image_size: int = 256,
        anti_aliasing: bool = True,
        background_color: ArrayLike | Sequence[float] = (0, 0, 0),
        fill_back: bool = True,
        camera_mode: str = "projection",
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int = 1024,
        perspective: bool = True,
        viewing_angle: ArrayLike = 30,
        camera_direction: ArrayLike | Sequence[float] = (0, 0, 1),
        near: ArrayLike = 0.1,
        far: ArrayLike = 100,
        light_intensity_ambient: ArrayLike = 0.5,
        light_intensity_directional: ArrayLike = 0.5,
        light_color_ambient: ArrayLike | Sequence[float] = (1, 1, 1),
        light_color_directional: ArrayLike | Sequence[float] = (1, 1, 1),
        light_direction: ArrayLike | Sequence[float] = (0, 1, 0),
    ):
        self.image_size = image_size
        self.anti_aliasing = anti_aliasing
        self.background_color = background_color
        self.fill_back = fill_back
        self.camera_mode = camera_mode
        self.K, self.R, self.t = K, R, t
        self.dist_coeffs = np.zeros((1, 5), np.float32) if dist_coeffs is None else dist_coeffs
        self.orig_size = orig_size
        self.perspective = perspective
        self.viewing_angle = viewing_angle
        self.eye: Any = [0.0, 0.0, -(1 / np.tan(np.deg2rad(viewing_angle)) + 1)]
        self.camera_direction = camera_direction
        self.near, self.far = near, far
        self.light_intensity_ambient = light_intensity_ambient
        self.light_intensity_directional = light_intensity_directional
        self.light_color_ambient = light_color_ambient
        self.light_color_directional = light_color_directional
        self.light_direction = light_direction
        self.rasterizer_eps = 1e-3
        self.silhouettes_eps = 1e-4
        _checks.check_choice(camera_mode, "camera_mode", CAMERA_MODES)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `forward`, which describes the arguments."""
        return self.forward(*args, **kwargs)

    def forward(
        self,
        vertices: Vertices,
        faces: Faces,
        textures: Textures = None,
        mode: Mode | None = None,
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int | None = None,
    ) -> Any:
        """Calls `render`, `render_rgb`, `render_silhouettes` or `render_depth`, depending on `mode`.

        Args:
            vertices: Positions in world space.
            faces: Vertex indices of each face.
            textures: Texture cubes; None renders white faces.
            mode: `"rgb"`, `"silhouettes"` or `"depth"`; None calls `render`.
            K: Replaces the attribute for this call if not None.
            R: Replaces the attribute for this call if not None.
            t: Replaces the attribute for this call if not None.
            dist_coeffs: Replaces the attribute for this call if not None.
            orig_size: Replaces the attribute for this call if not None.

        Returns:
            The result of that method.

        Raises:
            TypeError: If an argument is not an array of the right kind of numbers.
            ValueError: If a shape, index or setting is not valid, or a calibration is missing in `"projection"` mode.
        """
        _checks.check_choice(mode, "mode", (None, "rgb", "silhouettes", "depth"))
        camera = (K, R, t, dist_coeffs, orig_size)
        if mode == "silhouettes":
            return self.render_silhouettes(vertices, faces, *camera)
        if mode == "depth":
            return self.render_depth(vertices, faces, *camera)
        return (self.render if mode is None else self.render_rgb)(vertices, faces, textures, *camera)

    def render(
        self,
        vertices: Vertices,
        faces: Faces,
        textures: Textures = None,
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int | None = None,
    ) -> Any:
        """Returns RGB (batch, channels, height, width), depth and alpha (batch, height, width); see `forward`."""
        rendering = self._rendering(vertices, faces, textures, (K, R, t, dist_coeffs, orig_size))
        return jnp.moveaxis(rendering.rgb, -1, 1), rendering.depth, rendering.alpha

    def render_rgb(
        self,
        vertices: Vertices,
        faces: Faces,
        textures: Textures = None,
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int | None = None,
    ) -> RGB:
        """Returns RGB (batch, channels, height, width); see `forward`."""
        rendering = self._rendering(vertices, faces, textures, (K, R, t, dist_coeffs, orig_size))
        return jnp.moveaxis(rendering.rgb, -1, 1)

    def render_silhouettes(
        self,
        vertices: Vertices,
        faces: Faces,
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int | None = None,
    ) -> Images:
        """Returns alpha (batch, height, width), with the edge sweep of `silhouettes_eps`; see `forward`."""

        def one(vertices, faces, **settings):
            return jnr.render_silhouette(vertices, faces, eps=self.silhouettes_eps, **self._options(settings))

        return self._over_batch(one, vertices, faces, (K, R, t, dist_coeffs, orig_size))

    def render_depth(
        self,
        vertices: Vertices,
        faces: Faces,
        K: Matrices = None,
        R: Matrices = None,
        t: Vectors = None,
        dist_coeffs: Vectors = None,
        orig_size: int | None = None,
    ) -> Images:
        """Returns depth (batch, height, width), `far` in the background; see `forward`."""

        def one(vertices, faces, **settings):
            return jnr.render_depth(vertices, faces, **self._options(settings))

        return self._over_batch(one, vertices, faces, (K, R, t, dist_coeffs, orig_size))

    def _rendering(self, vertices, faces, textures, camera) -> jnr.Rendering:
        def one(vertices, faces, textures, background_color, **settings):
            light = {name: settings.pop(name) for name in LIGHT}
            options = self._options(settings)
            return jnr.render(
                vertices,
                faces,
                textures,
                lights=self._lights(options["camera"], **light),
                background=background_color,
                eps=self.rasterizer_eps,
                **options,
            )

        names = ("background_color", *LIGHT)
        settings = {name: (getattr(self, name), 1) for name in names}
        return self._over_batch(one, vertices, faces, camera, (textures,), **settings)

    def _over_batch(self, one, vertices, faces, camera, textures=(), **settings):
        """Maps `one` over the batch; entries of `camera` that are not None replace the attributes."""
        vertices = as_vertices(vertices)
        faces = as_faces(faces, vertices)
        textures = [as_textures(value, faces) for value in textures]
        return over_batch(one, vertices, faces, *textures, **settings, **self._camera_settings(camera))

    def _camera_settings(self, camera) -> dict[str, tuple]:
        """Returns what the camera's mode needs, as settings of `over_batch`."""
        mode = self._mode()
        if mode == "projection":
            attributes = self.K, self.R, self.t, self.dist_coeffs, self.orig_size
            given = zip(camera, attributes, strict=True)
            return calibration(*(attribute if value is None else value for value, attribute in given))
        return {name: (getattr(self, name), 1) for name in POSES.get(mode, ())}

    def _options(self, settings) -> dict[str, Any]:
        """Returns the options that all rendering functions of jnr share, for one batch item."""
        return {
            "camera": self._camera(settings),
            "image_size": self.image_size,
            "antialias": 2 if self.anti_aliasing else 1,
            "cull": None if self.fill_back else "back",
        }

    def _camera(self, settings) -> jnr.Camera:
        mode = self._mode()
        if mode == "projection":
            return calibrated(**settings, near=self.near, far=self.far)
        if mode == "look_at":
            pose = jnr.LookAt(settings["eye"], handedness="left")
        elif mode == "look":
            pose = jnr.LookAlong(settings["eye"], settings["camera_direction"], handedness="left")
        else:
            pose = camera_space()
        return jnr.Camera(pose, self._projection())

    def _projection(self) -> jnr.Perspective:
        if self.perspective and self._mode() != "none":
            return jnr.Perspective(2 * self.viewing_angle, self.near, self.far)
        return ScreenSpacePerspective(90.0, self.near, self.far)

    def _lights(
        self, camera, light_color_ambient, light_color_directional, light_direction
    ) -> tuple[jnr.AmbientLight, jnr.DirectionalLight]:
        # The originals' normals point to the viewer in mirrored images and away from the viewer in others.
        matrix = lax.stop_gradient(camera.clip_from_world())
        side = jnp.where(jnp.linalg.det(matrix[:3, :3]) > 0, 1, -1)
        direction = _checks.as_compute(light_direction, "light_direction")
        direction = direction * side.astype(direction.dtype)
        return (
            jnr.AmbientLight(self.light_intensity_ambient, light_color_ambient),
            jnr.DirectionalLight(self.light_intensity_directional, light_color_directional, direction),
        )

    def _mode(self) -> str:
        """Returns `camera_mode`, which may have been set to another name since construction."""
        _checks.check_choice(self.camera_mode, "camera_mode", (*CAMERA_MODES, "none"))
        return self.camera_mode
