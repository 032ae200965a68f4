"""Independent implementation of rasterizer and edge sweep: float64 loops that follow the definitions, not jnr's code.

docs/conventions.md defines what a pixel sees, docs/gradients.md what the sweep sums, and triton_kernels/README.md both
with perspective. As in Neural Renderer's kernels, the sweep loops over faces, lines and edges; jnr's starts at the
pixels.
"""

from typing import NamedTuple

import numpy as np

CORNERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


class Seen(NamedTuple):
    """What each pixel sees, and whether it is unambiguous."""

    face_index: np.ndarray  # (height, width)
    barycentric: np.ndarray  # (height, width, 3)
    depth: np.ndarray  # (height, width)
    clear: np.ndarray  # (height, width)


class Swept(NamedTuple):
    """Cotangent of the clip positions, a bound of its float32 rounding error, and whether it is unambiguous."""

    gradient: np.ndarray  # (vertices, 4)
    rounding: np.ndarray  # (vertices, 4)
    clear: np.ndarray  # (vertices,)


def in_pixels(clip, height, width):
    """Returns clip positions as (column * w, row * w, w)."""
    x, y, _, w = np.asarray(clip, np.float64).T
    return np.stack([((x + w) * width - w) / 2, ((w - y) * height - w) / 2, w], axis=-1)


def rasterize(clip, faces, height, width, *, cull=None, edge=1e-3, tie=1e-5):
    """Returns the nearest face at every pixel centre.

    A pixel is unambiguous (`clear`) unless a face that may be the nearest has an edge within `edge` pixels of it or is
    clipped by near or far there, or another face's NDC depth is within `tie` of the nearest one's.
    """
    clip = np.asarray(clip, np.float64)
    points = in_pixels(clip, height, width)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    ndc_x, ndc_y = (2 * column + 1) / width - 1, 1 - (2 * row + 1) / height
    face_index, nearest = np.full((height, width), -1), np.full((height, width), np.inf)
    barycentric, depth = np.zeros((height, width, 3)), np.zeros((height, width))
    # Depth of the second nearest face, and of the nearest ambiguous one.
    second, ambiguous_depth = np.full((height, width), np.inf), np.full((height, width), np.inf)

    for number, face in enumerate(faces):
        if face.min() < 0 or face.max() >= len(clip) or not np.all(np.isfinite(clip[face])):
            continue
        x, y, z, w = clip[face].T
        turn = np.linalg.det(clip[face][:, [0, 1, 3]])
        if turn == 0 or (cull == "back" and turn < 0) or (cull == "front" and turn > 0):
            continue
        # The point of the face on the pixel's ray: sum b (x - ndc_x w) = sum b (y - ndc_y w) = 0 and sum b = 1.
        b = np.cross(x - ndc_x[..., None] * w, y - ndc_y[..., None] * w)
        total = b.sum(axis=-1)
        b = b / np.where(total == 0, 1, total)[..., None]
        at_w, at_z = b @ w, b @ z
        ndc_z = at_z / np.where(at_w == 0, 1, at_w)
        inside = (total != 0) & np.all(b >= 0, axis=-1) & (at_w > 0)
        covers = inside & (np.abs(ndc_z) <= 1)

        # Distance from each edge in pixels, positive inside; also valid for faces that reach behind the camera.
        distance = np.full((height, width), np.inf)
        for i, j, k in CORNERS:
            line = np.cross(points[face[i]], points[face[j]])
            off = line[0] * column + line[1] * row + line[2]
            distance = np.minimum(distance, np.sign(line @ points[face[k]]) * off / max(np.hypot(*line[:2]), 1e-300))
        ambiguous = (np.abs(distance) <= edge) | ((distance > 0) & (np.abs(np.abs(ndc_z) - 1) <= tie))
        # At an edge, the depth is bounded below by that of the nearest corner.
        least = np.min(z / w) if np.all(w > 0) else -1
        ambiguous_depth = np.where(ambiguous, np.minimum(ambiguous_depth, least), ambiguous_depth)

        nearer = covers & (ndc_z < nearest)
        second = np.where(covers, np.where(nearer, nearest, np.minimum(second, ndc_z)), second)
        nearest = np.where(nearer, ndc_z, nearest)
        face_index[nearer], depth[nearer], barycentric[nearer] = number, at_w[nearer], b[nearer]

    # The background is at infinity, where it ties with no face.
    clear = (np.minimum(ambiguous_depth, second) > nearest + tie) | np.isinf(np.minimum(ambiguous_depth, second))
    return Seen(face_index, barycentric, depth, clear)


