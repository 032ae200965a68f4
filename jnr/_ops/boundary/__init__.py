"""Boundary: the derivative of the picture by the motion of what is seen."""

import dataclasses
from collections.abc import Sequence
from functools import partial, reduce
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad
from jaxtyping import Array, ArrayLike, Float, Int

from jnr import _checks
from jnr._backend import Backend, check_backend
from jnr._ops.boundary import definition
from jnr._ops.devices import vary_alike
from jnr._ops.op import Cpp, Triton, declare
from jnr._ops.rasterize import Fragments, check_picture
from jnr._ops.reverse_only import second_derivative_error, without_derivative

boundary_crossings_p = declare(
    definition.boundary_crossings,
    lambda *operands, **_: ((*operands[3].shape[1:], 2), jnp.int32),
    cpp=Cpp(),
    triton=Triton("boundary"),
)
# Forward mode is plain JAX on every backend.
crossing_motion_p = declare(
    definition.crossing_motion,
    lambda tangent, crossings, *_, **__: (crossings.shape[1:-1], tangent.dtype),
    definition_only=True,
)
crossing_motion_bwd_p = declare(
    definition.crossing_motion_bwd,
    lambda cotangent, crossings, clip_positions, *_, **__: (clip_positions.shape[1:], cotangent.dtype),
    cpp=Cpp(),
    triton=Triton("boundary"),
)


def _transpose_motion(cotangent, tangent, *constants, backend):
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(tangent.aval), None, None, None, None
    sums = tangent.aval.shape[0]
    return crossing_motion_bwd_p.bind(cotangent, *constants, sums=sums, backend=backend), None, None, None, None


def _jvp_of_motion(primals, tangents, *, backend):
    if not all(isinstance(tangent, ad.Zero) for tangent in tangents[2:]):
        raise second_derivative_error("boundary")
    out = crossing_motion_p.bind(*primals, backend=backend)
    tangent = tangents[0]
    if isinstance(tangent, ad.Zero):
        return out, ad.Zero(jax.typeof(out).to_tangent_aval())
    return out, crossing_motion_p.bind(tangent, *primals[1:], backend=backend)


ad.primitive_jvps[crossing_motion_p] = _jvp_of_motion
ad.primitive_transposes[crossing_motion_p] = _transpose_motion
without_derivative(crossing_motion_bwd_p, "boundary")


Shares = Literal["equal", "nearest"]


@dataclasses.dataclass(frozen=True)
class Boundary:
    """The derivative of the picture by the motion of boundaries, as `boundary` describes it.

    Attributes:
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform (in `render`, to take its backend).
        shares: How a change is shared between two pixels, `"equal"` or `"nearest"`, see `boundary`.
    """

    backend: Backend | None = None
    shares: Shares = "equal"
    op: ClassVar = "boundary"

    def __post_init__(self):
        check_backend(self.backend)
        _checks.check_choice(self.shares, "shares", get_args(Shares))

    def __call__(
        self,
        image: Float[Array, "height width channels"],
        cotangent: Float[Array, "height width channels"],
        clip_positions: Float[Array, "vertices 4"],
        faces: Int[Array, "faces 3"],
        fragments: Fragments,
    ) -> Float[Array, "vertices 4"]:
        """The cotangent of the positions; see `jnr.gradients.Gradient`."""

        def moved(clip_positions):
            mesh = clip_positions, faces, fragments.face_index
            return attach_boundary((image,), None, *mesh, self)[0]

        return jax.vjp(moved, clip_positions)[1](cotangent)[0]


def boundary(
    image: Float[ArrayLike, "height width channels"],
    clip_positions: Float[ArrayLike, "vertices 4"],
    faces: Int[ArrayLike, "faces 3"],
    fragments: Fragments,
    *,
    slopes: Float[ArrayLike, "2 height width channels"] | None = None,
    shares: Shares = "equal",
    backend: Backend | None = None,
) -> Float[Array, "height width channels"]:
    """Returns `image` unchanged and attaches the derivative of the picture by the motion of its boundaries.

    Where two neighbouring pixels see different faces, a boundary crosses the line between their centres: an edge of the
    nearer surface, or the line in which two surfaces meet. If the crossing moves by a pixel, the area that shows one
    side's colour grows by a pixel at the expense of the other's. The sum over all crossings is the derivative of the
    picture whose pixels are means over their areas, as far as it comes from boundaries; the derivative of colours
    inside of faces is that of `image` itself.

    Gradients: the tangent of `image` passes through; that of `clip_positions` adds the crossings' motion times the jump
    of the colours across them. Forward and reverse mode, linear in tangent and cotangent. Second derivatives by
    positions are refused. z has a derivative where surfaces cut each other or the near and the far plane.

    Args:
        image: The finished image before supersamples are averaged, with any number of channels.
        clip_positions: Vertices in clip space, as given to `rasterize`.
        faces: Vertex indices of each face, as given to `rasterize`.
        fragments: From `rasterize`.
        slopes: How the image changes within faces per column, `slopes[0]`, and per row, `slopes[1]`, from which colours
            on both sides of a crossing follow. None for colours that are constant on faces; then a colour that varies
            continuously over the surface counts twice, here and in the derivative of `image`.
        shares: How the change is shared between the two pixels. `"nearest"` gives it to the pixel in whose area the
            crossing lies. Averaged over positions of the pixel grid, this is the exact derivative, but one image's
            varies with where its crossings happen to lie if neighbouring pixels have different cotangents. `"equal"`
            gives half to either pixel: it varies less, and sees the cotangent through a box of two pixels.
        backend: `"xla"`, `"cpu"`, `"triton"`, or None to choose by platform. Forward mode is plain JAX in any case.

    Returns:
        `image`.

    Raises:
        ValueError: If shapes do not match.
        TypeError: If an argument is not of the right kind.

    Example:
        >>> image = jnr.boundary(image, clip_positions, faces, fragments)
        >>> jacobian = jax.jacfwd(lambda pose: draw(pose))(pose)

    References:
        Li, Aittala, Durand and Lehtinen, Differentiable Monte Carlo ray tracing through edge sampling, 2018, eq. 5.
    """
    image, clip_positions, faces, fragments = check_picture(image, clip_positions, faces, fragments)
    within = None
    if slopes is not None:
        within = _checks.as_float(slopes, "slopes")
        _checks.check_shape(within, "slopes", 2, *image.shape)
    mesh = clip_positions, faces, fragments.face_index
    return attach_boundary((image,), None if within is None else (within,), *mesh, Boundary(backend, shares))[0]


