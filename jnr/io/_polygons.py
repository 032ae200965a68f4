"""Polygons of any shape, split into triangles."""

from __future__ import annotations

import itertools

import numpy as np

from jnr.io._parts import Files

# Part of a polygon's area by which triangles of a fan may overlap; smaller than what any picture shows.
MAX_OVERLAP = 1e-6
# Part of a polygon's length by which rounding may have moved its corners.
ROUNDING = 1e-10
# Limits for hostile files: comparisons of a corner with a triangle, in all and in addition per corner.
MAX_COMPARISONS = 2**25
MAX_COMPARISONS_PER_CORNER = 64
# What a round costs beside them, in comparisons.
ROUND = 2**13
# Times that a polygon which intersects itself is asked for proper ears again.
RESTARTS = 4
# Comparisons in one array.
CHUNK = 2**20
# Corners of a polygon up to which it is split before the others.
SMALL = 512


def triangulate(
    vertices: np.ndarray, corner_index: np.ndarray, counts: np.ndarray, files: Files
) -> tuple[np.ndarray, np.ndarray]:
    """Splits polygons into triangles, which cover a polygon's area once where it is simple and nearly flat.

    A fan from the first corner is kept where it does that, as it does for every convex polygon. Others are split by
    clipping ears. A polygon of n corners always becomes n - 2 triangles.

    Args:
        vertices: `(vertices, 3)`.
        corner_index: Vertex of each corner; corners are numbered consecutively over all polygons.
        counts: Number of corners of each polygon.
        files: Records polygons that are split into fans because they would take too long.

    Returns:
        The corner numbers of each triangle, `(triangles, 3)`, and the polygon of each triangle, `(triangles,)`, both in
        the order of the polygons. Triangles wind as their polygon does.
    """
    if counts.size and counts.min() < 3:
        raise ValueError(f"it has a face of {counts.min()} corners")
    triangles, polygon = _fans(counts)
    # Indices out of range are rejected later, with those of triangles.
    if len(triangles) == len(counts) or corner_index.min() < 0 or corner_index.max() >= len(vertices):
        return triangles, polygon
    concave, normals = _badly_fanned(vertices, corner_index, counts, triangles, polygon)
    # Large polygons, which may exceed the limit, do not spoil small ones.
    is_small = counts[concave] <= SMALL
    for group in (is_small, ~is_small):
        if np.any(group):
            is_chosen = np.zeros(len(counts), bool)
            is_chosen[concave[group]] = True
            corners = np.flatnonzero(np.repeat(is_chosen, counts))
            points = _projected(vertices[corner_index[corners]], counts[is_chosen], normals[group])
            rings = _Rings(*points, counts[is_chosen])
            rings.clip()
            triangles[is_chosen[polygon]] = corners[rings.triangles()]
            if not rings.is_clipped:
                files.leave_out("the exact shape of polygons with very many corners (split into fans)")
    return triangles, polygon


def _fans(counts):
    triangles = counts - 2
    polygon = np.repeat(np.arange(len(counts)), triangles)
    start = _starts(counts)[polygon]
    second = start + np.arange(len(polygon)) - _starts(triangles)[polygon] + 1
    return np.stack([start, second, second + 1], axis=-1), polygon


def _badly_fanned(vertices, corner_index, counts, triangles, polygon):
    """The polygons whose fan has triangles that wind the other way, and their normals by Newell's method."""
    is_large = counts > 3
    large = np.flatnonzero(is_large)
    fans = triangles[is_large[polygon]]
    first, second, third = (vertices[corner_index[fans[:, k]]].astype(np.float64).T for k in range(3))
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    areas = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    sizes = counts[large] - 2
    normals = np.add.reduceat(areas, _starts(sizes), axis=1)
    squares = np.sum(normals**2, axis=0)
    fan = np.repeat(np.arange(len(large)), sizes)
    # Comparisons with NaN are false: fans of broken polygons stay.
    overlaps = np.sum(areas * normals[:, fan], axis=0) < -MAX_OVERLAP * squares[fan]
    chosen = np.unique(fan[overlaps])
    return large[chosen], normals.T[chosen]


