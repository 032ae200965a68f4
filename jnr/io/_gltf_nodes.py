"""The nodes of a glTF scene: which meshes it draws, and where."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jnr.io._gltf_document import Document, finite_rows, listed, natural

INSTANCING = "EXT_mesh_gpu_instancing"
VISIBILITY = "KHR_node_visibility"
# Extensions of nodes that are read, or recorded elsewhere.
KNOWN = {INSTANCING, VISIBILITY, "KHR_lights_punctual"}
# The parts of a node's matrix that are not given as one, and their defaults.
PARTS = {"translation": (0, 0, 0), "rotation": (0, 0, 0, 1), "scale": (1, 1, 1)}


class Use(NamedTuple):
    """What is drawn: a mesh with weights of its morph targets and a skin, each None if the node has none."""

    mesh: int
    weights: tuple | None = None
    skin: int | None = None


class Scene(NamedTuple):
    """What the scene draws, in depth-first order, and each copy's world matrix, `(copies, 4, 4)`."""

    uses: list[Use]
    matrices: np.ndarray
    joints: dict[int, np.ndarray | None]  # matrices of each skin's joints that take its vertices to the world


def scene(document: Document) -> Scene:
    """Returns what the document's scene draws."""
    nodes = document.items("nodes")
    if not nodes:
        count = len(document.items("meshes"))
        return Scene([Use(k) for k in range(count)], np.tile(np.eye(4), (count, 1, 1)), {})
    order, parents, hidden = _traversed(document)
    world = _world(_local([nodes[k] for k in order]), np.array(parents, np.int64))
    drawn = [k for k, index in enumerate(order) if not hidden[k] and "mesh" in nodes[index]]
    copies = [_copies(document, nodes[order[k]]) for k in drawn]
    counts = [1 if one is None else len(one) for one in copies]
    matrices = np.repeat(world[drawn], counts, axis=0)
    uses, joints, places = [], {}, {index: k for k, index in enumerate(order)}
    for k, own, count in zip(drawn, copies, counts, strict=True):
        use = _use(document, nodes[order[k]])
        if use.skin is not None and use.skin not in joints:
            joints[use.skin] = _joints(document, use.skin, world, places)
        if own is not None:
            matrices[len(uses) : len(uses) + count] @= own
        uses += [use] * count
    return Scene(uses, matrices, joints)


def _traversed(document):
    """Nodes of the scene in depth-first order, the place of each one's parent in it, and whether it is hidden."""
    nodes = document.items("nodes")
    if document.items("scenes"):
        roots = document.item("scenes", document.entries.get("scene", 0)).get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [k for k in range(len(nodes)) if k not in children]
    order, parents, hidden, seen = [], [], [], set()
    stack = [(index, -1) for index in reversed(roots)]
    extensions = set()
    while stack:
        index, parent = stack.pop()
        node = document.item("nodes", index)
        if index in seen:
            raise ValueError(f"its node {index} occurs in the scene twice")
        seen.add(index)
        stack += [(child, len(order)) for child in reversed(node.get("children", []))]
        own = node.get("extensions", {})
        extensions |= own.keys() - KNOWN
        order.append(index)
        hidden.append((parent >= 0 and hidden[parent]) or own.get(VISIBILITY, {}).get("visible") is False)
        parents.append(parent)
    if extensions:
        document.files.leave_out(f"extensions of nodes: {listed(extensions)}")
    return order, parents, hidden


def _world(local, above):
    """Products of each node's matrix with those of all nodes above it.

    Each pass multiplies with as many ancestors as all passes before, so that a chain takes a logarithmic number.
    """
    world = local
    while len(k := np.flatnonzero(above >= 0)):
        world[k] = world[above[k]] @ world[k]
        above[k] = above[above[k]]
    return world


def _local(nodes):
    matrices = np.tile(np.eye(4), (len(nodes), 1, 1))
    given = [k for k, node in enumerate(nodes) if "matrix" in node]
    rows = finite_rows([nodes[k]["matrix"] for k in given], 16, "matrix") if given else np.zeros((0, 16))
    matrices[given] = rows.reshape(-1, 4, 4).transpose(0, 2, 1)
    moved = [k for k, node in enumerate(nodes) if "matrix" not in node and not PARTS.keys().isdisjoint(node)]
    if moved:
        rows = {part: [nodes[k].get(part, default) for k in moved] for part, default in PARTS.items()}
        matrices[moved] = _composed(*(finite_rows(rows[part], len(PARTS[part]), part) for part in PARTS))
    return matrices


