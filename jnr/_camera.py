"""Cameras: pose, projection, and the clip-from-world matrix of both.

Every class is a pytree. All of its numbers can be differentiated, mapped and optimized.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from jnr import _checks
from jnr._inline_jit import inline_jit
from jnr._ops.normals.definition import near_one, unit
from jnr._pytree import pytree

Handedness = Literal["right", "left"]


@pytree(static=("handedness",))
class LookAt:
    """A camera at `eye` that looks at a point.

    Where the view is exactly along `up`, nothing says which way up the image is. That is an error, unless `eye`, `at`
    or `up` is traced: then the right of the image is as near as possible to the world's x axis, or to its z axis where
    the view is along x. For `up` along y this is the limit of `points_from_angles` at azimuth 0.

    Attributes:
        eye: Position of the camera, in world units.
        at: The point at the centre of the image.
        up: Direction that points up in the image; not parallel to the view direction.
        handedness: `"right"`: images are not mirrored. `"left"`: images are mirrored left to right, as in Neural
            Renderer.

    Example:
        >>> camera = jnr.Camera(jnr.LookAt(eye=(0, 1, 3)), jnr.Perspective(fov=50))
    """

    eye: ArrayLike | Sequence[float]
    at: ArrayLike | Sequence[float] = (0.0, 0.0, 0.0)
    up: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    handedness: Handedness = "right"

    def __post_init__(self):
        _check_handedness(self.handedness)
        _require_finite(self, "eye", "at", "up")

    def camera_from_world(self) -> Float[Array, "4 4"]:
        """World to camera space: x right, y up, the camera looks along -z."""
        eye, at = _vector(self.eye, "eye"), _vector(self.at, "at")
        return _view(eye, at - eye, _vector(self.up, "up"), self.handedness, "at", "differ from eye")


@pytree(static=("handedness",))
class LookAlong:
    """A camera at `eye` that looks in a direction.

    Attributes:
        eye: Position of the camera, in world units.
        direction: View direction, of any length.
        up: Direction that points up in the image; not parallel to the view direction, see `LookAt`.
        handedness: As for `LookAt`.
    """

    eye: ArrayLike | Sequence[float]
    direction: ArrayLike | Sequence[float] = (0.0, 0.0, -1.0)
    up: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)
    handedness: Handedness = "right"

    def __post_init__(self):
        _check_handedness(self.handedness)
        _require_finite(self, "eye", "direction", "up")

    def camera_from_world(self) -> Float[Array, "4 4"]:
        """World to camera space: x right, y up, the camera looks along -z."""
        eye, direction = _vector(self.eye, "eye"), _vector(self.direction, "direction")
        return _view(eye, direction, _vector(self.up, "up"), self.handedness, "direction", "not be zero")


@pytree()
class Pose:
    """A camera pose given as a matrix.

    Attributes:
        matrix: World to camera space as in OpenGL (x right, y up, the camera looks along -z); its last row is
            (0, 0, 0, 1).
    """

    matrix: Float[ArrayLike, "... 4 4"]

    def camera_from_world(self) -> Float[Array, "4 4"]:
        """`matrix`."""
        matrix = _matrix(self.matrix, "matrix", 4, 4)
        if _checks.is_concrete(self.matrix) and not np.array_equal(np.asarray(self.matrix)[3], (0, 0, 0, 1)):
            raise ValueError(f"matrix must end in the row (0, 0, 0, 1), got {np.asarray(self.matrix)[3].tolist()}.")
        return matrix


@pytree()
class Perspective:
    """Perspective projection.

    Attributes:
        fov: Full vertical field of view, in degrees.
        near: Distance of the near plane along the view axis; nearer points are not rendered.
        far: Distance of the far plane; farther points are not rendered, and the background has this depth.
    """

    fov: ArrayLike = 60.0
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0

    def __post_init__(self):
        _require(self, "fov", lambda v: (v > 0) & (v < 180), "lie between 0 and 180 degrees")
        _require(self, "near", lambda v: v > 0, "be positive")
        _require_order(self)

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space for an image whose width is `aspect` times its height."""
        fov, near, far = _scalar(self.fov, "fov"), _scalar(self.near, "near"), _scalar(self.far, "far")
        self.__post_init__()  # JAX may have rebuilt the instance with other values
        return _perspective(fov, near, far, aspect)