def edge_sweep(
    image,
    cotangent,
    clip,
    faces,
    face_index,
    *,
    eps=1e-3,
    edge=1e-3,
    digits=2e-6,
    depth=None,
    silhouettes_only=False,
    tie=1e-5,
):
    """Returns the edge sweep's cotangent of the clip positions, with occlusion if the pixels' NDC `depth` is given.

    A vertex is unambiguous (`clear`) unless one of its edges passes within `edge` pixels of a pixel centre, where the
    sign of the gradient jumps, or within `tie` of the depth of a pixel beyond. `rounding` bounds the effect of relative
    errors of `digits` in positions and terms.
    """
    image, cotangent, clip = (np.asarray(a, np.float64) for a in (image, cotangent, clip))
    height, width, _ = image.shape
    x, y, w = in_pixels(np.where(np.isfinite(clip), clip, 0), height, width).T
    depth = np.full((height, width), np.inf) if depth is None else depth
    options = clip[:, 2], faces, silhouettes_only, eps, edge, digits, tie
    along_rows = _sweep_lines(image, cotangent, face_index, depth, x, y, w, *options)
    turned = image.swapaxes(0, 1), cotangent.swapaxes(0, 1), face_index.T, depth.T
    along_columns = _sweep_lines(*turned, y, x, w, *options)

    gradient, rounding = np.zeros((len(clip), 4)), np.zeros((len(clip), 4))
    (gradient[:, 0], rounding[:, 0], clear), (down, rounding[:, 1], clear_down) = along_rows, along_columns
    gradient[:, 1] = -down  # rows grow downwards and y upwards
    # NDC x is x / w, so w gets the negative gradient. Vertices behind the camera have no image position.
    in_front = np.all(np.isfinite(clip), axis=-1) & (w > 0)
    ndc = np.where(in_front[:, None], clip[:, :2] / np.where(in_front, w, 1)[:, None], 0)
    gradient[:, 3] = -np.sum(gradient[:, :2] * ndc, axis=-1)
    rounding[:, 3] = np.sum(rounding[:, :2] * np.abs(ndc), axis=-1)
    return Swept(gradient, rounding, clear & clear_down)


def _sweep_lines(
    image, cotangent, face_index, depth, along, across, w, z, faces, silhouettes_only, eps, edge, digits, tie
):
    """Returns cotangent, rounding bound and `clear` mask of the clip coordinate along the image's rows."""
    lines, size, _ = image.shape
    gradient, rounding, clear = np.zeros(len(w)), np.zeros(len(w)), np.ones(len(w), bool)
    for number in np.unique(face_index[face_index >= 0]):
        face = faces[number]
        turn = np.linalg.det(np.stack([along[face], across[face], w[face]], axis=-1))
        for line in range(lines):
            shows = face_index[line] == number
            for a, b in ((face[i], face[j]) for i, j, _ in CORNERS):
                # The edge intersects the line at (1 - t) a + t b.
                from_a, from_b = across[a] - line * w[a], across[b] - line * w[b]
                if not (min(from_a, from_b) < 0 < max(from_a, from_b)):
                    continue
                t = from_a / (from_a - from_b)
                at_w = (1 - t) * w[a] + t * w[b]
                if at_w <= 0:
                    continue
                q = ((1 - t) * along[a] + t * along[b]) / at_w
                # The face lies on the side where (a x b) . p has the sign of (a x b) . c.
                outward = -int(np.sign((across[a] * w[b] - w[a] * across[b]) * turn))
                inner = int(np.floor(q) if outward > 0 else np.ceil(q))
                outer = inner + outward
                if abs(q - round(q)) <= edge and 0 <= round(q) < size:
                    clear[[a, b]] = False
                if not (0 <= inner < size and 0 <= outer < size) or outward == 0:
                    continue
                behind = face_index[line, outer]
                if silhouettes_only and behind >= 0 and {a, b} <= set(faces[behind]):
                    continue
                # Moved along the line, the crossing stays the same point of the edge and keeps its depth.
                beyond = np.arange(outer, size if outward > 0 else -1, outward)
                in_front = depth[line, beyond] - ((1 - t) * z[a] + t * z[b]) / at_w
                if np.any(np.abs(in_front) <= tie):
                    clear[[a, b]] = False
                if in_front[0] < 0:
                    continue
                # Cancellation in t and q grows as the edge becomes parallel to the line.
                flat = max(abs(from_a), abs(from_b)) / abs(from_a * w[b] - from_b * w[a])
                of_q = flat * max(abs(along[a]), abs(along[b]), size * abs(w[a]), size * abs(w[b]))
                of_t = max(abs(across[a]), abs(across[b]), lines * abs(w[a]), lines * abs(w[b])) / abs(from_a - from_b)

                beyond = beyond[np.logical_and.accumulate(in_front >= 0)]
                within = np.flatnonzero(shows)
                for pixels, other, sweeps in ((beyond, inner, shows[inner]), (within, outer, True)):
                    if not sweeps:
                        continue
                    gains = np.sum((image[line, pixels] - image[line, other]) * cotangent[line, pixels], axis=-1)
                    for j, gain in zip(pixels, gains, strict=True):
                        if gain <= 0:
                            continue
                        for vertex, part in ((a, 1 - t), (b, t)):
                            slope = part / at_w  # dq / d(clip coordinate); dq / d(NDC) is slope * w
                            far = abs(j - q) * 2 / size + eps * abs(slope * w[vertex])
                            pull = np.sign(j - q) * gain * slope / far
                            gradient[vertex] -= pull
                            rounding[vertex] += digits * abs(pull) * (1 + of_t / part + of_q * 2 / size / far)
    return gradient, rounding, clear
