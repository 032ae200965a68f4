"""The mesh that loaders and shapes return, and batches and scenes of several meshes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jnr import _checks
from jnr._geometry import check_vertices, subdivision
from jnr._pytree import described
from jnr._textures import Textures, UVTexture, one_or_per_image


class Mesh(NamedTuple):
    """A triangle mesh; `render(mesh)` renders it.

    Attributes:
        vertices: Positions.
        faces: int32 vertex indices of each face, counter-clockwise seen from outside.
        textures: Textures as `render` takes them, None if there are none.
    """

    vertices: Float[Array, "vertices 3"]
    faces: Int[Array, "faces 3"]
    textures: Textures | None = None

    def __repr__(self) -> str:
        """The shapes of the arrays."""
        return described(self, self._fields)


def stack(meshes: Sequence[Mesh]) -> Mesh:
    """Stacks different meshes into one batch for `vmap`.

    Shorter arrays are padded: vertices and texels with zeros, faces with -1. Padding is not rendered, costs next to
    nothing and receives no gradient, so each mesh has the same rendering as on its own.

    Args:
        meshes: At least one; all with vertex colours, or all with texture cubes of one size, or all with UV textures of
            one wrap and filter. A mesh without textures becomes white if others have textures.

    Returns:
        One mesh whose arrays all have a leading batch axis.

    Raises:
        ValueError: If there are no meshes, or their textures are not compatible.

    Example:
        >>> batch = jnr.stack([jnr.shapes.cube(), jnr.shapes.icosphere(2)])
        >>> images = jax.vmap(lambda mesh: jnr.render(*mesh).rgb)(batch)
    """
    meshes = checked_alike(meshes)
    return Mesh(
        _stacked([mesh.vertices for mesh in meshes]),
        _stacked([mesh.faces for mesh in meshes], padding=-1),
        _stack_textures([mesh.textures for mesh in meshes], [mesh.faces for mesh in meshes]),
    )


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """Concatenates meshes into one scene.

    Args:
        meshes: At least one; textures as for `stack`, but UV textures may have different wraps.

    Returns:
        One mesh with the vertices and faces of all, in order.

    Raises:
        ValueError: If there are no meshes, or their textures are not compatible.

    Example:
        >>> ball = jnr.shapes.icosphere(2)
        >>> two = jnr.concatenate([ball, ball._replace(vertices=ball.vertices + 1)])
    """
    meshes = checked_alike(meshes)
    return Mesh(
        jnp.concatenate([mesh.vertices for mesh in meshes]),
        concatenated_indices([mesh.faces for mesh in meshes], [mesh.vertices.shape[0] for mesh in meshes]),
        concatenate_textures([mesh.textures for mesh in meshes], [mesh.faces for mesh in meshes]),
    )


def checked_alike(meshes: Sequence[Mesh]) -> list[Mesh]:
    """The meshes with arrays of the right kinds and textures of one kind, white where one has none."""
    return _alike(_checked(meshes))


def normalize(mesh: Mesh) -> Mesh:
    """Moves and scales a mesh so that its bounding box is centred at the origin and its longest side is from -1 to 1.

    Faces, textures and the order of vertices are kept. Neural Renderer's `load_obj` normalizes in the same way.

    Gradients: reach the vertices.

    Raises:
        ValueError: If there is no vertex, or all vertices coincide.
    """
    require_mesh(mesh, "mesh")
    vertices = check_vertices(mesh.vertices)
    if vertices.shape[0] == 0:
        raise ValueError("vertices must not be empty, got shape (0, 3).")
    low, high = jnp.min(vertices, axis=0, keepdims=True), jnp.max(vertices, axis=0, keepdims=True)
    longest = jnp.max(high - low)
    if _checks.is_concrete(longest) and not float(longest) > 0:
        raise ValueError(f"vertices must not all coincide, got a bounding box of size {float(longest):g}.")
    return mesh._replace(vertices=(vertices - low - (high - low) / 2) * (2 / longest))


def subdivide(mesh: Mesh) -> Mesh:
    """Divides every face of a mesh into four at the midpoints of its sides, without changing its appearance.

    It runs outside of `jit`; see `subdivision` for the part that can run under `jit`.

    Gradients: reach the vertices and the textures.

    Args:
        mesh: A mesh with vertex colours, a `UVTexture` or no textures. Texture cubes cannot be divided: create them
            afterwards, or see `cubes_to_uv`.

    Raises:
        TypeError: If the faces are traced.
        ValueError: If the mesh has texture cubes.

    Example:
        >>> jnr.subdivide(jnr.shapes.cube()).faces.shape
        (48, 3)
    """
    require_mesh(mesh, "mesh")
    (mesh,) = _checked([mesh])
    finer = subdivision(mesh.faces, mesh.vertices.shape[0])
    textures = mesh.textures
    if isinstance(textures, UVTexture):
        uv = _checks.as_compute(textures.uv, "uv")
        uv_faces = textures.uv_faces
        if uv_faces is None:
            uv = finer.values(uv)
        else:
            finer_uv = subdivision(uv_faces, uv.shape[0])
            uv, uv_faces = finer_uv.values(uv), finer_uv.faces
        material = textures.material
        material = None if material is None else jnp.asarray(material)[finer.parents]
        factor = textures.factor
        if factor is not None and np.ndim(factor) == 2:
            factor = jnp.asarray(factor)[finer.parents]
        textures = dataclasses.replace(textures, uv=uv, uv_faces=uv_faces, material=material, factor=factor)
    elif textures is not None and textures.ndim == 2:
        textures = finer.values(jnp.asarray(textures))
    elif textures is not None:
        raise ValueError(
            "textures must be vertex colours (vertices, channels) or a UVTexture to be divided, got shape "
            f"{textures.shape}. See jnr.cubes_to_uv."
        )
    return Mesh(finer.values(mesh.vertices), finer.faces, textures)


def require_mesh(mesh: Any, name: str) -> None:
    """Raises TypeError unless the value is a mesh."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{name} must be of jnr.Mesh, got {type(mesh).__name__}.")