@pytree()
class Orthographic:
    """Orthographic projection.

    Attributes:
        half_height: Half the height of the visible region, in world units.
        near: As for `Perspective`, of either sign.
        far: As for `Perspective`.
    """

    half_height: ArrayLike = 1.0
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0

    def __post_init__(self):
        _require(self, "half_height", lambda v: v > 0, "be positive")
        _require_order(self)

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space for an image whose width is `aspect` times its height."""
        half_height = _scalar(self.half_height, "half_height")
        near, far = _scalar(self.near, "near"), _scalar(self.far, "far")
        self.__post_init__()
        return _orthographic(half_height, near, far, aspect)


@pytree()
class WeakPerspective:
    """Weak-perspective projection, as single-image body and object models predict it: one scale for all points.

    A camera-space point (x, y) projects to NDC `scale * (x + shift_x, y + shift_y)` in a square image; otherwise x is
    divided by width / height. For objects that are small relative to their distance z it approximates a `Perspective`
    with focal length f (for an image of height 2), with scale f / z.

    Attributes:
        scale: NDC units per world unit.
        shift: Added to camera-space x and y before scaling.
        near: As for `Orthographic`.
        far: As for `Orthographic`.
    """

    scale: ArrayLike = 1.0
    shift: ArrayLike | Sequence[float] = (0.0, 0.0)
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0

    def __post_init__(self):
        _require(self, "scale", lambda v: v > 0, "be positive")
        _require_order(self)

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space for an image whose width is `aspect` times its height."""
        scale = _scalar(self.scale, "scale")
        self.__post_init__()
        shift = _vector(self.shift, "shift", 2)
        return Orthographic(1 / scale, self.near, self.far).clip_from_camera(aspect) + _shift_of_ndc(
            scale * shift[0] / aspect, scale * shift[1], 3
        )


