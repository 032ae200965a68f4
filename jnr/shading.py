"""Textures and lights: what colour a pixel's point has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

from jnr import _checks
from jnr._ops.interpolate import interpolate
from jnr._ops.rasterize import Fragments
from jnr._pytree import pytree
from jnr._xla.geometry import power_of_two_scale, take

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int


@pytree()
class AmbientLight:
    """Light from everywhere.

    Attributes:
        intensity: Factor on the colour.
        color: One number or one a channel.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0


@pytree()
class DirectionalLight:
    """Light from far away.

    A surface gets `intensity * color * max(0, normal . direction)`.

    Attributes:
        intensity: Factor on the colour.
        color: One number or one a channel.
        direction: From the surface towards the light. Used as given: its length scales the light.
    """

    intensity: ArrayLike = 0.5
    color: ArrayLike | Sequence[float] = 1.0
    direction: ArrayLike | Sequence[float] = (0.0, 1.0, 0.0)


Light = AmbientLight | DirectionalLight

# From the upper right behind the default camera, so that a mesh shows its relief.
DEFAULT_LIGHTS = (AmbientLight(0.4), DirectionalLight(0.6, direction=(0.4243, 0.5657, 0.7071)))


def face_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "faces 3"]:
    """Unit normals of faces, towards the side from which they are counter-clockwise; zero for degenerate faces.

    Gradients: reach `vertices`; zero at degenerate faces.
    """
    vertices = _checks.as_compute(vertices, "vertices")
    _checks.check_shape(vertices, "vertices", "vertices", 3)
    faces = _checks.as_faces(faces, vertices.shape[0])
    if 0 in (vertices.shape[0], faces.shape[0]):
        return jnp.zeros((faces.shape[0], 3), vertices.dtype)
    corner = jnp.stack(_at_corners(vertices, faces))
    # Masked before the product: its derivative would be NaN times zero.
    sound = jnp.all(faces >= 0, axis=-1) & jnp.all(jnp.isfinite(corner), axis=(0, 2))
    corner = jnp.where(sound[:, None], corner, 0)
    # Around corner 1 as in Neural Renderer: where a face lies along the light, the last bit decides.
    forward, back = _near_one(corner[2] - corner[1]), _near_one(corner[0] - corner[1])
    normal = jnp.cross(forward, back)
    squared = jnp.sum(normal * normal, axis=-1, keepdims=True)
    sound = (squared > 0) & jnp.isfinite(squared)
    return jnp.where(sound, normal, 0) * lax.rsqrt(jnp.where(sound, squared, 1))


def face_light(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    lights: Sequence[Light],
    clip_from_world: Float[Array, "4 4"],
    clip_positions: Float[Array, "vertices 4"],
) -> Float[Array, "faces channels"]:
    """Light on the side of each face that the camera sees, one or several channels."""
    normals = face_normals(vertices, faces)
    # A face seen from behind shows its other side. In the image it is then clockwise, or, if the camera mirrors,
    # counter-clockwise.
    rows = _at_corners(lax.stop_gradient(clip_positions)[:, jnp.array([0, 1, 3])], faces)
    # Rescaled, since a product of three large coordinates overflows.
    scale = power_of_two_scale(*(row[:, i] for row in rows for i in range(3)))
    (x0, y0, w0), (x1, y1, w1), (x2, y2, w2) = ([row[:, i] * scale for i in range(3)] for row in rows)
    turn = x0 * (y1 * w2 - y2 * w1) + x1 * (y2 * w0 - y0 * w2) + x2 * (y0 * w1 - y1 * w0)
    mirrored = jnp.linalg.det(lax.stop_gradient(clip_from_world[:3, :3])) > 0
    side = jnp.where((turn < 0) != mirrored, -1, 1).astype(normals.dtype)
    normals = normals * lax.stop_gradient(side)[:, None]

    total = jnp.zeros((faces.shape[0], 1), normals.dtype)
    for light in lights:
        color = _light_color(light)
        if isinstance(light, DirectionalLight):
            direction = _checks.as_compute(light.direction, "direction")
            _checks.check_shape(direction, "direction", 3)
            # Not the sum of a product: XLA for the CPU (jax 0.10) gets it wrong where a mask and a batch meet.
            cosine = sum(normals[:, i : i + 1] * direction[i] for i in range(3))
            # Not maximum: faces exactly along the light are common, and there it would have half a derivative.
            color = color * jnp.where(cosine > 0, cosine, 0)
        if color.shape[-1] != total.shape[-1] and 1 not in (color.shape[-1], total.shape[-1]):
            raise ValueError(
                f"lights must have colours of one number of channels, got {total.shape[-1]} and {color.shape[-1]}."
            )
        total = total + color
    return total


