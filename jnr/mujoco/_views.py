"""Cameras and lights of MuJoCo models, from what MuJoCo or MJX computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnr import _checks
from jnr._camera import Camera, Intrinsics, LookAt, Matrix, Orthographic, Perspective, Pose, affine
from jnr._lights import AmbientLight, Arriving, DirectionalLight, Light, PointLight, with_rank
from jnr._pytree import pytree
from jnr.mujoco._geoms import far_of, mujoco
from jnr.mujoco._textures import CUBE


@pytree(static=("names", "kinds", "resolutions", "free_kind"))
class Cameras:
    """Numbers of a model's cameras, all but where they are.

    Attributes:
        names: Name of each camera.
        kinds: "perspective", "orthographic" or "intrinsic" of each camera.
        resolutions: (height, width) of each camera, None where the model has none.
        free_kind: "perspective" or "orthographic".
        fovy: Vertical field of view in degrees; of orthographic cameras the height of the visible region.
        focal: Focal lengths of each camera over the width and height of its sensor.
        center: Principal point of each camera over the width and height of its sensor, from the upper left corner.
        clip: Distances of the near and the far plane.
        free: Point, distance, azimuth and elevation (degrees), and field of view of the free camera.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    resolutions: tuple[tuple[int, int] | None, ...]
    free_kind: str
    fovy: jax.Array
    focal: jax.Array
    center: jax.Array
    clip: jax.Array
    free: dict[str, jax.Array]


def cameras_of(model: Any) -> Cameras:
    """The cameras of a model."""
    is_parallel = model.cam_projection == int(mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC)
    sensor = np.asarray(model.cam_sensorsize, float)
    has_sensor = sensor[:, 1:] > 0
    size, intrinsic = np.where(has_sensor, sensor, 1), np.asarray(model.cam_intrinsic, float)
    kinds = np.where(is_parallel, "orthographic", np.where(has_sensor[:, 0], "intrinsic", "perspective"))
    free = model.vis.global_
    return Cameras(
        names=tuple(model.camera(i).name for i in range(model.ncam)),
        kinds=tuple(kinds.tolist()),
        resolutions=tuple((int(h), int(w)) if h > 1 and w > 1 else None for w, h in model.cam_resolution),
        free_kind="orthographic" if free.orthographic else "perspective",
        fovy=jnp.asarray(model.cam_fovy, float),
        focal=jnp.asarray(np.where(has_sensor, intrinsic[:, :2] / size, 1), float),
        center=jnp.asarray(0.5 - intrinsic[:, 2:] / size, float),
        clip=jnp.asarray([model.vis.map.znear * model.stat.extent, far_of(model)], float),
        free={
            "lookat": jnp.asarray(model.stat.center, float),
            "distance": jnp.asarray(1.5 * model.stat.extent, float),
            "angles": jnp.asarray([free.azimuth, free.elevation], float),
            "fovy": jnp.asarray(free.fovy, float),
        },
    )


def fixed_camera(cameras: Cameras, data: Any, index: Any, image_size: tuple[int, int]) -> Camera:
    """A camera of the model by its index, which may be traced."""
    position, rotation = field(data, "cam_xpos")[index], field(data, "cam_xmat").reshape(-1, 3, 3)[index]
    back = rotation.T
    pose = Pose(affine(back, -jnp.sum(back * position[None], axis=1)))
    if isinstance(index, int):
        return Camera(pose, _projection(cameras, index, image_size))
    aspect = image_size[1] / image_size[0]
    every = [_projection(cameras, i, image_size).clip_from_camera(aspect) for i in range(len(cameras.kinds))]
    matrix = jnp.stack(every)[index]
    return Camera(pose, Matrix(matrix, jnp.array([0, 0, -1, 0], matrix.dtype), cameras.clip[1]))


def _projection(cameras, index, image_size) -> Any:
    (near, far), kind = cameras.clip, cameras.kinds[index]
    if kind == "orthographic":
        return Orthographic(cameras.fovy[index] / 2, near, far)
    if kind == "perspective":
        return Perspective(cameras.fovy[index], near, far)
    pixels = jnp.array([image_size[1], image_size[0]], cameras.focal.dtype)
    (fx, fy), (cx, cy) = cameras.focal[index] * pixels, cameras.center[index] * pixels
    zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
    k = jnp.stack([jnp.stack(row) for row in ((fx, zero, cx), (zero, fy, cy), (zero, zero, one))])
    return Intrinsics(k, image_size, near=near, far=far, pixel_center=0.5)