def _checked(meshes):
    if isinstance(meshes, Mesh) or not isinstance(meshes, Sequence):
        raise TypeError(f"meshes must be a sequence of meshes, got {type(meshes).__name__}.")
    if not meshes:
        raise ValueError("meshes must hold at least one mesh, got none.")
    checked = []
    for mesh in meshes:
        require_mesh(mesh, "meshes")
        vertices = check_vertices(mesh.vertices)
        textures = mesh.textures
        if textures is not None and not isinstance(textures, UVTexture):
            textures = _checks.as_color(textures, "textures")
        checked.append(Mesh(vertices, _checks.as_faces(mesh.faces, vertices.shape[0]), textures))
    return checked


def _kind(textures) -> str:
    if textures is None:
        return "none"
    if isinstance(textures, UVTexture):
        return "UV textures"
    return "vertex colours" if textures.ndim == 2 else "texture cubes"


def _alike(meshes):
    """The meshes with textures of one kind: white for a mesh without textures if others have them."""
    kinds = {_kind(mesh.textures) for mesh in meshes} - {"none"}
    if len(kinds) > 1:
        raise ValueError(
            f"meshes must have textures of one kind, got {' and '.join(sorted(kinds))}. See jnr.uv_to_cubes, "
            "jnr.colors_to_cubes and jnr.cubes_to_uv."
        )
    if not kinds:
        return meshes
    if kinds == {"UV textures"}:
        if any(mesh.textures is not None and mesh.textures.alpha for mesh in meshes):
            meshes = [mesh._replace(textures=_with_alpha(mesh.textures)) for mesh in meshes]
        if any(mesh.textures is not None and mesh.textures.factor is not None for mesh in meshes):
            meshes = [mesh._replace(textures=_with_factor(mesh.textures, mesh.faces.shape[0])) for mesh in meshes]
    example: Any = next(mesh.textures for mesh in meshes if mesh.textures is not None)
    return [mesh if mesh.textures is not None else mesh._replace(textures=_white(mesh, example)) for mesh in meshes]


def _with_alpha(texture):
    """The texture with an opaque fourth channel if it has three."""
    if texture is None or texture.alpha is not None or _images(texture)[0].shape[-1] != 3:
        return texture

    def opaque(colors):
        return jnp.concatenate([colors, jnp.ones_like(colors[..., :1])], axis=-1)

    images = tuple(opaque(image) for image in _images(texture))
    border = opaque(jnp.broadcast_to(_checks.as_color(texture.border, "border"), (3,)))
    factor = texture.factor if texture.factor is None else opaque(_checks.as_color(texture.factor, "factor"))
    return dataclasses.replace(texture, images=images, alpha="blend", border=border, factor=factor)