def attach_boundary(
    images: Sequence[jax.Array],
    slopes: Sequence[jax.Array] | None,
    clip_positions: jax.Array,
    faces: jax.Array,
    face_index: jax.Array,
    gradient: Boundary,
) -> tuple[jax.Array, ...]:
    """`boundary` for arguments that have been checked, of several images."""
    clip_positions, faces, face_index = vary_alike(clip_positions, faces, face_index)
    slopes = None if slopes is None else tuple(map(lax.stop_gradient, slopes))
    return _with_boundary(tuple(images), slopes, clip_positions, faces, face_index, gradient)


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _with_boundary(images, slopes, clip_positions, faces, face_index, gradient):
    del slopes, clip_positions, faces, face_index, gradient
    return images


@partial(_with_boundary.defjvp, symbolic_zeros=True)
def _tangent(gradient, primals, tangents):
    images, slopes, clip_positions, faces, face_index = primals
    tangents, _, clip_tangent, *_ = tangents
    if isinstance(clip_tangent, SymbolicZero):
        return images, tangents
    active = jnp.stack([_differs(images, axis) for axis in ALONG])[None]
    constants = lax.stop_gradient(clip_positions)[None], faces[None], face_index[None]
    crossings = boundary_crossings_p.bind(*constants, active, backend=gradient.backend)
    motion = crossing_motion_p.bind(
        clip_tangent[None], crossings, clip_positions[None], *constants[1:], backend=gradient.backend
    )
    slopes = [None] * len(images) if slopes is None else slopes
    where = crossings[0, ..., 1], motion[0], gradient.shares
    changes = [_change(*image, *where) for image in zip(images, slopes, strict=True)]
    return images, tuple(
        change if isinstance(tangent, SymbolicZero) else tangent + change
        for tangent, change in zip(tangents, changes, strict=True)
    )


# Axes of an image along which gaps lie: those of rows first.
ALONG = (1, 0)


def _next(values, axis):
    """Values of the next pixel along an axis; what the last one gets has no effect, as no crossing lies beyond it."""
    return jnp.roll(values, -1, axis)


def _differs(images, axis):
    differs = [x != _next(x, axis) for image in images for x in _channels(image)]
    return reduce(jnp.logical_or, differs, jnp.zeros(images[0].shape[:2], bool))


def _channels(image):
    """Channel by channel, because XLA's sums over short axes are slow on a CPU."""
    return [image[..., c] for c in range(image.shape[-1])]


def _change(image, slopes, place, motion, shares):
    """Change of an image: the motion of every crossing times the jump there, shared between its two pixels."""
    changes = []
    for c, values in enumerate(_channels(image)):
        total = jnp.zeros_like(values)
        for k, axis in enumerate(ALONG):
            jump = values - _next(values, axis)
            if slopes is not None:
                jump = _without_slope(jump, slopes[k, ..., c], place[k], axis)
            if shares == "equal":
                change = jump * (motion[k] / 2).astype(values.dtype)
                total += change + jnp.roll(change, 1, axis)
            else:
                change = jump * motion[k].astype(values.dtype)
                is_near = place[k] < definition.UNIT // 2
                total += jnp.where(is_near, change, 0) + jnp.roll(jnp.where(is_near, 0, change), 1, axis)
        changes.append(total)
    return jnp.stack(changes, axis=-1) if changes else jnp.zeros_like(image)


def _without_slope(step, slope, place, axis):
    """A step without what colours change by themselves on the way from the centres to the crossing."""
    place = place.astype(step.dtype) / definition.UNIT
    return step + place * slope + (1 - place) * _next(slope, axis)
