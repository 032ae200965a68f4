"""Cameras and lights of MuJoCo models, from what MuJoCo or MJX computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr._camera import Camera, Intrinsics, LookAt, Matrix, Orthographic, Perspective, Pose
from jnr._lights import Arriving, PointLight
from jnr._pytree import pytree
from jnr.mujoco._geoms import far_of, mujoco


@pytree(static=("names", "kinds", "resolutions", "is_free_orthographic"))
class Cameras:
    """The numbers of a model's cameras.

    Attributes:
        names: Name of each camera.
        kinds: "perspective", "orthographic" or "intrinsic" of each camera.
        resolutions: (height, width) of each camera, None where the model has none.
        is_free_orthographic: Whether the free camera is orthographic.
        fovy: Vertical field of view in degrees; of orthographic cameras the height of the visible region.
        focal: Focal lengths of each camera in units of its sensor's size.
        center: Principal point of each camera in units of its sensor's size, from the upper left corner.
        clip: Distances of the near and the far plane.
        free: Point, distance, azimuth, elevation (degrees) and field of view of the free camera.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    resolutions: tuple[tuple[int, int] | None, ...]
    is_free_orthographic: bool
    fovy: Any
    focal: Any
    center: Any
    clip: Any
    free: Any


def cameras_of(model: Any) -> Cameras:
    """The cameras of a model."""
    names = tuple(model.camera(i).name for i in range(model.ncam))
    is_parallel = model.cam_projection == int(mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC)
    sensor, given = model.cam_sensorsize.astype(float), model.cam_sensorsize[:, 1] > 0
    kinds = [
        "orthographic" if p else "intrinsic" if g else "perspective" for p, g in zip(is_parallel, given, strict=True)
    ]
    size = np.where(given[:, None], sensor, 1)
    return Cameras(
        names=names,
        kinds=tuple(kinds),
        resolutions=tuple((int(h), int(w)) if h > 1 or w > 1 else None for w, h in model.cam_resolution),
        is_free_orthographic=bool(model.vis.global_.orthographic),
        fovy=jnp.asarray(model.cam_fovy, float),
        focal=jnp.asarray(np.where(given[:, None], model.cam_intrinsic[:, :2] / size, 1), float),
        center=jnp.asarray(0.5 - model.cam_intrinsic[:, 2:] / size, float),
        clip=jnp.asarray([model.vis.map.znear * model.stat.extent, far_of(model)], float),
        free={
            "at": jnp.asarray(model.stat.center, float),
            "distance": jnp.asarray(1.5 * model.stat.extent, float),
            "angles": jnp.asarray([model.vis.global_.azimuth, model.vis.global_.elevation], float),
            "fovy": jnp.asarray(model.vis.global_.fovy, float),
        },
    )


def model_camera(cameras: Cameras, data: Any, camera: Any, image_size: tuple[int, int]) -> Camera:
    """A camera by index, which may be traced."""
    position, matrix = (_checks.as_compute(getattr(data, name), name) for name in ("cam_xpos", "cam_xmat"))
    position, rotation = position[camera], matrix.reshape(-1, 3, 3)[camera]
    pose = Pose(_inverse(rotation, position))
    near, far = cameras.clip
    if not isinstance(camera, int):
        return Camera(pose, _any_projection(cameras, camera, image_size[1] / image_size[0]))
    if cameras.kinds[camera] == "intrinsic":
        height, width = image_size
        pixels = jnp.array([width, height], cameras.focal.dtype)
        (fx, fy), (cx, cy) = cameras.focal[camera] * pixels, cameras.center[camera] * pixels
        zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
        k = jnp.stack([jnp.stack(row) for row in ((fx, zero, cx), (zero, fy, cy), (zero, zero, one))])
        return Camera(pose, Intrinsics(k, image_size, near=near, far=far, pixel_center=0.5))
    fovy = cameras.fovy[camera]
    if cameras.kinds[camera] == "orthographic":
        return Camera(pose, Orthographic(fovy / 2, near, far))
    return Camera(pose, Perspective(fovy, near, far))


def free_camera(cameras: Cameras, at: Any = None, distance: Any = None, angles: Any = None) -> Camera:
    """MuJoCo's free camera; None takes the model's."""
    free = cameras.free
    at = free["at"] if at is None else jnp.asarray(at, free["at"].dtype)
    distance = free["distance"] if distance is None else jnp.asarray(distance, free["at"].dtype)
    azimuth, elevation = jnp.deg2rad(free["angles"] if angles is None else jnp.asarray(angles, free["at"].dtype))
    along = jnp.stack([jnp.cos(azimuth), jnp.sin(azimuth), jnp.zeros_like(azimuth)])
    level, height = jnp.cos(elevation), jnp.sin(elevation)
    upward = jnp.array([0, 0, 1], along.dtype)
    forward, up = level * along + height * upward, level * upward - height * along
    near, far = cameras.clip
    kind = Orthographic(free["fovy"] / 2, near, far) if cameras.is_free_orthographic else None
    return Camera(LookAt(at - distance * forward, at, up), kind or Perspective(free["fovy"], near, far))


def _inverse(rotation, position):
    """The matrix from world space to a frame at a position with axes in the columns of a rotation."""
    back = rotation.T
    top = jnp.concatenate([back, -(back @ position)[:, None]], axis=1)
    return jnp.concatenate([top, jnp.array([[0, 0, 0, 1]], top.dtype)])


def _any_projection(cameras, camera, aspect):
    """The projection of a traced index, whose kind is not known."""
    matrices = []
    near, far = cameras.clip
    for i, kind in enumerate(cameras.kinds):
        if kind == "perspective":
            matrices.append(Perspective(cameras.fovy[i], near, far).clip_from_camera(aspect))
        elif kind == "orthographic":
            matrices.append(Orthographic(cameras.fovy[i] / 2, near, far).clip_from_camera(aspect))
        else:
            (fx, fy), (cx, cy) = cameras.focal[i], cameras.center[i]
            matrix = Perspective(90.0, near, far).clip_from_camera(1.0)
            matrices.append(
                matrix.at[0, 0].set(2 * fx).at[0, 2].set(1 - 2 * cx).at[1, 1].set(2 * fy).at[1, 2].set(2 * cy - 1)
            )
    matrix = jnp.stack(matrices)[camera]
    return Matrix(matrix, jnp.array([0, 0, -1, 0], matrix.dtype), far)


@pytree()
class SpotLight:
    """OpenGL's spot light.

    Attributes:
        light: The light without the cone.
        direction: Unit vector in which the spot light shines.
        cutoff: Angle in degrees beyond which there is no light.
        exponent: Exponent of the cosine of the angle.
    """

    light: PointLight
    direction: Any
    cutoff: Any
    exponent: Any

    def arriving(self, position: jax.Array, normal: jax.Array) -> Arriving:
        """The light at points of a surface."""
        color, toward = self.light.arriving(position, normal)
        assert toward is not None
        cosine = -jnp.sum(toward * jnp.asarray(self.direction, toward.dtype), axis=-1, keepdims=True)
        is_lit = cosine > jnp.cos(jnp.deg2rad(jnp.asarray(self.cutoff, toward.dtype)))
        power = jnp.where(is_lit, cosine, 1) ** jnp.asarray(self.exponent, toward.dtype)
        return Arriving(color * jnp.where(is_lit, power, 0), toward)