def free_camera(cameras: Cameras, given: Any = None, lookat: Any = None) -> Camera:
    """The free camera of the model, or that of a `mujoco.MjvCamera` around a point."""
    free, (near, far) = cameras.free, cameras.clip
    if given is not None:
        seen = {"lookat": lookat, "distance": given.distance, "angles": [given.azimuth, given.elevation]}
        free = free | {name: jnp.asarray(value, free["fovy"].dtype) for name, value in seen.items()}
    azimuth, elevation = jnp.deg2rad(free["angles"])
    along = jnp.stack([jnp.cos(azimuth), jnp.sin(azimuth), jnp.zeros_like(azimuth)])
    upward, level, height = jnp.array([0, 0, 1], along.dtype), jnp.cos(elevation), jnp.sin(elevation)
    forward, up = level * along + height * upward, level * upward - height * along
    pose = LookAt(free["lookat"] - free["distance"] * forward, free["lookat"], up)
    if cameras.free_kind == "orthographic":
        return Camera(pose, Orthographic(free["fovy"] / 2, near, far))
    return Camera(pose, Perspective(free["fovy"], near, far))


@pytree(static=("kinds", "modes", "bodies", "targets", "has_headlight"))
class Lights:
    """Numbers of a model's active lights.

    Attributes:
        kinds: "directional", "point" or "spot" of each light.
        modes: MuJoCo's tracking mode of each light.
        bodies: Body of each light.
        targets: Body that each light is directed to, -1 if there is none.
        has_headlight: Whether a light shines from the camera along its view.
        headlight: Ambient and diffuse colour of the headlight.
        colors: Ambient and diffuse colour of each light.
        attenuation: Divisor of the light, constant, linear and quadratic in the distance.
        cone: Angle in degrees beyond which a spot light does not shine, and the exponent of its cosine.
        placement: Position and direction in the body's frame; positions relative to the body and to its subtree's
            centre of mass and direction, as at the start.
        ids: MuJoCo's index of each light.
    """

    kinds: tuple[str, ...]
    modes: tuple[int, ...]
    bodies: tuple[int, ...]
    targets: tuple[int, ...]
    has_headlight: bool
    headlight: jax.Array
    colors: jax.Array
    attenuation: jax.Array
    cone: jax.Array
    placement: jax.Array
    ids: jax.Array


_TRACK, _TRACKCOM, _TARGETBODY, _TARGETBODYCOM = (
    int(getattr(mujoco.mjtCamLight, f"mjCAMLIGHT_{name}"))
    for name in ("TRACK", "TRACKCOM", "TARGETBODY", "TARGETBODYCOM")
)
_KINDS = {
    int(getattr(mujoco.mjtLightType, f"mjLIGHT_{kind.upper()}")): kind for kind in ("directional", "point", "spot")
}


def lights_of(model: Any) -> Lights:
    """The lights of a model that are active and of a kind that jnr has."""
    own = [i for i in range(model.nlight) if model.light_active[i] and int(model.light_type[i]) in _KINDS]
    kinds = [_KINDS[int(model.light_type[i])] for i in own]
    # OpenGL's spot light without a cone.
    kinds = ["point" if k == "spot" and model.light_cutoff[i] >= 90 else k for i, k in zip(own, kinds, strict=True)]
    attenuation = [model.light_attenuation[i] if int(model.light_type[i]) in _SPOT else (1, 0, 0) for i in own]
    head = model.vis.headlight
    places = (model.light_pos, model.light_dir, model.light_pos0, model.light_poscom0, model.light_dir0)
    return Lights(
        kinds=tuple(kinds),
        modes=tuple(int(model.light_mode[i]) for i in own),
        bodies=tuple(int(model.light_bodyid[i]) for i in own),
        targets=tuple(int(model.light_targetbodyid[i]) for i in own),
        has_headlight=bool(head.active),
        headlight=jnp.asarray(np.stack([head.ambient, head.diffuse]), float),
        colors=jnp.asarray(np.stack([model.light_ambient[own], model.light_diffuse[own]], axis=1), float),
        attenuation=jnp.asarray(np.asarray(attenuation, float).reshape(-1, 3), float),
        cone=jnp.asarray(np.stack([model.light_cutoff[own], model.light_exponent[own]], axis=1), float),
        placement=jnp.asarray(np.stack([place[own] for place in places], axis=1), float),
        ids=jnp.asarray(own, jnp.int32),
    )


_SPOT = [number for number, kind in _KINDS.items() if kind == "spot"]


def lights_at(lights: Lights, data: Any, camera: Camera) -> tuple[Light, ...]:
    """The lights as they shine in a state."""
    if not (lights.kinds or lights.has_headlight):
        return (AmbientLight(0.3),)  # MuJoCo's, where a model has no light.
    ambient = jnp.sum(lights.colors[:, 0], axis=0)
    found = []
    if lights.has_headlight:
        ambient = ambient + lights.headlight[0]
        found.append(DirectionalLight(1.0, lights.headlight[1], camera.pose.camera_from_world()[2, :3]))
    for i, kind in enumerate(lights.kinds):
        position, direction = _place(lights, i, data)
        color = lights.colors[i, 1]
        if kind == "directional":
            found.append(DirectionalLight(1.0, color, -direction))
            continue
        light = PointLight(1.0, color, position, lights.attenuation[i])
        found.append(light if kind == "point" else SpotLight(light, direction, *lights.cone[i]))
    return (AmbientLight(1.0, ambient), *found)