def _composed(translation, rotation, scale):
    """Matrices that scale, then rotate by a quaternion, then translate."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = (rotation / np.where(length > 0, length, 1)).T
    matrices = np.tile(np.eye(4), (len(rotation), 1, 1))
    turns = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices[:, :3, :3] = np.array(turns).transpose(2, 0, 1)
    matrices[:, :3, :3] *= scale[:, None]
    matrices[:, :3, 3] = translation
    return matrices


def _copies(document, node):
    """Matrices of the instances of a node, None without the extension. A skin ignores the place of its node."""
    attributes = node.get("extensions", {}).get(INSTANCING, {}).get("attributes")
    if attributes is None or "skin" in node:
        return None
    counts = {document.count(index) for index in attributes.values()}
    if len(counts) != 1:
        raise ValueError(f"it has {INSTANCING} with {len(counts)} different numbers of instances")
    (count,) = counts
    document.spend(16 * count)
    others = attributes.keys() - {part.upper() for part in PARTS}
    if others:
        document.files.leave_out(f"attributes of instances: {listed(others)}")
    rows = []
    for part, default in PARTS.items():
        given = part.upper() in attributes
        row = document.accessor(attributes[part.upper()], len(default)) if given else np.tile(default, (count, 1))
        rows.append(row.astype(np.float64))
    return _composed(*rows)


def _use(document, node) -> Use:
    document.item("meshes", node["mesh"])
    weights, skin = node.get("weights"), node.get("skin")
    if skin is not None:
        document.item("skins", skin)
    return Use(node["mesh"], None if weights is None else tuple(weights), skin)


def _joints(document, index, world, places):
    """Matrices that take the vertices of a skin to the world, one per joint, None if the scene has not all joints."""
    skin = document.item("skins", index)
    joints = skin["joints"]
    if not joints or not all(natural(joint) in places for joint in joints):
        document.files.leave_out("skins whose joints are not in the scene")
        return None
    document.files.leave_out("skins other than at rest")
    matrices = world[[places[joint] for joint in joints]]
    document.spend(16 * len(joints))
    if "inverseBindMatrices" not in skin:
        return matrices
    inverse = document.accessor(skin["inverseBindMatrices"], 16)[: len(joints)]
    if len(inverse) < len(joints):
        raise ValueError(f"its skin {index} has {len(joints)} joints and {len(inverse)} inverse bind matrices")
    return matrices @ inverse.astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)


def moved(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Applies each of `(copies, 4, 4)` matrices to points `(rows, 3)`, or to points `(copies, rows, 3)` of its own."""
    moved = points.astype(np.float64) @ matrices[:, :3, :3].transpose(0, 2, 1)
    moved += matrices[:, None, :3, 3]
    return moved


def turned(normals: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Applies the inverse transpose of matrices to normals, as `moved` does, and scales them to unit length.

    Directions need no more than single precision.
    """
    matrices = matrices[:, :3, :3]
    matrices = matrices / np.maximum(np.abs(matrices).max(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    # The inverse transpose times the determinant, which exists also for a matrix that flattens.
    cofactors = np.stack([np.cross(matrices[:, (k + 1) % 3], matrices[:, (k + 2) % 3]) for k in range(3)], axis=1)
    cofactors = np.where(reversing(matrices)[:, None, None], -cofactors, cofactors)
    return unit(normals.astype(np.float32) @ cofactors.transpose(0, 2, 1).astype(np.float32))


def unit(normals: np.ndarray) -> np.ndarray:
    """Normals of unit length; zero where they are zero."""
    length = np.sqrt(np.einsum("...k,...k->...", normals, normals))[..., None]
    return normals / np.where(length > 0, length, 1)


def reversing(matrices: np.ndarray) -> np.ndarray:
    """Whether each matrix reverses the orientation of faces, as a reflection does."""
    return np.linalg.det(matrices[:, :3, :3]) < 0