def _with_factor(texture, num_faces):
    """The texture with a factor per face."""
    if texture is None:
        return texture
    factor = 1.0 if texture.factor is None else _checks.as_color(texture.factor, "factor")
    shape = num_faces, _images(texture)[0].shape[-1]
    return dataclasses.replace(texture, factor=jnp.broadcast_to(jnp.asarray(factor, jnp.result_type(float)), shape))


def _white(mesh, example):
    if isinstance(example, UVTexture):
        image = jnp.ones((1, 1, _images(example)[0].shape[-1]))
        uv_faces = None if example.uv_faces is None else mesh.faces
        uv = jnp.zeros((mesh.vertices.shape[0], 2))
        factor = None if example.factor is None else jnp.ones((mesh.faces.shape[0], image.shape[-1]))
        return dataclasses.replace(
            example, images=image, uv=uv, uv_faces=uv_faces, material=None, sizes=None, factor=factor
        )
    count = mesh.vertices.shape[0] if example.ndim == 2 else mesh.faces.shape[0]
    return jnp.ones((count, *example.shape[1:]), example.dtype)


def _images(texture) -> list[jax.Array]:
    images = texture.images if isinstance(texture.images, (tuple, list)) else [texture.images]
    return [_checks.as_color(image, "images") for image in images]


def _sizes(texture) -> list[jax.Array]:
    if texture.sizes is not None:
        return [jnp.asarray(size, jnp.int32) for size in texture.sizes]
    return [jnp.array(image.shape[:2], jnp.int32) for image in _images(texture)]


def _per_image(value, images) -> tuple:
    """One entry per image of a field that is one name for all images or a sequence of one per image."""
    return (value,) * len(images) if isinstance(value, str) else tuple(value)


def _alphas(texture, images) -> tuple | None:
    return None if texture.alpha is None else _per_image(texture.alpha, images)


def _cutoffs(texture, images) -> jax.Array:
    return jnp.broadcast_to(_checks.as_compute(texture.alpha_cutoff, "alpha_cutoff"), (len(images),))


def _material(texture, faces):
    if texture.material is None:
        return jnp.zeros(faces.shape[0], jnp.int32)
    return jnp.asarray(texture.material, jnp.int32)


def _stacked(arrays, padding=0):
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    return jnp.stack([_padded(array, shape, padding) for array in arrays])


def _padded(array, shape, padding=0):
    widths = [(0, size - own) for size, own in zip(shape, array.shape, strict=True)]
    return jnp.pad(array, widths, constant_values=padding)


def _check_same(values, rule):
    if any(value != values[0] for value in values):
        raise ValueError(f"meshes must have {rule}, got {', '.join(map(str, dict.fromkeys(values)))}.")


def _stack_textures(textures, faces):
    if not isinstance(textures[0], UVTexture):
        if textures[0] is None:
            return None
        _check_same([texture.shape[1:] for texture in textures], "textures of one size but for their length")
        return _stacked(textures)
    images = [_images(texture) for texture in textures]
    count = max(map(len, images))
    wraps = _one_per_image(
        [_per_image(texture.wrap, own) for texture, own in zip(textures, images, strict=True)], "wrap"
    )
    alphas = [_alphas(texture, own) for texture, own in zip(textures, images, strict=True)]
    _check_same([own is None for own in alphas], "alpha all or none")
    alpha = None if alphas[0] is None else _one_per_image(alphas, "alpha")
    cutoffs = [_cutoffs(texture, own) for texture, own in zip(textures, images, strict=True)]
    _check_same([texture.filter for texture in textures], "one filter")
    _check_same([own[0].shape[-1] for own in images], "images of one number of channels")
    _check_same([texture.uv_faces is None for texture in textures], "uv_faces all or none")
    sizes = [_sizes(texture) for texture in textures]
    for own, own_sizes in zip(images, sizes, strict=True):
        while len(own) < count:
            own.append(jnp.zeros((1, 1, own[0].shape[-1]), own[0].dtype))
            own_sizes.append(jnp.ones(2, jnp.int32))
    needs_sizes = any(t.sizes is not None for t in textures) or any(
        len({own[k].shape for own in images}) > 1 for k in range(count)
    )
    channels = images[0][0].shape[-1]
    return UVTexture(
        images=tuple(_stacked([own[k] for own in images]) for k in range(count)),
        uv=_stacked([_checks.as_compute(texture.uv, "uv") for texture in textures]),
        uv_faces=None
        if textures[0].uv_faces is None
        else _stacked([jnp.asarray(texture.uv_faces, jnp.int32) for texture in textures], padding=-1),
        material=None if count == 1 else _stacked([_material(t, f) for t, f in zip(textures, faces, strict=True)]),
        wrap=wraps,
        alpha=alpha,
        alpha_cutoff=jnp.stack([jnp.pad(own, (0, count - len(own))) for own in cutoffs]),
        filter=textures[0].filter,
        border=jnp.stack([jnp.broadcast_to(_checks.as_color(t.border, "border"), (channels,)) for t in textures]),
        sizes=tuple(jnp.stack([own[k] for own in sizes]) for k in range(count)) if needs_sizes else None,
        factor=None if textures[0].factor is None else _stacked([texture.factor for texture in textures]),
    )


