"""Looks through a set for what would make its numbers wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import DataError, SplitError, listing
from imgcls.core.options import rejected
from imgcls.data.check.classes import class_table
from imgcls.data.check.duplicates import (
    Near,
    Pairs,
    checked_embeddings,
    copies,
    exact_pairs,
    look_alikes,
    near_pairs,
)
from imgcls.data.check.embedding import flat_map
from imgcls.data.check.files import file_problems
from imgcls.data.check.leaks import clusters_of, group_problems, missing_groups, pair_problems, pair_table, sides_of
from imgcls.data.check.problems import Problem, table
from imgcls.data.check.report import CheckReport
from imgcls.data.check.scan import Scan, scan
from imgcls.data.check.views import view_problems
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check"]


@attrs.frozen(kw_only=True, eq=False)
class _Evidence:
    dataset: Dataset
    sides: dict[str, NDArray[np.str_]]
    seen: Scan
    views: list[Problem]
    groups: list[NDArray[np.int64]]
    near: Near | None
    pairs: Pairs

    @functools.cached_property
    def proven(self) -> Pairs:
        """Pairs that the pixels show."""
        return self.pairs.take(self.pairs.kind != "embedding")


def check(
    dataset: Dataset,
    *,
    folds: Folds | None = None,
    near: bool = True,
    embeddings: ArrayLike | None = None,
    embedding_map: Literal["pca", "tsne"] | None = None,
    seed: int = 0,
) -> CheckReport:
    """Look at every image once and find what would make numbers wrong, before anything is trained.

    Nothing is written, and a bad file does not stop it.

    Args:
        dataset: The set.
        folds: Folds to look for leaks in, beside the set's own splits.
        near: Whether to look for near duplicates.
        embeddings: A vector per record, (N, D), from any network: pairs with alike vectors are
            listed too.
        embedding_map: How to draw the embeddings in two dimensions, `pca` or `tsne`.
        seed: The seed of all chance.

    Returns:
        What was found.

    Raises:
        ConfigError: if an option is wrong or has no effect.
        DataError: if the set is empty.
        SplitError: if the folds are those of another set.
    """
    _refuse(dataset, folds)
    vectors = _vectors(dataset, embeddings, embedding_map)
    evidence = _gathered(dataset, folds, vectors, near=near, seed=seed)
    found = evidence.near
    listed = pair_table(dataset, evidence.pairs, evidence.sides)
    unsaid = missing_groups(dataset, evidence.proven)
    return CheckReport(
        problems=table(_judged(evidence, listed, unsaid)),
        pairs=listed,
        files=evidence.seen.files,
        classes=class_table(dataset, evidence.seen.files),
        copies=tuple(tuple(dataset.ids[group].tolist()) for group in evidence.groups),
        missing_groups=tuple(unsaid),
        threshold=None if found is None else found.threshold,
        num_compared=0 if found is None else int(found.compared.sum()),
        map=None if embedding_map is None or vectors is None else flat_map(vectors, embedding_map, seed=seed),
        dataset=dataset,
    )


def _refuse(dataset: Dataset, folds: Folds | None) -> None:
    if not len(dataset):
        raise DataError("'data' must hold at least one record, got none")
    if folds is not None and folds.fingerprint != dataset.fingerprint:
        raise SplitError("'folds' must be made for this set, got those of another one; split it anew")


def _vectors(dataset: Dataset, embeddings: ArrayLike | None, embedding_map: str | None) -> NDArray[np.float32] | None:
    if embedding_map not in {None, "pca", "tsne"}:
        raise rejected("embedding_map", "be 'pca', 'tsne' or None", embedding_map)
    if embeddings is None:
        if embedding_map is not None:
            raise rejected("embedding_map", "be None without 'embeddings'", embedding_map, "give 'embeddings' too")
        return None
    return checked_embeddings(embeddings, len(dataset))


def _gathered(
    dataset: Dataset, folds: Folds | None, vectors: NDArray[np.float32] | None, *, near: bool, seed: int
) -> _Evidence:
    seen = scan(dataset)
    groups = copies(seen.digests)
    found = near_pairs(seen, groups, seed=seed) if near else None
    pairs = exact_pairs(groups)
    if found is not None:
        pairs = pairs.join(found.pairs)
    if vectors is not None:
        pairs = pairs.join(look_alikes(vectors, found, pairs))
    return _Evidence(
        dataset=dataset,
        sides=sides_of(dataset, folds),
        seen=seen,
        views=view_problems(dataset, seen),
        groups=groups,
        near=found,
        pairs=pairs,
    )


def _judged(evidence: _Evidence, listed: pd.DataFrame, unsaid: list[tuple[str, ...]]) -> Iterator[Problem]:
    yield from file_problems(evidence.seen.files)
    yield from evidence.views
    yield from pair_problems(evidence.dataset, evidence.pairs, listed)
    yield from group_problems(evidence.dataset, evidence.sides)
    yield from _unsaid(evidence, unsaid)
    yield from _copied(evidence)
    yield from _left_out(evidence)


def _unsaid(evidence: _Evidence, unsaid: list[tuple[str, ...]]) -> Iterator[Problem]:
    for names in unsaid:
        detail = f"{len(names)} groups share images and may be one{_also(names)}"
        yield Problem(severity="warning", kind="missing group", id=names[0], other=names[1], detail=detail)
    if evidence.dataset.groups is None and len(evidence.proven):
        clusters = clusters_of(evidence.proven.first, evidence.proven.second, len(evidence.dataset))
        images = sum(map(len, clusters))
        detail = f"{images} images form {len(clusters)} clusters of duplicates; give the set a 'group'"
        yield Problem(severity="warning", kind="no groups", detail=detail)


# A finding names its first two anyway.
def _also(names: Sequence[str]) -> str:
    return f", also {listing(names[2:], limit=5)}" if len(names) > 2 else ""


def _copied(evidence: _Evidence) -> Iterator[Problem]:
    for group in evidence.groups:
        names = evidence.dataset.ids[group].tolist()
        detail = f"{len(names)} records with the same pixels{_also(names)}"
        yield Problem(severity="note", kind="duplicate", id=names[0], other=names[1], detail=detail)


def _left_out(evidence: _Evidence) -> Iterator[Problem]:
    if evidence.near is None:
        return
    if not evidence.near.complete:
        detail = "there are more than a million near duplicates; those listed are not all"
        yield Problem(severity="warning", kind="incomplete", detail=detail)
    left = int((~evidence.near.compared).sum())
    if left:
        detail = f"{left} images are unreadable, plain or below 24 pixels and were compared for equality only"
        yield Problem(severity="note", kind="not compared", detail=detail)
