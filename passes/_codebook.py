"""The few values that stand for many with the least squared error."""

import itertools

import numpy as np

from mcugraph.passes._edit import Array

# More points than that are merged with their neighbours before the search.
_POINTS = 1024


def nearest(values: Array, count: int, importance: Array) -> Array:
    """Each value replaced by one of at most `count`: float64 of the same shape.

    The error that is least is sum(importance * (value - replacement) ** 2). Integers stay integers.
    Exact up to 1024 different values; beyond that, neighbours are taken together first.
    """
    points, places = np.unique(values.astype(np.float64), return_inverse=True)
    if points.size <= count:
        return values.astype(np.float64)
    weights = np.bincount(places.reshape(-1), importance.reshape(-1).astype(np.float64))
    table = _means(*_thinned(points, weights), count)
    if values.dtype.kind in "iu":
        table = np.unique(np.rint(table))
    borders = (table[1:] + table[:-1]) / 2
    return np.asarray(table[np.searchsorted(borders, values.astype(np.float64))])


def _thinned(points: Array, weights: Array) -> tuple[Array, Array]:
    """At most _POINTS points, each the mean of neighbours, with their weights."""
    if points.size <= _POINTS:
        return points, weights
    starts = np.arange(_POINTS) * points.size // _POINTS
    sums = np.add.reduceat(weights, starts)
    return np.add.reduceat(points * weights, starts) / sums, sums


def _means(points: Array, weights: Array, count: int) -> Array:
    """The means of the best cut of sorted points into `count` runs, by dynamic programming.

    A run of weight W and sum S explains S ** 2 / W of all squares: the more, the less is left.
    """
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    sums = np.concatenate([[0.0], np.cumsum(weights * points)])
    total = mass[None, :] - mass[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = (sums[None, :] - sums[:, None]) ** 2 / total
    explained[total <= 0] = -np.inf
    best, origins = explained[0], []
    for _ in range(count - 1):
        through = best[:, None] + explained
        origins.append(through.argmax(axis=0))
        best = through.max(axis=0)
    ends = [points.size]
    for origin in reversed(origins):
        ends.append(int(origin[ends[-1]]))
    cuts = [0, *reversed(ends)]
    runs = itertools.pairwise(cuts)
    return np.array([(sums[b] - sums[a]) / (mass[b] - mass[a]) for a, b in runs])