def _near_one(vectors):
    """The same directions, scaled so that products of their coordinates neither overflow nor vanish."""
    scale = power_of_two_scale(*(vectors[..., i] for i in range(3)))
    return vectors * lax.stop_gradient(scale)[..., None]


def _at_corners(values, faces):
    """Rows of per-vertex values at each corner of the faces; any row for padding."""
    return [take(values, jnp.clip(faces[:, k], 0, values.shape[0] - 1)) for k in range(3)]


def check_lights(lights) -> tuple[Light, ...]:
    """The lights as a tuple."""
    if not isinstance(lights, Sequence) or isinstance(lights, str):
        raise TypeError(f"lights must be a sequence of lights, got {type(lights).__name__}.")
    for light in lights:
        if not isinstance(light, AmbientLight | DirectionalLight):
            raise TypeError(f"lights must be AmbientLight or DirectionalLight, got {type(light).__name__}.")
    return tuple(lights)


def _light_color(light):
    intensity = _checks.as_compute(light.intensity, "intensity")
    _checks.check_shape(intensity, "intensity")
    color = _checks.as_compute(light.color, "color")
    if color.ndim > 1:
        raise ValueError(f"color must be a number or have one value a channel, got shape {color.shape}.")
    return jnp.atleast_1d(color) * intensity


def sample_cubes(
    cubes: Float[Array, "faces size size size channels"], fragments: Fragments
) -> Float[Array, "height width channels"]:
    """Samples a texture cube per face, trilinear in the barycentrics; zero on background.

    Axis k of a face's cube runs with the weight of its corner k, from 0 to 1. Only the part near the plane where
    the weights sum to one is ever seen.

    Gradients: reach `cubes` and, through the barycentrics, the positions.

    References:
        Kato, Ushiku and Harada, Neural 3D mesh renderer, CVPR 2018, section 3.1.
    """
    cubes = _checks.as_float(cubes, "textures")
    num_faces, size, channels = cubes.shape[0], cubes.shape[1], cubes.shape[-1]
    _checks.check_shape(cubes, "textures", "faces", size, size, size, "channels")
    if size == 0:
        raise ValueError(f"textures must have at least one texel a side, got shape {cubes.shape}.")
    covered = fragments.face_index >= 0
    if 0 in cubes.shape:
        return jnp.zeros((*covered.shape, channels), cubes.dtype)
    table = cubes.reshape(-1, channels)
    position = fragments.barycentric.astype(cubes.dtype) * (size - 1)
    low = jnp.clip(jnp.floor(lax.stop_gradient(position)).astype(jnp.int32), 0, max(size - 2, 0))
    fraction = position - low.astype(position.dtype)
    face = jnp.clip(fragments.face_index, 0, num_faces - 1)
    total = jnp.zeros((*covered.shape, channels), cubes.dtype)
    for corner in range(8 if size > 1 else 1):
        bits = [(corner >> k) & 1 for k in range(3)]
        weight = jnp.ones(covered.shape, cubes.dtype)
        index = face
        for k in range(3):
            weight = weight * (fraction[..., k] if bits[k] else 1 - fraction[..., k])
            index = index * size + low[..., k] + bits[k]
        texel = jnp.where(covered[..., None], take(table, index), 0)
        total = total + weight[..., None] * texel
    return total


def sample_texture(
    textures: Float[Array, "vertices channels"] | Float[Array, "faces size size size channels"] | None,
    faces: Int[Array, "faces 3"],
    fragments: Fragments,
    num_vertices: int,
) -> Float[Array, "height width channels"]:
    """Colour of each pixel's point from vertex colours, texture cubes, or white where there is no texture."""
    if textures is None:
        covered = (fragments.face_index >= 0)[..., None]
        return jnp.broadcast_to(covered, (*covered.shape[:2], 3)).astype(fragments.barycentric.dtype)
    textures = _checks.as_float(textures, "textures")
    if textures.ndim == 2:
        _checks.check_shape(textures, "textures", num_vertices, "channels")
        return interpolate(textures, faces, fragments)
    if textures.ndim == 5:
        _checks.check_shape(textures, "textures", faces.shape[0], *textures.shape[1:])
        return sample_cubes(textures, fragments)
    raise ValueError(
        "textures must be vertex colours (vertices, channels) or texture cubes (faces, t, t, t, channels), "
        f"got shape {textures.shape}."
    )