def _place(lights, i, data):
    """Position and direction of a light: MuJoCo's, or what MuJoCo's `mj_camlight` computes, which MJX leaves out."""
    if hasattr(data, "light_xpos"):
        return field(data, "light_xpos")[lights.ids[i]], field(data, "light_xdir")[lights.ids[i]]
    body, mode, target = lights.bodies[i], lights.modes[i], lights.targets[i]
    placement = lights.placement[i].astype(field(data, "xpos").dtype)
    own_position, own_direction, from_body, from_center, start_direction = placement
    if mode == _TRACK:
        return field(data, "xpos")[body] + from_body, start_direction
    if mode == _TRACKCOM:
        return field(data, "subtree_com")[body] + from_center, start_direction
    rotation = field(data, "xmat").reshape(-1, 3, 3)[body]
    position = field(data, "xpos")[body] + jnp.sum(rotation * own_position[None], axis=1)
    if mode in (_TARGETBODY, _TARGETBODYCOM) and target >= 0:
        aim = field(data, "xpos" if mode == _TARGETBODY else "subtree_com")[target] - position
        return position, aim / jnp.linalg.norm(aim)
    return position, jnp.sum(rotation * own_direction[None], axis=1)


@pytree()
class SpotLight:
    """OpenGL's spot light.

    Attributes:
        light: The light without the cone.
        direction: Unit vector in which the light shines.
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
        direction, cutoff, exponent = (
            jnp.asarray(value, toward.dtype) for value in (self.direction, self.cutoff, self.exponent)
        )
        cosine = -jnp.sum(toward * with_rank(direction, toward.ndim), axis=-1, keepdims=True)
        is_lit = cosine > jnp.cos(jnp.deg2rad(cutoff))
        return Arriving(color * jnp.where(is_lit, jnp.where(is_lit, cosine, 1) ** exponent, 0), toward)


def sky_seen(images: tuple[jax.Array, ...], camera: Camera, image_size: tuple[int, int]) -> jax.Array:
    """The skybox at every pixel of an image, (height, width, 3)."""
    height, width = image_size
    view = camera.pose.camera_from_world()
    clip_from_camera = camera.projection.clip_from_camera(width / height)
    x, y = np.meshgrid(2 * (np.arange(width) + 0.5) / width - 1, 1 - 2 * (np.arange(height) + 0.5) / height)
    far = jnp.asarray(
        np.stack([x, y, np.ones_like(x), np.ones_like(x)], axis=-1).reshape(-1, 4).T, clip_from_camera.dtype
    )
    seen = jnp.linalg.solve(clip_from_camera, far)[:3]
    # MuJoCo's skybox has y upwards.
    direction = jnp.matmul(view[:3, :3].T.astype(seen.dtype), seen, precision="highest")[jnp.array([0, 2, 1])]
    direction = direction * jnp.array([[1], [1], [-1]], direction.dtype)
    axis = jnp.argmax(jnp.abs(direction), axis=0)
    depth = jnp.take_along_axis(direction, axis[None], axis=0)[0]
    side = 2 * axis + (depth < 0).astype(axis.dtype)
    across, down = jnp.einsum("pac,cp->ap", jnp.asarray(CUBE, direction.dtype)[side], direction, precision="highest")
    sides = jnp.stack(images)
    size = sides.shape[1]
    column, row = ((value / jnp.abs(depth) + 1) * (size / 2) - 0.5 for value in (across, down))
    side = jnp.minimum(side, len(images) - 1)

    def texel(row, column):
        row, column = (jnp.clip(place, 0, size - 1).astype(jnp.int32) for place in (row, column))
        return sides[side, row, column]

    top, left = jnp.floor(row), jnp.floor(column)
    lower, right = (row - top)[:, None].astype(sides.dtype), (column - left)[:, None].astype(sides.dtype)
    upper_row = texel(top, left) * (1 - right) + texel(top, left + 1) * right
    lower_row = texel(top + 1, left) * (1 - right) + texel(top + 1, left + 1) * right
    return (upper_row * (1 - lower) + lower_row * lower).reshape(height, width, 3)


def field(data: Any, name: str) -> jax.Array:
    """An array of `mjx.Data` or `mujoco.MjData`."""
    value = getattr(data, name, None)
    if value is None:
        raise TypeError(
            f"data must have {name}, as mujoco.MjData and the mjx.Data of a jax implementation have, got "
            f"{type(data).__name__}."
        )
    return _checks.as_finite(value, name)
