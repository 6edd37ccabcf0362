"""What stands on two sides of a split, contradicts itself, or belongs together unsaid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import listing
from imgcls.data.check.duplicates import Pairs
from imgcls.data.check.problems import Problem
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["clusters_of", "group_problems", "missing_groups", "pair_problems", "pair_table", "sides_of"]

_SIDES = ("train", "val", "test")

#: How grave it is that a pair of each kind stands on two sides; embeddings are a hint, not a proof.
_ACROSS = {"exact": "error", "near": "error", "embedding": "warning"}

#: How grave it is that a pair of each kind has two labels.
_CONFLICT = {"exact": "error", "near": "warning"}


def sides_of(dataset: Dataset, folds: Folds | None) -> dict[str, NDArray[np.str_]]:
    """Say on which side of each division every record stands.

    Args:
        dataset: The set, whose own splits are the division `split`.
        folds: Folds of it, the divisions `fold 0` and so on.

    Returns:
        The part (N,) of each record by division; empty where it is not used.
    """
    sides = {} if dataset.splits is None else {"split": dataset.splits}
    for number, fold in enumerate(folds or ()):
        part = np.full(len(dataset), "", dtype="<U5")
        for name in _SIDES:
            part[fold.part(name)] = name
        sides[f"fold {number}"] = part
    return sides


def pair_table(dataset: Dataset, pairs: Pairs, sides: Mapping[str, NDArray[np.str_]]) -> pd.DataFrame:
    """Say of each pair what it means.

    Args:
        dataset: The set.
        pairs: The pairs.
        sides: As `sides_of` gives them.

    Returns:
        A row per pair, see `CheckReport.pairs`.
    """
    import pandas as pd

    labels, groups = dataset.frame["label"].to_numpy(dtype=np.str_), dataset.groups
    first, second = pairs.first, pairs.second
    same = None if groups is None else groups[first] == groups[second]
    columns = {
        "a": dataset.ids[first],
        "b": dataset.ids[second],
        "kind": pairs.kind,
        "similarity": np.round(pairs.similarity, 4),
        "flipped": pairs.flipped,
        "same_label": labels[first] == labels[second],
        "same_group": np.full(len(pairs), None) if same is None else same.astype(object),
        "across": _across(pairs, sides),
    }
    return pd.DataFrame(columns)


def _across(pairs: Pairs, sides: Mapping[str, NDArray[np.str_]]) -> list[str]:
    found: list[list[str]] = [[] for _ in range(len(pairs))]
    for division, part in sides.items():
        a, b = part[pairs.first], part[pairs.second]
        for place in np.flatnonzero((a != b) & (a != "") & (b != "")):
            found[place].append(f"{division}: {a[place]}|{b[place]}")
    return ["; ".join(parts) for parts in found]


def pair_problems(dataset: Dataset, pairs: Pairs, table: pd.DataFrame) -> Iterator[Problem]:
    """Judge pairs by where they stand and what they are labelled.

    Args:
        dataset: The set.
        pairs: The pairs.
        table: As `pair_table` gives it, in the same order.

    Yields:
        The findings.
    """
    for row in table[table["across"] != ""].itertuples():
        kind, detail = str(row.kind), str(row.across) + ("" if row.same_label else "; labels differ too")
        name = f"{kind} across" if kind == "embedding" else f"{kind} duplicate across"
        yield Problem(severity=_ACROSS[kind], kind=name, id=str(row.a), other=str(row.b), detail=detail)
    labels = dataset.frame["label"].tolist()
    for place in np.flatnonzero(~table["same_label"].to_numpy(dtype=bool) & (pairs.kind != "embedding")):
        first, second, kind = int(pairs.first[place]), int(pairs.second[place]), str(pairs.kind[place])
        ids = {"id": str(dataset.ids[first]), "other": str(dataset.ids[second])}
        detail = f"{kind} duplicates: {labels[first]!r} and {labels[second]!r}"
        yield Problem(severity=_CONFLICT[kind], kind="label conflict", detail=detail, **ids)


def group_problems(dataset: Dataset, sides: Mapping[str, NDArray[np.str_]]) -> Iterator[Problem]:
    """Judge groups by where they stand and what they are labelled.

    Args:
        dataset: The set.
        sides: As `sides_of` gives them.

    Yields:
        The findings; none of a set without groups.
    """
    if dataset.groups is None:
        return
    for division, part in sides.items():
        for group, parts in _several(dataset.groups[part != ""], part[part != ""]):
            detail = f"{division}: {'|'.join(name for name in _SIDES if name in parts)}"
            yield Problem(severity="error", kind="group across", id=group, detail=detail)
    for group, labels in _several(dataset.groups, dataset.frame["label"].to_numpy(dtype=np.str_)):
        detail = f"records with the labels {listing(labels)}"
        yield Problem(severity="note", kind="mixed group", id=group, detail=detail)


def _several(groups: NDArray[np.str_], values: NDArray[np.str_]) -> Iterator[tuple[str, list[str]]]:
    import pandas as pd

    pairs = pd.DataFrame({"group": groups, "value": values}).drop_duplicates()
    for group, rows in pairs[pairs["group"].duplicated(keep=False)].groupby("group"):
        yield str(group), sorted(rows["value"])


def missing_groups(dataset: Dataset, pairs: Pairs) -> list[tuple[str, ...]]:
    """Join groups that share images: they may be one.

    Args:
        dataset: The set.
        pairs: Exact and near duplicates.

    Returns:
        The names of groups that belong together, most first; none for a set without groups.
    """
    if dataset.groups is None:
        return []
    names, index = np.unique(dataset.groups, return_inverse=True)
    clusters = clusters_of(index[pairs.first], index[pairs.second], len(names))
    return [tuple(names[cluster].tolist()) for cluster in clusters]


def clusters_of(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Find what hangs together.

    Args:
        first: Numbers (M,).
        second: What each is tied to, (M,).
        count: How many numbers there are.

    Returns:
        The numbers of each cluster of two or more, the largest cluster first.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, cluster = connected_components(ties, directed=False)
    order = np.argsort(cluster, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=len, reverse=True)