def _one_per_image(lists, name) -> Any:
    """The entries of the longest list, which all lists must begin like; one name if all entries are the same."""
    # Missing images of a shorter list are never read, so they take the longest list's entries.
    longest = max(lists, key=len)
    _check_same([(*own, *longest[len(own) :]) for own in lists], f"one {name}")
    return one_or_per_image(longest)


def concatenated_indices(indices: Sequence[jax.Array], counts: Sequence[int]) -> jax.Array:
    """Indices of several meshes in the rows of all, of which mesh i has `counts[i]`; -1 stays -1."""
    first = 0
    moved = []
    for index, count in zip(indices, counts, strict=True):
        moved.append(jnp.where(index < 0, -1, index + first))
        first += count
    if first >= 2**31:
        raise ValueError(f"meshes must have fewer than 2**31 vertices in all, got {first}.")
    return jnp.concatenate(moved)


def concatenate_textures(textures: Sequence[Any], faces: Sequence[jax.Array]) -> Any:
    """The texture of the concatenation of meshes, from their textures of one kind and their faces."""
    if not isinstance(textures[0], UVTexture):
        if textures[0] is None:
            return None
        _check_same([texture.shape[1:] for texture in textures], "textures of one size but for their length")
        return jnp.concatenate(textures)
    images = [_images(texture) for texture in textures]
    wraps = [wrap for texture, own in zip(textures, images, strict=True) for wrap in _per_image(texture.wrap, own)]
    alphas = [_alphas(texture, own) for texture, own in zip(textures, images, strict=True)]
    _check_same([own is None for own in alphas], "alpha all or none")
    _check_same([texture.filter for texture in textures], "one filter")
    _check_same([own[0].shape[-1] for own in images], "images of one number of channels")
    if any("border" in wrap == "border" for wrap in wraps) and all(_checks.is_concrete(t.border) for t in textures):
        _check_same([jnp.asarray(texture.border).tolist() for texture in textures], "one border")
    uvs = [_checks.as_compute(texture.uv, "uv") for texture in textures]
    uv_faces = None
    if any(texture.uv_faces is not None for texture in textures):
        own_faces = [
            own if texture.uv_faces is None else jnp.asarray(texture.uv_faces, jnp.int32)
            for texture, own in zip(textures, faces, strict=True)
        ]
        uv_faces = concatenated_indices(own_faces, [uv.shape[0] for uv in uvs])
    first, materials = 0, []
    for texture, own_images, own_faces in zip(textures, images, faces, strict=True):
        materials.append(_material(texture, own_faces) + first)
        first += len(own_images)
    has_sizes = any(texture.sizes is not None for texture in textures)
    return UVTexture(
        images=tuple(image for own in images for image in own),
        uv=jnp.concatenate(uvs),
        uv_faces=uv_faces,
        material=jnp.concatenate(materials) if first > 1 else None,
        wrap=one_or_per_image(wraps),
        alpha=None if alphas[0] is None else one_or_per_image([alpha for own in alphas for alpha in own or ()]),
        alpha_cutoff=jnp.concatenate([_cutoffs(t, own) for t, own in zip(textures, images, strict=True)]),
        filter=textures[0].filter,
        border=textures[0].border,
        sizes=tuple(size for texture in textures for size in _sizes(texture)) if has_sizes else None,
        factor=None if textures[0].factor is None else jnp.concatenate([texture.factor for texture in textures]),
    )
