"""Neural Renderer's class, as the PyTorch port has it."""

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
from jnr.compat.neural_renderer._functions import calibrated, calibration
from jnr.compat.neural_renderer._rasterize import Divided

Vertices = Float[Array, "batch vertices 3"]
Faces = Int[Array, "batch faces 3"]
Textures = Float[Array, "batch faces t t t channels"] | None
Matrices = Float[Array, "3 3"] | Float[Array, "batch 3 3"] | None
Vectors = Float[Array, " n"] | Float[Array, "batch n"] | Float[Array, "batch 1 n"] | None
Images = Float[Array, "batch height width"]
RGB = Float[Array, "batch channels height width"]

Mode = Literal["rgb", "silhouettes", "depth"]
CAMERA_MODES = ("projection", "look", "look_at")


class Renderer:
    """Draws batches of meshes with a camera and lights that are attributes.

    Attributes can be set at any time; a function under `jax.jit` keeps those it was traced with, so set what changes
    inside of it. `eye`, `camera_direction`, `background_color`, the light's colours and its direction, and K, R, t
    and dist_coeffs are one for all or one a batch item. They may be traced, as may `near`, `far`, `viewing_angle` and
    the light's intensities.

    Gradients: those of `jnr.render`, to the arguments and to every attribute that is an array.

    Attributes:
        image_size: Height and width of the images.
        anti_aliasing: Whether each pixel is the mean of 2 x 2 samples.
        background_color: (channels,) or (batch, channels).
        fill_back: Whether both sides of a face are drawn; if not, those that are counter-clockwise in the image.
        camera_mode: `"projection"` (K, R, t, dist_coeffs, orig_size), `"look_at"` (from `eye` to the origin) or
            `"look"` (from `eye` along `camera_direction`).
        K: Calibration in pixels of an image of `orig_size`, (3, 3) or (batch, 3, 3).
        R: World to camera rotation, OpenCV's axes, (3, 3) or (batch, 3, 3).
        t: The world's origin in the camera's coordinates, (3,), (batch, 3) or (batch, 1, 3).
        dist_coeffs: k1, k2, p1, p2, k3 of OpenCV's model, (5,) or (batch, 5); zeros by default.
        orig_size: Width and height of the image that K is for.
        perspective: Whether the other two modes divide by depth.
        viewing_angle: Half the field of view of these, in degrees.
        eye: Where the camera of these is, (3,) or (batch, 3); by default where an object of radius 1 fills the image.
        camera_direction: (3,) or (batch, 3).
        near: Distance before which nothing is drawn.
        far: Distance beyond which nothing is drawn, and the background's depth.
        light_intensity_ambient: Factor on `light_color_ambient`.
        light_intensity_directional: Factor on `light_color_directional`.
        light_color_ambient: (channels,) or (batch, channels).
        light_color_directional: (channels,) or (batch, channels).
        light_direction: Where the light comes from, used as it is, (3,) or (batch, 3). Images of `"projection"` are not
            mirrored, and the originals light such faces from the other side, as if it were negated.
        rasterizer_eps: Of the gradient of `render` and `render_rgb`, see `jnr.edge_sweep`.
        silhouettes_eps: Of the gradient of `render_silhouettes`, a constant in the originals.

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
        self._check_camera_mode()

    def __call__(
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
        """`render`, `render_rgb`, `render_silhouettes` or `render_depth`, by `mode`.

        Args:
            vertices: Positions in the world.
            faces: Vertex indices of each face.
            textures: Texture cubes, None for white.
            mode: None, `"rgb"`, `"silhouettes"` or `"depth"`.
            K: In place of the attribute, as for those below.
            R: See the class.
            t: See the class.
            dist_coeffs: See the class.
            orig_size: See the class.

        Raises:
            ValueError: If a shape, size, index or name is not allowed, or a calibration is missing.
            TypeError: If an argument is not an array of the right kind of numbers.
        """
        _checks.check_choice(mode, "mode", (None, "rgb", "silhouettes", "depth"))
        camera = (K, R, t, dist_coeffs, orig_size)
        if mode == "silhouettes":
            return self.render_silhouettes(vertices, faces, *camera)
        if mode == "depth":
            return self.render_depth(vertices, faces, *camera)
        return (self.render if mode is None else self.render_rgb)(vertices, faces, textures, *camera)

    forward = __call__

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
        """RGB (batch, channels, height, width), depth and alpha (batch, height, width); arguments as for a call."""
        picture = self._picture(vertices, faces, textures, (K, R, t, dist_coeffs, orig_size))
        return jnp.moveaxis(picture.rgb, -1, 1), picture.depth, picture.alpha

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
        """RGB alone; arguments as for a call."""
        picture = self._picture(vertices, faces, textures, (K, R, t, dist_coeffs, orig_size))
        return jnp.moveaxis(picture.rgb, -1, 1)

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
        """Alpha alone, with a gradient of its own `silhouettes_eps`; arguments as for a call."""

        def one(vertices, faces, **numbers):
            return jnr.render_silhouette(vertices, faces, eps=self.silhouettes_eps, **self._options(numbers))

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
        """Depth alone, `far` on background; arguments as for a call."""

        def one(vertices, faces, **numbers):
            return jnr.render_depth(vertices, faces, **self._options(numbers))

        return self._over_batch(one, vertices, faces, (K, R, t, dist_coeffs, orig_size))

    def _picture(self, vertices, faces, textures, camera) -> jnr.Rendering:
        def one(vertices, faces, textures, background_color, **numbers):
            options = self._options(numbers)
            return jnr.render(
                vertices,
                faces,
                textures,
                lights=self._lights(options["camera"], numbers),
                background=background_color,
                eps=self.rasterizer_eps,
                **options,
            )

        return self._over_batch(
            one,
            vertices,
            faces,
            camera,
            (textures,),
            background_color=(self.background_color, 1),
            light_color_ambient=(self.light_color_ambient, 1),
            light_color_directional=(self.light_color_directional, 1),
            light_direction=(self.light_direction, 1),
        )

    def _over_batch(self, one, vertices, faces, camera, textures=(), **numbers):
        self._check_camera_mode()
        vertices = as_vertices(vertices)
        faces = as_faces(faces, vertices)
        textures = [as_textures(value, faces) for value in textures]
        given = zip(camera, (self.K, self.R, self.t, self.dist_coeffs, self.orig_size), strict=True)
        *arrays, orig_size = (own if value is None else value for value, own in given)
        numbers |= {"eye": (self.eye, 1), "camera_direction": (self.camera_direction, 1)} | calibration(*arrays)

        def one_of_size(*item, **numbers):
            return one(*item, orig_size=orig_size, **numbers)

        return over_batch(one_of_size, vertices, faces, *textures, **numbers)

    def _options(self, numbers) -> dict[str, Any]:
        """What all pictures of one item are drawn with."""
        return {
            "camera": self._camera(numbers),
            "image_size": self.image_size,
            "antialias": 2 if self.anti_aliasing else 1,
            "cull": None if self.fill_back else "back",
        }

    def _camera(self, numbers) -> jnr.Camera:
        if self.camera_mode == "projection":
            names = ("K", "R", "t", "dist_coeffs", "orig_size")
            return calibrated(*(numbers[name] for name in names), near=self.near, far=self.far)
        if self.camera_mode == "look_at":
            pose = jnr.LookAt(numbers["eye"], handedness="left")
        else:
            pose = jnr.LookAlong(numbers["eye"], numbers["camera_direction"], handedness="left")
        return jnr.Camera(pose, self._projection())

    def _projection(self) -> jnr.Perspective:
        if not self.perspective:
            return Divided(90.0, self.near, self.far)
        return jnr.Perspective(2 * self.viewing_angle, self.near, self.far)

    def _lights(self, camera, numbers) -> tuple[jnr.AmbientLight, jnr.DirectionalLight]:
        # The originals' normals point to the viewer of a mirrored picture, and away from that of another.
        matrix = lax.stop_gradient(camera.clip_from_world())
        side = jnp.where(jnp.linalg.det(matrix[:3, :3]) > 0, 1, -1)
        direction = _checks.as_compute(numbers["light_direction"], "light_direction")
        return (
            jnr.AmbientLight(self.light_intensity_ambient, numbers["light_color_ambient"]),
            jnr.DirectionalLight(
                self.light_intensity_directional,
                numbers["light_color_directional"],
                direction * side.astype(direction.dtype),
            ),
        )

    def _check_camera_mode(self):
        _checks.check_choice(self.camera_mode, "camera_mode", CAMERA_MODES)