@pytree(static=("image_size", "pixel_center"))
class Intrinsics:
    """Perspective projection by a calibration matrix, with OpenCV's lens distortion.

    A camera-space point has x' = x / -z and y' = -y / -z (y down). The distortion moves it, and it projects to column
    `K[0, 0] x' + K[0, 1] y' + K[0, 2]` and row `K[1, 1] y' + K[1, 2]` of an image of `image_size`. The image may be
    rendered at another size of the same aspect ratio.

    The distortion moves vertices, and faces stay triangles, so edges that should appear curved need short faces. Beyond
    the radius where the polynomial stops growing (a calibrated lens sees nothing there) the distortion is extrapolated
    proportionally, so that no point is folded back into the image. The same extrapolation applies beyond 84 degrees off
    the axis.

    Attributes:
        K: Focal lengths, skew and principal point in pixels.
        image_size: (height, width) of the image that `K` is for.
        distortion: k1, k2, p1, p2, k3 of OpenCV's model, or the first four; None for no distortion.
        near: As for `Perspective`.
        far: As for `Perspective`.
        pixel_center: Coordinate of the first pixel's centre in `K`'s convention: 0 in OpenCV's, 0.5 where the image
            extends from 0 to its width (COLMAP, PyTorch3D, Neural Renderer).
    """

    K: Float[ArrayLike, "... 3 3"]
    image_size: tuple[int, int]
    distortion: ArrayLike | Sequence[float] | None = None
    near: ArrayLike = 0.1
    far: ArrayLike = 100.0
    pixel_center: float = 0.0

    def __post_init__(self):
        _checks.as_image_size(self.image_size)
        _checks.as_number(self.pixel_center, "pixel_center")
        _require_finite(self, "K", "distortion")
        _require_camera_matrix(self.K)
        _require(self, "near", lambda v: v > 0, "be positive")
        _require_order(self)

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """Camera to clip space, after the distortion."""
        self.__post_init__()
        height, width = _checks.as_image_size(self.image_size)
        if abs(aspect * height / width - 1) > 0.01:
            raise ValueError(
                f"image_size must have the shape of the camera's {height} x {width}: got a width of {aspect:.4g} "
                "heights."
            )
        k = _matrix(self.K, "K", 3, 3)
        planes = _perspective(90.0, _scalar(self.near, "near"), _scalar(self.far, "far"), 1.0)
        # In pixels y grows downwards and z away from the camera; NDC -1 is half a pixel before the first centre.
        center = self.pixel_center - 0.5
        zero = jnp.zeros_like(k[0, 0])
        x = jnp.stack([k[0, 0], -k[0, 1], -(k[0, 2] - center), zero]) * (2 / width) + jnp.array([0, 0, 1, 0], k.dtype)
        y = jnp.stack([zero, k[1, 1], k[1, 2] - center, zero]) * (2 / height) - jnp.array([0, 0, 1, 0], k.dtype)
        return jnp.concatenate([jnp.stack([x, y]).astype(planes.dtype), planes[2:]])

    def distort(self, points: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Camera-space points moved so that an undistorted lens projects them to the same place."""
        if self.distortion is None:
            return points
        coefficients = _checks.as_compute(self.distortion, "distortion")
        _checks.check_finite(self.distortion, "distortion")
        if coefficients.shape not in ((4,), (5,)):
            raise ValueError(f"distortion must be k1, k2, p1, p2 and perhaps k3, got shape {coefficients.shape}.")
        return _distort(points, coefficients)


@pytree()
class Matrix:
    """A projection given as a matrix, OpenGL's or another.

    Attributes:
        matrix: Camera (or world) space to clip space; the near plane is at z = -w, the far plane at z = w.
        depth_row: Row whose product with a homogeneous point is its distance along the view axis.
        far: Depth of the background.
    """

    matrix: Float[ArrayLike, "... 4 4"]
    depth_row: Float[ArrayLike, "... 4"]
    far: ArrayLike

    def __post_init__(self):
        _require_finite(self, "matrix", "depth_row", "far")

    def clip_from_camera(self, aspect: float) -> Float[Array, "4 4"]:
        """`matrix`, for any aspect ratio."""
        del aspect
        return _matrix(self.matrix, "matrix", 4, 4)

    def depth(self, points: Float[Array, "points 3"]) -> Float[Array, " points"]:
        """Distance of camera-space points along the view axis."""
        return transform(_vector(self.depth_row, "depth_row", 4)[None], points)[:, 0]


@pytree()
class Camera:
    """A pose and a projection.

    Attributes:
        pose: `LookAt`, `LookAlong`, `Pose`, or any pytree with `camera_from_world()`.
        projection: `Perspective`, `Orthographic`, `WeakPerspective`, `Intrinsics`, or any pytree with
            `clip_from_camera(aspect)` and `far`. Optional methods: `distort(points)` moves camera-space points before
            they are projected, and `depth(points)` returns their depth if it is not -z.

    Gradients: reach every field of both.

    Example:
        >>> camera = jnr.Camera(jnr.LookAt(eye=(2.0, 1.0, 2.0)))
        >>> image = jnr.render(vertices, faces, camera=camera).rgb
    """

    pose: LookAt | LookAlong | Pose = dataclasses.field(default_factory=lambda: LookAt((0.0, 0.0, 2.732)))
    projection: Perspective | Orthographic | WeakPerspective | Intrinsics | Matrix = dataclasses.field(
        default_factory=Perspective
    )

    def __post_init__(self):
        for name, method in (("pose", "camera_from_world"), ("projection", "clip_from_camera")):
            value = getattr(self, name)
            # None and an int stand for a part in `in_axes`.
            if not (value is None or (isinstance(value, int) and not isinstance(value, bool))):
                _require_method(value, name, method)

    @staticmethod
    def from_opencv(
        K: Float[ArrayLike, "3 3"],  # noqa: N803 (the field's name for it)
        R: Float[ArrayLike, "3 3"],  # noqa: N803
        t: ArrayLike | Sequence[float],
        image_size: tuple[int, int],
        *,
        distortion: ArrayLike | Sequence[float] | None = None,
        near: ArrayLike = 0.1,
        far: ArrayLike = 100.0,
        pixel_center: float = 0.0,
    ) -> Camera:
        """A camera as OpenCV, COLMAP and calibration files describe it, consistent with `cv2.projectPoints`.

        Args:
            K: Focal lengths, skew and principal point in pixels.
            R: World to camera rotation; in camera space x is right, y down, and the camera looks along +z.
            t: The world origin in camera space.
            image_size: (height, width) of the image that `K` is for.
            distortion: k1, k2, p1, p2, k3.
            near: Distance of the near plane.
            far: Distance of the far plane.
            pixel_center: See `Intrinsics`.
        """
        rotation = _matrix(R, "R", 3, 3)
        translation = jnp.ravel(_checks.as_compute(t, "t"))
        _checks.check_shape(translation, "t", 3)
        # OpenCV's y and z point the other way.
        flip = jnp.array([1, -1, -1], rotation.dtype)
        pose = Pose(affine(rotation * flip[:, None], translation.astype(rotation.dtype) * flip))
        return Camera(pose, Intrinsics(K, _checks.as_image_size(image_size), distortion, near, far, pixel_center))

    @staticmethod
    def from_opengl(
        view: Float[ArrayLike, "4 4"], projection: Float[ArrayLike, "4 4"], *, far: ArrayLike | None = None
    ) -> Camera:
        """A camera from OpenGL's view and projection matrices.

        Args:
            view: World to camera space; the camera looks along -z.
            projection: Camera to clip space, for the image's aspect ratio.
            far: Depth of the background, positive; None takes the far plane's.
        """
        matrix, view = _matrix(projection, "projection", 4, 4), _matrix(view, "view", 4, 4)
        depth_row = jnp.array([0, 0, -1, 0], matrix.dtype)
        return Camera(Pose(view), Matrix(matrix, depth_row, _far(matrix, depth_row, far)))

    @staticmethod
    def from_matrix(clip_from_world: Float[ArrayLike, "4 4"], *, far: ArrayLike | None = None) -> Camera:
        """A camera from one matrix from world to clip space.

        Depth is the distance from the camera along the view axis. The matrix of an orthographic projection does not
        determine the camera's position, so there depth is the distance from the near plane.

        Args:
            clip_from_world: World to clip space, for the image's aspect ratio.
            far: Depth of the background, positive; None takes the far plane's.
        """
        matrix = _matrix(clip_from_world, "clip_from_world", 4, 4)
        parallel = jnp.all(matrix[3, :3] == 0)
        along = jnp.where(parallel, matrix[2] + matrix[3], matrix[3])
        depth_row = along / jnp.linalg.norm(along[:3])
        return Camera(Pose(jnp.eye(4, dtype=matrix.dtype)), Matrix(matrix, depth_row, _far(matrix, depth_row, far)))

    def clip_from_world(self, aspect: float = 1.0) -> Float[Array, "4 4"]:
        """World to clip space for an image whose width is `aspect` times its height, without distortion."""
        return view_of(self, aspect).clip_from_world

    def clip_positions(
        self, vertices: Float[Array | np.ndarray, "vertices 3"], aspect: float = 1.0
    ) -> Float[Array, "vertices 4"]:
        """Points in clip space, for an image whose width is `aspect` times its height."""
        return view_of(self, aspect, vertices).clip_positions(vertices)

    def depth(self, vertices: Float[Array | np.ndarray, "vertices 3"]) -> Float[Array, " vertices"]:
        """Distance of points along the view axis, in world units, negative behind the camera."""
        dtype = _checks.compute_dtype(self, vertices)
        return _depth(self.projection, self.pose.camera_from_world().astype(dtype), vertices)

    def viewer(self, aspect: float = 1.0) -> Float[Array, " 4"]:
        """Where all rays meet, as a homogeneous point: the eye and 1, or, for parallel rays, their source and 0.

        For any world point p the vector `viewer[:3] - viewer[3] * p` points to the camera.
        """
        return view_of(self, aspect).viewer()


def check_camera(camera: Camera | None, name: str = "camera") -> Camera:
    """The camera; the default one for None."""
    if not (camera is None or isinstance(camera, Camera)):
        raise TypeError(f"{name} must be a jnr.Camera or None, got {type(camera).__name__}.")
    return Camera() if camera is None else camera


@dataclasses.dataclass(frozen=True)
class View:
    """A camera's matrices for one aspect ratio, so that they are checked and computed once."""

    projection: Any
    camera_from_world: jax.Array
    clip_from_camera: jax.Array
    clip_from_world: jax.Array

    @property
    def far(self):
        """Depth of the background."""
        far = self.projection.far
        return _scalar(far, "far") if isinstance(self.projection, Matrix) else jnp.asarray(far)

    def clip_positions(self, vertices: jax.Array | np.ndarray) -> jax.Array:
        """See `Camera.clip_positions`."""
        distort = getattr(self.projection, "distort", None)
        if distort is None:
            return transform(self.clip_from_world, vertices)
        # As in `transform`: no invalid point may reach the distortion's gradient.
        valid = jnp.all(jnp.isfinite(vertices), axis=-1, keepdims=True)
        points = transform(self.camera_from_world, jnp.where(valid, vertices, 0))[:, :3]
        return jnp.where(valid, transform(self.clip_from_camera, distort(points)), jnp.nan)

    def depth(self, vertices: jax.Array | np.ndarray) -> jax.Array:
        """See `Camera.depth`."""
        return _depth(self.projection, self.camera_from_world, vertices)

    def viewer(self) -> jax.Array:
        """See `Camera.viewer`."""
        return _viewer(self.clip_from_world)


def view_of(camera: Camera, aspect: float, vertices: jax.Array | np.ndarray | None = None) -> View:
    """A camera's view for an image whose width is `aspect` times its height.

    A camera of Python numbers has the dtype of `vertices`.
    """
    _require_method(camera.pose, "pose", "camera_from_world")
    _require_method(camera.projection, "projection", "clip_from_camera")
    clip_from_camera, camera_from_world = camera.projection.clip_from_camera(aspect), camera.pose.camera_from_world()
    widest = _checks.compute_dtype(clip_from_camera, camera_from_world)
    clip_from_world = jnp.matmul(
        clip_from_camera.astype(widest), camera_from_world.astype(widest), precision=lax.Precision.HIGHEST
    )
    dtype = _checks.compute_dtype(camera, vertices)
    matrices = (matrix.astype(dtype) for matrix in (camera_from_world, clip_from_camera, clip_from_world))
    return View(camera.projection, *matrices)


def _depth(projection, camera_from_world, vertices):
    depth = getattr(projection, "depth", None)
    if depth is None:
        return _depth_along_z(camera_from_world, vertices)
    return depth(transform(camera_from_world, vertices)[:, :3])


@inline_jit()
def _depth_along_z(camera_from_world, vertices):
    return -transform(camera_from_world, vertices)[:, 2]


def points_from_angles(
    distance: ArrayLike,
    elevation: ArrayLike,
    azimuth: ArrayLike,
    *,
    degrees: bool = True,
    handedness: Handedness = "right",
) -> Float[Array, "*batch 3"]:
    """Points around the origin, for example camera positions.

    At an elevation of 90 or -90 degrees the point is off the y axis by 5e-7 of the distance (1e-15 in float64), towards
    the azimuth. So a `LookAt` from there has the limit of its orientations at elevations near 90 degrees.

    Args:
        distance: From the origin.
        elevation: Angle above the xz plane.
        azimuth: Angle around the y axis; 0 is at +z (-z if left-handed), 90 degrees at +x.
        degrees: Whether angles are in degrees rather than radians.
        handedness: `"left"` returns Neural Renderer's points.

    Returns:
        One point per element of the arguments, which are broadcast.

    Raises:
        TypeError: If an argument is not of the right kind.
        ValueError: If shapes do not broadcast, or a number is not finite.
    """
    _check_handedness(handedness)
    _checks.check_flag(degrees, "degrees")
    distance, elevation, azimuth = (
        _checks.as_finite(value, name)
        for value, name in ((distance, "distance"), (elevation, "elevation"), (azimuth, "azimuth"))
    )
    try:
        distance, elevation, azimuth = jnp.broadcast_arrays(distance, elevation, azimuth)
    except ValueError as error:
        raise ValueError(f"distance, elevation and azimuth must have shapes that broadcast: {error}") from error
    if degrees:
        elevation, azimuth = jnp.deg2rad(elevation), jnp.deg2rad(azimuth)
    toward = 1 if handedness == "right" else -1
    level = distance * _level(elevation)
    return jnp.stack([level * jnp.sin(azimuth), distance * jnp.sin(elevation), toward * level * jnp.cos(azimuth)], -1)


@inline_jit()
def _level(elevation):
    """The cosine of an elevation; a small positive number in place of the rounding error at a right angle."""
    cosine = jnp.cos(elevation)
    least = 4 * float(jnp.finfo(cosine.dtype).eps)
    # Added, so that the derivative stays the cosine's.
    return cosine + lax.stop_gradient(jnp.where(jnp.abs(cosine) < least, least - cosine, 0))


@inline_jit()
def affine(linear: Float[Array, "*batch 3 3"], translation: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4 4"]:
    """Matrices that take a homogeneous point p to `linear @ p + translation`."""
    top = jnp.concatenate([linear, translation[..., None]], axis=-1)
    last = np.broadcast_to(np.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], axis=-2)


@inline_jit()
def transform(
    matrix: Float[Array, "rows 4"], points: Float[Array | np.ndarray, "points 3"]
) -> Float[Array, "points rows"]:
    """Homogeneous points times a matrix, `matrix @ (x, y, z, 1)` each; NaN where the point is not finite."""
    dtype = _checks.compute_dtype(matrix, points)
    matrix, points = matrix.astype(dtype), points.astype(dtype)
    # An invalid point must not reach the matrix's gradient, where it would be NaN times zero.
    valid = jnp.all(jnp.isfinite(points), axis=-1, keepdims=True)
    return jnp.where(valid, _affine(matrix, jnp.where(valid, points, 0)), jnp.nan)


@jax.custom_jvp
def _affine(matrix, points):
    """`transform` of points that are finite."""
    return _linear(matrix, points) + matrix[None, :, 3]


def _linear(matrix, points):
    # Column by column: a matrix product and a sum over an axis of size four are slow for so few columns.
    x, y, z = (points[:, i] for i in range(3))
    return jnp.stack([x * row[0] + y * row[1] + z * row[2] for row in matrix], axis=-1)


@_affine.defjvp
def _affine_jvp(primals, tangents):
    matrix, points = primals
    matrix_tangent, points_tangent = tangents
    # The matrix's gradient is a product over all points, which is fast.
    points = jnp.concatenate([points, jnp.ones_like(points[:, :1])], axis=-1)
    turned = jnp.matmul(points, matrix_tangent.T, precision=lax.Precision.HIGHEST)
    return _affine(*primals), _linear(matrix, points_tangent) + turned


@inline_jit()
def _viewer(clip_from_world):
    x, y, z, w = clip_from_world
    # The point whose x, y and w are zero.
    columns = [[i for i in range(4) if i != k] for k in range(4)]
    rows = jnp.stack([x, y, w])
    eye = jnp.stack([(-1) ** k * jnp.linalg.det(rows[:, jnp.array(c)]) for k, c in enumerate(columns)])
    parallel = eye[3] == 0
    # z decreases towards the camera.
    toward = -jnp.sign(jnp.sum(eye[:3] * z[:3])) / jnp.sqrt(jnp.sum(jnp.where(parallel, eye[:3] ** 2, 1)))
    return eye * jnp.where(parallel, toward, 1 / jnp.where(parallel, 1, eye[3]))


# A shorter vector has no direction.
LEAST = 1e-6


def _check_handedness(handedness):
    if not (isinstance(handedness, str) and handedness in ("right", "left")):
        raise ValueError(f"handedness must be 'right' or 'left', got {handedness!r}.")


def _view(eye, direction, up, handedness, name, rule):
    dtype = _checks.compute_dtype(eye, direction, up)
    eye, direction, up = (vector.astype(dtype) for vector in (eye, direction, up))
    matrix, length, is_along = _frame(eye, direction, up, handedness=handedness)
    if _checks.is_concrete(length) and not float(length) > LEAST:
        raise ValueError(f"{name} must {rule}, got {float(length):g}.")
    if _checks.is_concrete(is_along) and bool(is_along):
        raise ValueError(
            f"up must not be zero nor along the view, got {np.asarray(up).tolist()} and a view along "
            f"{np.asarray(direction).tolist()}. Pass another up, for example (0, 0, -1) for a view along y."
        )
    return matrix


@inline_jit("handedness")
def _frame(eye, direction, up, *, handedness):
    """World to camera space, the length of `direction`, and whether the view is along `up`."""
    length = jnp.linalg.norm(direction)
    forward = direction / length
    side = _cross_or_zero(forward, up)
    is_along = jnp.all(side == 0)
    x, z = jnp.array([1, 0, 0], side.dtype), jnp.array([0, 0, 1], side.dtype)
    axis = jnp.where(jnp.abs(forward[0]) < 0.9, x, z)
    right = axis - jnp.sum(axis * forward) * forward
    side = unit(near_one(jnp.where(is_along, right if handedness == "right" else -right, side)))
    upward = jnp.cross(side, forward)
    rotation = jnp.stack([side if handedness == "right" else -side, upward, -forward])
    translation = -jnp.matmul(rotation, eye, precision=lax.Precision.HIGHEST)
    return affine(rotation, translation), length, is_along


def _cross_or_zero(a, b):
    """The cross product without the coordinates that are rounding errors of their two terms."""
    first, second = a[jnp.array([1, 2, 0])] * b[jnp.array([2, 0, 1])], a[jnp.array([2, 0, 1])] * b[jnp.array([1, 2, 0])]
    difference = first - second
    is_noise = jnp.abs(difference) <= 4 * jnp.finfo(a.dtype).eps * jnp.minimum(jnp.abs(first), jnp.abs(second))
    return jnp.where(is_noise, 0, difference)


@inline_jit()
def _perspective(fov, near, far, aspect):
    focal = 1 / jnp.tan(jnp.deg2rad(fov) / 2)
    return _projection(focal / aspect, focal, (far + near) / (near - far), 2 * far * near / (near - far), 1)


@inline_jit()
def _orthographic(half_height, near, far, aspect):
    scale = 1 / half_height
    return _projection(scale / aspect, scale, 2 / (near - far), (far + near) / (near - far), 0)


def _projection(x, y, z, offset, perspective):
    """`(x, y, z, -z)` scaled and shifted; the last row is (0, 0, 0, 1) without perspective."""
    zero, one = jnp.zeros_like(y), jnp.ones_like(y)
    last = [zero, zero, -one, zero] if perspective else [zero, zero, zero, one]
    rows = [[x, zero, zero, zero], [zero, y, zero, zero], [zero, zero, z, offset], last]
    return jnp.stack([jnp.stack(row) for row in rows])


def _shift_of_ndc(x, y, column):
    """A matrix of zeros with the shift of x and y in one column."""
    return jnp.zeros((4, 4), x.dtype).at[0, column].set(x).at[1, column].set(y)


def _far(matrix, depth_row, far):
    """Depth of the far plane, z = w, of a clip matrix along a row that gives depths."""
    if far is not None:
        _scalar(far, "far")
        if _checks.is_concrete(far) and not float(np.asarray(far)) > 0:
            raise ValueError(f"far must be positive, got {far!r}.")
        return far
    z, w = (jnp.sum(row[:3] * depth_row[:3]) for row in (matrix[2], matrix[3]))
    z_offset, w_offset = (matrix[i, 3] - a * depth_row[3] for i, a in ((2, z), (3, w)))
    far = (w_offset - z_offset) / (z - w)
    if _checks.is_concrete(far) and not np.isfinite(float(far)):
        raise ValueError("far must be given where the matrix has no far plane, got None.")
    return far


# Beyond this tangent (84 degrees off the axis) the distortion is extrapolated proportionally.
FARTHEST = 10.0


@inline_jit()
def _distort(points, coefficients):
    """OpenCV's radial and tangential distortion of camera-space points, x right, y up, looking along -z."""
    coefficients = coefficients.astype(points.dtype)
    k1, k2, p1, p2 = coefficients[:4]
    k3 = coefficients[4] if coefficients.shape[0] == 5 else jnp.zeros_like(k1)
    limit = _monotone_radius(*lax.stop_gradient((k1, k2, k3)))
    x, y, depth = points[:, 0], -points[:, 1], -points[:, 2]
    radius = jnp.sqrt(jnp.where((x == 0) & (y == 0), 1, x * x + y * y))
    # On the limit's circle and scaled back, also behind the camera, where there is no x / z.
    outside = ~(depth * limit > radius) & ((x != 0) | (y != 0))
    unit = jnp.where(outside, radius / limit, depth)
    unit = jnp.where(unit == 0, 1, unit)
    x, y = x / unit, y / unit
    xx, xy, yy = x * x, x * y, y * y
    square = xx + yy
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    moved_x = x * radial + 2 * p1 * xy + p2 * (square + 2 * xx)
    moved_y = y * radial + p1 * (square + 2 * yy) + 2 * p2 * xy
    return jnp.stack([moved_x * unit, -moved_y * unit, points[:, 2]], axis=-1)


def _monotone_radius(k1, k2, k3):
    """The radius up to which distorted radii grow, found on a grid and by bisection."""

    def grows(r):
        s = r * r
        return 1 + s * (3 * k1 + s * (5 * k2 + s * 7 * k3)) > 0

    radii = jnp.linspace(0, FARTHEST, 1025, dtype=k1.dtype)
    falls = ~grows(radii)
    first = jnp.argmax(falls)
    low, high = radii[jnp.maximum(first - 1, 0)], radii[first]
    for _ in range(16):
        middle = (low + high) / 2
        low, high = jnp.where(grows(middle), middle, low), jnp.where(grows(middle), high, middle)
    return jnp.where(jnp.any(falls), low, FARTHEST)


def _require_method(value, name, method):
    if not hasattr(value, method):
        raise TypeError(f"{name} must have a method {method}, got {type(value).__name__}.")


def _vector(value, name, length=3):
    return _checks.as_finite(value, name, (length,))


def _matrix(value, name, rows, columns):
    return _checks.as_finite(value, name, (rows, columns))


def _require_camera_matrix(value):
    k = _known(value)
    if k is None or k.shape != (3, 3):
        return
    if not (k[0, 0] > 0 and k[1, 1] > 0 and k[1, 0] == 0 and np.array_equal(k[2], (0, 0, 1))):
        raise ValueError(
            "K must be a camera matrix ((fx, skew, cx), (0, fy, cy), (0, 0, 1)) with positive focal lengths, got "
            f"{k.tolist()}."
        )


def _scalar(value, name):
    return _checks.as_finite(value, name, ())


def _require_order(projection):
    _require_finite(projection, "near", "far")
    low, high = _known(projection.near), _known(projection.far)
    if low is not None and high is not None and not np.all(high > low):
        raise ValueError(f"far must be greater than near, got near {_shown(low)} and far {_shown(high)}.")


def _require_finite(instance, *names):
    for name in names:
        numbers = _known(getattr(instance, name))
        if numbers is not None and not np.all(np.isfinite(numbers)):
            raise ValueError(f"{name} must be finite, got {_shown(numbers)}.")


def _require(instance, name, condition, rule):
    _require_finite(instance, name)
    number = _known(getattr(instance, name))
    if number is not None and not np.all(condition(number)):
        raise ValueError(f"{name} must {rule}, got {_shown(number)}.")


def _shown(number):
    return f"{float(number):g}" if number.ndim == 0 else str(number.tolist())


def _known(value):
    """The numbers of a value that is concrete and numeric; None stands for others, as JAX's placeholders are."""
    if isinstance(value, bool) or not _checks.is_concrete(value):
        return None
    if not isinstance(value, (int, float, np.number, np.ndarray, jax.Array, list, tuple)):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # ragged, which is an error where the numbers are used
        return None
    return array if np.issubdtype(array.dtype, np.number) else None
