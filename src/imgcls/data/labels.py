"""Labels as text and as numbers: one a record, or several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, listing
from imgcls.data.naming import text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SEPARATOR",
    "codes",
    "distinct",
    "indicators",
    "joined",
    "one_hot_text",
    "refuse_measurements",
    "renamed",
    "split_text",
    "stratified_sample",
    "whole_numbers",
    "words",
]

#: What stands between the labels of one record in a frame.
SEPARATOR = "|"

#: What stands for bytes that are not UTF-8.
_NO_TEXT = re.compile("[\ud800-\udfff]")

_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def words(values: pd.Series[Any]) -> NDArray[np.object_]:
    """Write a column as text, each distinct value once.

    Args:
        values: The column, (N,).

    Returns:
        Text without space around it, (N,); empty where there was nothing.

    Raises:
        DataError: if it holds lists or the like, or text that cannot be written.
    """
    import pandas as pd

    try:
        found, distinct = pd.factorize(values)
    except TypeError:
        raise DataError(
            f"{values.name or 'label'!r} must hold text or numbers, got others; write several labels as one text with "
            "a separator, or as columns of 0 and 1"
        ) from None
    texts = [*map(text, distinct), ""]
    odd = [word for word in texts if (not word.isascii() and _NO_TEXT.search(word)) or "\0" in word]
    if odd:
        raise DataError(f"{values.name or 'label'!r} must hold text without NUL that is UTF-8, got {odd[0]!r}")
    return np.array(texts, dtype=object)[found]


def whole_numbers(words: NDArray[np.object_]) -> NDArray[np.object_]:
    """Write `1.0` as `1` where all are whole numbers, as a spreadsheet with gaps writes them.

    Args:
        words: Labels or groups as text, (N,).

    Returns:
        The same words, or the numbers without fraction, (N,).
    """
    known = set(words.tolist()) - {""}
    if not any(word.endswith("0") and "." in word for word in known):
        return words
    if not all(_WHOLE.fullmatch(word) for word in known):
        return words
    return np.array([word.partition(".")[0] for word in words], dtype=object)


def refuse_measurements(labels: NDArray[np.object_], option: str) -> None:
    """Refuse labels that are numbers with fractions, such as scores.

    Args:
        labels: Labels as text, (N,).
        option: The name of the option, for the message.

    Raises:
        DataError: if all are numbers and one is not whole.
    """
    distinct = sorted(set(labels.tolist()))
    if all(_NUMBER.fullmatch(word) for word in distinct):
        odd = [word for word in distinct if not float(word).is_integer()]
        if odd:
            raise DataError(
                f"{option!r} must hold words or whole numbers, got {listing(odd, limit=3)}; if it is a measurement, "
                "make classes of it first"
            )


def split_text(labels: NDArray[np.object_], separator: str) -> NDArray[np.object_]:
    """Write several labels a record in the form of a frame.

    Args:
        labels: Text with labels and separators, (N,).
        separator: What stands between them.

    Returns:
        Each record's distinct labels with `|` between, (N,).

    Raises:
        DataError: if a label has `|` in it.
    """
    known: dict[str, str] = {}
    for entry in set(labels.tolist()):
        parts = [text(part) for part in entry.split(separator)]
        known[entry] = joined([part for part in parts if part])
    return np.array([known[entry] for entry in labels], dtype=object)


def joined(parts: Sequence[str]) -> str:
    """Write the labels of one record as one text.

    Args:
        parts: The labels.

    Returns:
        The text.

    Raises:
        DataError: if a label has `|` in it.

    Examples:
        >>> joined(["a", "b", "a"])
        'a|b'
    """
    odd = [part for part in parts if SEPARATOR in part]
    if odd:
        raise DataError(f"labels of several a record must not have {SEPARATOR!r} in them, got {odd[0]!r}; rename it")
    return SEPARATOR.join(dict.fromkeys(parts))


def one_hot_text(columns: pd.DataFrame, places: Any) -> NDArray[np.object_]:
    """Turn columns of 0 and 1 into the labels of a frame.

    Args:
        columns: A column a class, (N, K).
        places: Says where records stand, for messages.

    Returns:
        Each record's labels with `|` between, (N,).

    Raises:
        DataError: if there are other values.
    """
    names = [text(name) for name in columns.columns]
    matrix = np.stack([words(columns[name]) for name in columns.columns], axis=1)
    yes = np.isin(matrix, ["1", "1.0", "True", "true"])
    odd = np.flatnonzero(~(yes | np.isin(matrix, ["0", "0.0", "False", "false"])).all(axis=1))
    if len(odd):
        values = listing(matrix[odd[0]], limit=5)
        raise DataError(f"'label' columns must hold 0 or 1 only, got {values} in {places(odd)}")
    return np.array([joined([names[index] for index in np.flatnonzero(row)]) for row in yes], dtype=object)


def codes(labels: pd.Series[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Number the labels.

    Args:
        labels: One label a record, (N,).
        classes: The classes in order.

    Returns:
        Class indexes (N,).
    """
    import pandas as pd

    return np.asarray(pd.Index(classes).get_indexer(pd.Index(labels)), dtype=np.int64)


def indicators(labels: pd.Series[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Mark the labels of records that may have several.

    Args:
        labels: Labels with `|` between, (N,).
        classes: The K classes in order.

    Returns:
        1 where a record has the label, else 0, (N, K).
    """
    import pandas as pd

    found, distinct = pd.factorize(labels)
    order = {name: index for index, name in enumerate(classes)}
    rows = np.zeros((len(distinct), len(classes)), dtype=np.int64)
    for row, entry in zip(rows, distinct, strict=True):
        row[[order[name] for name in str(entry).split(SEPARATOR) if name]] = 1
    return rows[found]


def renamed(column: pd.Series[str], names: Mapping[str, str], *, multilabel: bool) -> list[str]:
    """Rename or merge labels.

    Args:
        column: Labels, (N,); of several with `|` between.
        names: The new name of every class.
        multilabel: Whether a record may have several.

    Returns:
        The new labels, (N,).
    """
    if not multilabel:
        return [names[label] for label in column]
    new = {entry: joined([names[part] for part in entry.split(SEPARATOR) if part]) for entry in column.unique()}
    return [new[entry] for entry in column]


def distinct(column: pd.Series[str], *, multilabel: bool) -> list[str]:
    """List the labels that occur.

    Args:
        column: Labels, (N,); of several with `|` between.
        multilabel: Whether a record may have several.

    Returns:
        Each label once.
    """
    found: list[str] = column.unique().tolist()
    if not multilabel:
        return found
    return sorted({name for entry in found for name in entry.split(SEPARATOR) if name})


def stratified_sample(column: pd.Series[str], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose records so that each label keeps its share.

    By largest remainders: each label gets the whole part of its share, then the largest
    fractions one more; what keeps a rare label in the sample is taken from those that got most
    above their shares.

    Args:
        column: Labels, (N,).
        n: How many records.
        rng: The chance.

    Returns:
        Positions (n,).
    """
    import pandas as pd

    found, names = pd.factorize(column, sort=True)
    counts = np.bincount(found)
    shares = n * counts / counts.sum()
    takes = np.maximum(np.floor(shares), 1 if n >= len(names) else 0).astype(np.int64)
    while takes.sum() > n:
        takes[np.argmax(np.where(takes > 1, takes - shares, -np.inf))] -= 1
    for index in np.argsort(-(shares - takes), kind="stable")[: n - takes.sum()]:
        takes[index] += 1
    parts = [rng.choice(np.flatnonzero(found == k), size=take, replace=False) for k, take in enumerate(takes)]
    return np.concatenate(parts)