def _projected(corners, counts, normals):
    """Coordinates of corners in the planes of their polygons, in which the polygons wind counter-clockwise."""
    polygon = np.repeat(np.arange(len(counts)), counts)
    corners = corners.astype(np.float64)
    corners -= corners[_starts(counts)][polygon]
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    across = np.cross(np.eye(3)[np.argmin(np.abs(normals), axis=1)], normals)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    axes = np.stack([across, np.cross(normals, across)], axis=1)
    x, y = np.einsum("cj,cij->ic", corners, axes[polygon])
    # The longer side lies along x, by which corners are found.
    is_high = (_extents(x, counts) < _extents(y, counts))[polygon]
    return np.where(is_high, y, x), np.where(is_high, -x, y)


def _extents(values, counts):
    starts = _starts(counts)
    return np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)


class _Rings:
    """Polygons in the plane, as rings of the corners that are left while ears are clipped."""

    def __init__(self, x, y, counts):
        self.x, self.y, self.left = x, y, counts.copy()
        self.polygon = np.repeat(np.arange(len(counts)), counts)
        self.corners = np.arange(len(x))
        ends = np.cumsum(counts)
        self.before, self.after = self.corners - 1, self.corners + 1
        self.before[ends - counts], self.after[ends - 1] = ends - 1, ends - counts
        self.is_left = np.ones(len(x), bool)
        self.is_convex, self.is_ear = np.zeros(len(x), bool), np.zeros(len(x), bool)
        self.rounding = (ROUNDING * _extents(x, counts))[self.polygon]
        # How little is asked of a polygon's ears: 0: they touch no corner; 1: no corner is inside; 2: they are convex;
        # 3: nothing. The last two are for polygons that intersect themselves.
        self.level, self.restarts = np.zeros(len(counts), np.int64), np.zeros(len(counts), np.int64)
        # Neighbours have different priorities, so that about a third of a row of ears is clipped at once.
        self.priority = self.corners * 2654435761 % 2**32
        self.ears = [np.zeros((0, 3), np.int64)]
        self.is_clipped = False
        self._sort()
        # Places of the corners that may block an ear; found again when half of them are gone.
        self.places, self.removed = self.corners[:0], 0

    def _sort(self):
        """Sorts corners by polygon and x, to find those that may lie in a triangle."""
        self.order = np.lexsort((self.x, self.polygon))
        x, polygon = self.x[self.order], self.polygon[self.order]
        is_first = _is_first(x) | _is_first(polygon)
        bounds = np.append(np.flatnonzero(is_first), len(x))
        group = np.empty(len(x), np.int64)
        group[self.order] = np.cumsum(is_first) - 1
        # Per corner, the first place of the same x, and the place after the last.
        self.low, self.high = bounds[group], bounds[group + 1]

    def clip(self) -> None:
        """Clips ears, in each round as many as are not next to each other, until triangles are left."""
        changed, ears = self.corners, self.corners[:0]
        budget = MAX_COMPARISONS + MAX_COMPARISONS_PER_CORNER * len(self.x)
        while np.any(self.left > 2):
            was_ear = self.is_ear[changed]
            budget -= self._find_ears(changed, budget)
            if budget < 0:
                return
            ears = np.concatenate([ears[self.is_ear[ears]], changed[self.is_ear[changed] & ~was_ear]])
            chosen = self._chosen(ears)
            self.ears.append(np.stack([self.before[chosen], chosen, self.after[chosen]], axis=-1))
            changed = self._remove(chosen)
        self.is_clipped = True

    def triangles(self) -> np.ndarray:
        """The ears and the fans of what is left, `(triangles, 3)`, in the order of the polygons."""
        is_open = self.left > 2
        fans, _ = _fans(self.left[is_open])
        triangles = np.concatenate([*self.ears, np.flatnonzero(self.is_left & is_open[self.polygon])[fans]])
        # Corners of a ring stay in order, so sorted ones wind alike.
        return np.sort(triangles[np.argsort(self.polygon[triangles[:, 0]], kind="stable")], axis=1)

    def _find_ears(self, changed, budget) -> int:
        """Updates which of some corners are ears; returns the number of comparisons, none made beyond the budget."""
        level = self.level[self.polygon[changed]]
        before, after = self.before[changed], self.after[changed]
        self.is_convex[changed] = is_convex = self._distance(before, changed, after) > self.rounding[changed]
        self.is_ear[changed] = (is_convex | (level > 2)) & (self.left[self.polygon[changed]] > 2)
        tested = self.is_ear[changed] & (level < 2)
        ears = np.stack([before, changed, after])[:, tested]
        if 2 * self.removed >= len(self.places):
            self.places = np.flatnonzero((self.is_left & ~self.is_convex)[self.order])
            self.removed = 0
        low = np.searchsorted(self.places, self.low[ears].min(axis=0))
        counts = np.searchsorted(self.places, self.high[ears].max(axis=0)) - low
        comparisons = int(counts.sum()) + 4 * len(changed) + ROUND + len(self.left)
        if comparisons > budget:
            return comparisons
        bottom, top = self.y[ears].min(axis=0), self.y[ears].max(axis=0)
        for part in _chunks(counts):
            which = np.repeat(np.arange(part.start, part.stop), counts[part])
            place = np.arange(len(which)) + np.repeat(low[part] - _starts(counts[part]), counts[part])
            blockers = self.order[self.places[place]]
            is_near = (self.y[blockers] >= bottom[which]) & (self.y[blockers] <= top[which])
            is_near &= self.is_left[blockers] & ~self.is_convex[blockers]
            which, blockers = which[is_near], blockers[is_near]
            self.is_ear[ears[1, which[self._blocks(ears[:, which], blockers)]]] = False
        return comparisons

    def _blocks(self, ears, corners):
        """Whether corners lie in triangles, each in its own."""
        x, y, rounding = self.x[corners], self.y[corners], self.rounding[corners]
        inside = np.minimum.reduce([self._distance(ears[k - 1], ears[k], corners) for k in range(3)])
        touches = inside >= -rounding
        for ear in ears:
            touches &= (np.abs(x - self.x[ear]) > rounding) | (np.abs(y - self.y[ear]) > rounding)
        return np.where(self.level[self.polygon[corners]] == 0, touches, inside > rounding)

    def _distance(self, start, end, corners):
        """Distance of corners from the line through `start` and `end`, positive to the left of it."""
        x, y = self.x[start], self.y[start]
        across, up = self.x[end] - x, self.y[end] - y
        side = across * (self.y[corners] - y) - up * (self.x[corners] - x)
        return side / np.maximum(np.hypot(across, up), np.finfo(np.float64).tiny)

    def _chosen(self, ears):
        """Ears of which no two are neighbours; the narrowest one of a polygon that intersects itself."""
        wins = [
            ~self.is_ear[neighbors] | (self.priority[ears] < self.priority[neighbors])
            for neighbors in (self.before[ears], self.after[ears])
        ]
        is_proper = self.level[self.polygon[ears]] < 2
        chosen = ears[~is_proper | (wins[0] & wins[1])]
        width = np.abs(self._distance(self.before[chosen], self.after[chosen], chosen))
        chosen = chosen[np.lexsort((width, self.polygon[chosen]))]
        polygon = self.polygon[chosen]
        return chosen[(self.level[polygon] < 2) | _is_first(polygon)]

    def _remove(self, chosen):
        """Removes corners from their rings; returns the corners that may have become ears."""
        before, after = self.before[chosen], self.after[chosen]
        self.after[before], self.before[after] = after, before
        self.is_left[chosen] = self.is_ear[chosen] = False
        self.left -= np.bincount(self.polygon[chosen], minlength=len(self.left))
        self.removed += len(chosen)
        # A polygon without ears is asked for less, until one is clipped; this ends after some times.
        is_stuck = self.left > 2
        is_stuck[self.polygon[chosen]] = False
        restarts = ~is_stuck & (self.level > 0) & (self.restarts < RESTARTS)
        self.restarts += restarts
        self.level = np.where(restarts, 0, self.level + is_stuck)
        changes = [before, after]
        if np.any(is_stuck | restarts):
            changes.append(np.flatnonzero(self.is_left & (is_stuck | restarts)[self.polygon]))
        changed = np.sort(np.concatenate(changes))
        return changed[_is_first(changed)]


def _is_first(values):
    """Whether an entry of a sorted array differs from the one before."""
    return np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]


def _starts(counts):
    return np.cumsum(counts) - counts


def _chunks(counts):
    """Slices of about CHUNK comparisons."""
    cuts = np.searchsorted(np.cumsum(counts), np.arange(CHUNK, counts.sum(), CHUNK)) + 1
    return [slice(start, end) for start, end in itertools.pairwise([0, *cuts.tolist(), len(counts)])]
