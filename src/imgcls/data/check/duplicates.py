"""Images that are in a set more than once: the same pixels, nearly the same, or alike to a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.data.check.hamming import close_pairs
from imgcls.data.check.scan import Scan
from imgcls.data.check.signatures import BAND, Signatures, similarity, sketch

__all__ = [
    "LEAST",
    "RADIUS",
    "Near",
    "Pairs",
    "checked_embeddings",
    "copies",
    "exact_pairs",
    "look_alikes",
    "near_pairs",
]

#: Bits of 64 in which the hashes of two candidates may differ.
RADIUS = 12

#: The correlation from which two images are nearly the same; a set whose images are all alike needs more.
LEAST, MOST = 0.75, 0.95

#: Robust deviations by which near duplicates must stand out from random pairs of the set.
_STANDS_OUT = 5.0

#: Random pairs that say how alike the images of a set are, and the fewest images that can say so.
_RANDOM, _FEWEST = 20_000, 100

#: Pairs that are kept at most; a set with more is a film.
_LIMIT = 1_000_000

#: Copies of one image whose pairs are all listed; of the others only the pair with the first.
_COPIES = 50

#: The cosine from which two embeddings are alike, and the neighbours of each that are looked at.
_ALIKE, _NEIGHBOURS = 0.95, 5


@attrs.frozen(kw_only=True, eq=False)
class Pairs:
    """Pairs of records.

    Attributes:
        first: Positions (M,).
        second: Positions (M,), each above that of `first`.
        kind: `exact`, `near` or `embedding` (M,).
        similarity: Correlation of the pictures, or cosine of the embeddings, (M,).
        flipped: Whether one is the mirror image of the other, (M,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    kind: NDArray[np.str_]
    similarity: NDArray[np.float64]
    flipped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, pairs: ArrayLike, kind: str, similarity: ArrayLike = 1.0, flipped: ArrayLike = False) -> Pairs:
        """Make pairs of one kind.

        Args:
            pairs: Positions (M, 2).
            kind: Their kind.
            similarity: Of each or of all.
            flipped: Of each or of all.

        Returns:
            The pairs, each in rising order.
        """
        both = np.sort(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=1)
        return cls(
            first=both[:, 0],
            second=both[:, 1],
            kind=np.full(len(both), kind),
            similarity=np.broadcast_to(np.asarray(similarity, np.float64), len(both)),
            flipped=np.broadcast_to(np.asarray(flipped, np.bool_), len(both)),
        )

    def take(self, chosen: NDArray[Any]) -> Pairs:
        """Keep some pairs.

        Args:
            chosen: Places or a mask.

        Returns:
            Those pairs.
        """
        return Pairs(**{name: values[chosen] for name, values in attrs.asdict(self, recurse=False).items()})

    def join(self, *others: Pairs) -> Pairs:
        """Put other pairs behind these.

        Args:
            *others: The others.

        Returns:
            All pairs.
        """
        parts = [attrs.asdict(part, recurse=False) for part in (self, *others)]
        return Pairs(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def copies(digests: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Find records with the same pixels.

    Args:
        digests: The checksum of each record's pixels (N,); empty ones are equal to none.

    Returns:
        The positions of each group of two or more, in rising order.
    """
    _, group, counts = np.unique(digests, return_inverse=True, return_counts=True)
    several = np.flatnonzero((counts[group] > 1) & (digests != ""))
    order = several[np.argsort(group[several], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def exact_pairs(groups: list[NDArray[np.int64]]) -> Pairs:
    """List the pairs of records with the same pixels.

    Args:
        groups: As `copies` finds them.

    Returns:
        All pairs of each group; of more than 50 copies the later ones with the first only.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for group in groups:
        pairs.append(group[np.stack(np.triu_indices(min(len(group), _COPIES), 1), axis=1)])
        pairs.append(np.stack([np.full(len(group[_COPIES:]), group[0]), group[_COPIES:]], axis=1))
    return Pairs.of(np.concatenate(pairs), "exact")


@attrs.frozen(kw_only=True, eq=False)
class Near:
    """Near duplicates and how they were found.

    Attributes:
        pairs: The pairs.
        threshold: The correlation that made them one.
        compared: Whether a record was compared, (N,): readable, no side below 24 pixels, not plain.
        complete: Whether all pairs are listed; False where there were more than a million.
        signatures: Those of all records.
    """

    pairs: Pairs
    threshold: float
    compared: NDArray[np.bool_]
    complete: bool
    signatures: Signatures


def near_pairs(seen: Scan, groups: list[NDArray[np.int64]], *, seed: int) -> Near:
    """Find images that differ in size, compression, light or left and right only.

    Candidates have perceptual hashes of the locally normalised thumbnails, or of one and the mirror
    image of the other, within 12 bits. They are near duplicates where the pictures correlate.

    Args:
        seen: What was seen of the set.
        groups: Exact duplicates: one of each group is compared for all.
        seed: Of the random pairs that say how alike the images of this set are.

    Returns:
        The pairs, exact ones left out.
    """
    signatures = sketch(seen.thumbs)
    shortest = seen.files[["width", "height"]].min(axis=1).fillna(0).to_numpy(np.int64)
    compared = (shortest >= 2 * BAND) & ~signatures.plain
    alone = compared.copy()
    for group in groups:
        alone[group[1:]] = False
    places = np.flatnonzero(alone)
    found = signatures.take(places)
    threshold = _threshold(found.spectra, generator(seed, "near"))
    confirmed, complete = _confirmed(found, threshold)
    pairs = _spread(_best(confirmed), places, groups)
    return Near(pairs=pairs, threshold=threshold, compared=compared, complete=complete, signatures=signatures)


# Fisher's transform makes correlations nearly normal; a few true pairs among the random ones do not move quantiles.
def _threshold(spectra: NDArray[np.complex64], rng: np.random.Generator) -> float:
    if len(spectra) < _FEWEST:
        return LEAST
    first, second = rng.integers(0, len(spectra), (2, _RANDOM))
    different = first != second
    random = similarity(spectra, first[different], second[different])
    middle, upper = np.quantile(np.arctanh(np.clip(random, -0.999, 0.999)), [0.5, 0.84])
    return float(np.clip(np.tanh(middle + _STANDS_OUT * (upper - middle)), LEAST, MOST))


def _confirmed(found: Signatures, threshold: float) -> tuple[Pairs, bool]:
    parts, count = [Pairs.of([], "near")], 0
    for i, j, flipped in _candidates(found):
        values = similarity(found.spectra, i, j, mirror=flipped)
        good = values >= threshold
        parts.append(Pairs.of(np.stack([i[good], j[good]], axis=1), "near", values[good], flipped))
        count += int(good.sum())
        if count > _LIMIT:
            return parts[0].join(*parts[1:]), False
    return parts[0].join(*parts[1:]), True


def _candidates(found: Signatures) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    for flipped, others in ((False, found.hashes), (True, found.mirrored)):
        for i, j in close_pairs(found.hashes, others, RADIUS):
            yield i, j, flipped


# A pair of symmetric pictures is found both ways; the better way stays.
def _best(pairs: Pairs) -> Pairs:
    order = np.lexsort([pairs.flipped, -pairs.similarity, pairs.second, pairs.first])
    pairs = pairs.take(order)
    new = np.ones(len(pairs), bool)
    new[1:] = (np.diff(pairs.first) != 0) | (np.diff(pairs.second) != 0)
    return pairs.take(new)


# What holds of one copy holds of the others.
def _spread(pairs: Pairs, places: NDArray[np.int64], groups: list[NDArray[np.int64]]) -> Pairs:
    members = {int(group[0]): group[:_COPIES] for group in groups}
    pairs = attrs.evolve(pairs, first=places[pairs.first], second=places[pairs.second])
    has = np.isin(pairs.first, list(members)) | np.isin(pairs.second, list(members))
    more = [pairs.take(~has)]
    for place in np.flatnonzero(has):
        a, b = int(pairs.first[place]), int(pairs.second[place])
        grid = np.meshgrid(members.get(a, np.array([a])), members.get(b, np.array([b])))
        both = np.stack([side.ravel() for side in grid], axis=1)
        more.append(Pairs.of(both, "near", pairs.similarity[place], pairs.flipped[place]))
    return more[0].join(*more[1:])


def look_alikes(embeddings: NDArray[np.float32], found: Near | None, known: Pairs) -> Pairs:
    """Find records whose embeddings are alike: the five nearest of each, from a cosine of 0.95 on.

    Args:
        embeddings: A vector per record, (N, D).
        found: How near duplicates were found; a pair whose pictures correlate too is `near`.
        known: Pairs that are known already; they are left out.

    Returns:
        The other pairs.
    """
    pairs, cosines = _neighbours(embeddings)
    count = len(embeddings)
    fresh = ~np.isin(pairs @ [count, 1], known.first * count + known.second)
    pairs, cosines = pairs[fresh], cosines[fresh]
    alike = Pairs.of(pairs, "embedding", cosines)
    if found is None or not len(pairs):
        return alike
    values = similarity(found.signatures.spectra, pairs[:, 0], pairs[:, 1])
    near = found.compared[pairs].all(axis=1) & (values >= found.threshold)
    return Pairs.of(pairs[near], "near", values[near]).join(alike.take(~near))


def _neighbours(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    from sklearn.neighbors import NearestNeighbors

    count = min(_NEIGHBOURS, len(embeddings) - 1)
    if count < 1:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(embeddings)
    distances, others = search.kneighbors()  # without a vector itself
    pairs = np.stack([np.repeat(np.arange(len(embeddings)), count), others.ravel()], axis=1)
    close = 1 - distances.ravel() >= _ALIKE
    unique, place = np.unique(np.sort(pairs[close], axis=1), axis=0, return_index=True)
    return unique, (1 - distances.ravel()[close][place]).astype(np.float32)


def checked_embeddings(embeddings: ArrayLike, records: int) -> NDArray[np.float32]:
    """Refuse embeddings that do not fit a set.

    Args:
        embeddings: A vector per record.
        records: How many records there are.

    Returns:
        The vectors (N, D).

    Raises:
        ConfigError: if their shape or a value is wrong.
    """
    values = np.asarray(embeddings, dtype=np.float32)
    if values.ndim != 2 or len(values) != records:
        raise rejected("embeddings", f"have the shape ({records}, D), one row a record", values.shape)
    if not np.isfinite(values).all():
        raise rejected("embeddings", "be finite", "NaN or infinite values")
    return values
