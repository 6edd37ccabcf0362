"""What models said about records: the one thing that everything else here is computed from."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
import numpy.typing as npt

from imgcls.core.errors import DataError, RunError
from imgcls.core.folders import whole
from imgcls.data.labels import SEPARATOR
from imgcls.evaluation.arrays import Bools, Floats, Ints, Logits, Texts
from imgcls.evaluation.checks import check_alike, check_labels, check_probs, check_shapes
from imgcls.evaluation.weighted import marked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEAN", "Predictions", "joined_names", "probabilities", "softmax"]

#: Written in `fold` for the mean over the models of all folds.
MEAN = -1

#: The arrays that every set of predictions has, one row per record.
_COLUMNS = ("ids", "labels", "logits", "probs", "fold", "repeat")

#: What the names of the set's other columns begin with in a file.
_OTHER = "column:"


def softmax(logits: npt.ArrayLike) -> Floats:
    """Turn the logits of K classes into probabilities, without overflow.

    Args:
        logits: (N, K).

    Returns:
        (N, K), rows sum to one.

    Examples:
        >>> softmax([[1000.0, 1000.0]])
        array([[0.5, 0.5]])
    """
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def probabilities(logits: npt.ArrayLike, *, multilabel: bool = False) -> Floats:
    """Turn the output of a head into probabilities.

    Args:
        logits: (N, K), or (N, 1) of a binary head with one logit. The one logit speaks for
            the class of index 1, whichever class is the positive one.
        multilabel: Whether a record may have several labels, so that each logit speaks for itself.

    Returns:
        (N, K); `[1 - p, p]` with p = sigmoid(logit) where there is one logit; of several labels the sigmoid of each.

    Examples:
        >>> probabilities([[0.0]])
        array([[0.5, 0.5]])
    """
    values = np.asarray(logits, dtype=np.float64)
    if multilabel:
        return softmax(np.stack([np.zeros_like(values), values], axis=1))[:, 1]
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    return softmax(values)


def joined_names(labels: Ints, classes: Sequence[str]) -> Texts:
    """Write the labels of each record as one text, as `Dataset.frame` does.

    Args:
        labels: 1 for each class that a record has, (N, K).
        classes: The K classes.

    Returns:
        (N,) names with `|` between, in the order of the classes; empty for none.

    Examples:
        >>> joined_names(np.array([[1, 0, 1], [0, 0, 0]]), ["a", "b", "c"]).tolist()
        ['a|c', '']
    """
    names = np.asarray(classes)
    return np.asarray([SEPARATOR.join(names[row == 1].tolist()) for row in labels], dtype=np.str_)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(str, values))


def _texts(values: npt.ArrayLike) -> Texts:
    return np.asarray(values, dtype=np.str_)


def _ints(values: npt.ArrayLike) -> Ints:
    return np.asarray(values, dtype=np.int64)


# An array of objects could not be read again without running what the file says.
def _plain(columns: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    arrays = {str(name): np.asarray(values) for name, values in columns.items()}
    return {name: values if values.dtype.kind in "biufU" else values.astype(np.str_) for name, values in arrays.items()}


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _logits(values: npt.ArrayLike) -> Logits:
    return np.asarray(values, dtype=np.float32)


@attrs.frozen(kw_only=True, eq=False)
class Predictions:
    """What one model, or several, said about N records.

    Attributes:
        ids: (N,) the records, by path or name.
        labels: (N,) the true class, as an index into `classes`; where records may have several labels, or none,
            1 for each class that a record has, (N, K).
        logits: (N, K), or (N, 1) of a binary head with one logit.
        probs: (N, K), rows sum to one; of several labels the probability of each.
        groups: (N,) the group of each record, or None.
        fold: (N,) the fold whose model made the prediction, -1 for the mean over folds.
        repeat: (N,) the repeat that the fold belongs to, as in `Folds.repeats`; -1 for the mean over folds.
            Of several repeats each has predictions of its own for the same record. Default 0, -1 where the fold is.
        split: What part of the data it is: "train", "val" or "test".
        classes: The names of the K classes.
        positive: The class of sensitivity, average precision and thresholds; given if and
            only if there are two classes, of which each record has one.
        columns: What else the set knows of the records, (N,) each by name, such as age or site.

    Raises:
        DataError: if the parts do not fit together.
    """

    ids: Texts = attrs.field(converter=_texts)
    labels: Ints = attrs.field(converter=_ints)
    logits: Logits = attrs.field(converter=_logits)
    probs: Floats = attrs.field(converter=_floats)
    groups: Texts | None = attrs.field(default=None, converter=attrs.converters.optional(_texts))
    fold: Ints = attrs.field(converter=_ints)
    repeat: Ints = attrs.field(
        default=attrs.Factory(lambda self: np.minimum(self.fold, 0), takes_self=True), converter=_ints
    )
    split: str
    classes: tuple[str, ...] = attrs.field(converter=_names)
    positive: str | None = None
    columns: Mapping[str, npt.NDArray[Any]] = attrs.field(factory=dict, converter=_plain)

    def __attrs_post_init__(self) -> None:
        check_shapes(self)
        check_labels(self)
        check_probs(self)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    @property
    def multilabel(self) -> bool:
        """Whether a record may have several labels, or none."""
        return self.labels.ndim == 2

    @property
    def positive_index(self) -> int | None:
        """The index of the positive class, None with more than two classes."""
        return None if self.positive is None else self.classes.index(self.positive)

    @property
    def scores(self) -> Floats:
        """(N,) the probability of the positive class.

        Raises:
            DataError: if there are more than two classes.
        """
        if self.positive_index is None:
            raise DataError(f"'scores' must be asked of two classes, got {self.num_classes}; use 'probs'")
        return self.probs[:, self.positive_index]

    def has(self, index: int) -> Bools:
        """Find the records of a class.

        Args:
            index: Which class.

        Returns:
            (N,) whether they are of it.
        """
        return marked(self.labels, index)

    def names(self, labels: Ints) -> Texts:
        """Name classes.

        Args:
            labels: Class indices (M,), or of several labels 1 for each class, (M, K).

        Returns:
            (M,) names; of several labels with `|` between, in the order of the classes, and empty for none.
        """
        if not self.multilabel:
            return np.asarray(self.classes)[labels]
        return joined_names(labels, self.classes)

    def take(self, which: Bools | Ints | Sequence[int]) -> Self:
        """Pick records.

        Args:
            which: A mask (N,) or positions.

        Returns:
            Their predictions, in the order of `which`.
        """
        chosen = np.asarray(which) if len(which) else np.zeros(0, dtype=np.int64)
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        groups = None if self.groups is None else self.groups[chosen]
        others = {name: values[chosen] for name, values in self.columns.items()}
        return attrs.evolve(self, groups=groups, columns=others, **columns)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Put predictions one after the other, such as those of all folds.

        Args:
            parts: Predictions of one split with the same classes and heads.

        Returns:
            All records.

        Raises:
            DataError: if there are none or they do not fit together.
        """
        check_alike(parts)
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        groups = [part.groups for part in parts if part.groups is not None]
        shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        others = {name: np.concatenate([part.columns[name] for part in parts]) for name in shared}
        return attrs.evolve(parts[0], groups=np.concatenate(groups) if groups else None, columns=others, **columns)

    @classmethod
    def mean_of_folds(cls, parts: Sequence[Self]) -> Self:
        """Average what the models of several folds said about the same records.

        Probabilities are averaged. The logits are those that give the averaged
        probabilities back: their logarithm, or log(p1 / p0) for a head with one logit.

        Args:
            parts: One per fold, with the same ids in the same order.

        Returns:
            The mean, with -1 as fold.

        Raises:
            DataError: if the records differ.
        """
        check_alike(parts)
        first = parts[0]
        for part in parts:
            if not np.array_equal(part.ids, first.ids) or not np.array_equal(part.labels, first.labels):
                raise DataError("'parts' must have the same ids and labels in the same order; sort them alike")
        return first._with_mean(np.mean([part.probs for part in parts], axis=0))

    def mean_of_repeats(self) -> Self:
        """Average what the models of several folds said about the same record.

        Each record then counts once, however many folds predicted it. Probabilities and logits are those of
        `mean_of_folds`.

        Returns:
            Each record once, in the order of the ids, with -1 as fold.

        Raises:
            DataError: if a record has several labels.
        """
        ids, firsts, places, times = np.unique(self.ids, return_index=True, return_inverse=True, return_counts=True)
        torn = (self.labels != self.labels[firsts][places]).reshape(len(self), -1).any(axis=1)
        if torn.any():
            name = str(ids[places[torn][0]])
            raise DataError(f"'labels' must be the same wherever a record repeats, got several for {name!r}")
        sums = [np.bincount(places, weights=column) for column in self.probs.T]
        return self.take(firsts)._with_mean(np.stack(sums, axis=1) / times[:, None])

    def with_probs(self, probs: Floats) -> Self:
        """Replace the probabilities.

        Args:
            probs: (N, K).

        Returns:
            The same records, with the logits that give these probabilities back.
        """
        tiny = np.finfo(np.float64).tiny
        logits = np.log(np.maximum(probs, tiny))
        if self.multilabel:
            logits = logits - np.log(np.maximum(1 - probs, tiny))
        elif self.logits.shape[1] == 1:
            logits = logits[:, 1:] - logits[:, :1]
        return attrs.evolve(self, probs=probs, logits=logits)

    def _with_mean(self, probs: Floats) -> Self:
        over = np.full(len(self), MEAN)
        return attrs.evolve(self.with_probs(probs), fold=over, repeat=over)

    def save(self, path: Path | str) -> None:
        """Write an npz file, whole or not at all.

        Args:
            path: The file.
        """
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        others = fields.pop("columns")
        columns: dict[str, Any] = {key: np.asarray(value) for key, value in fields.items() if value is not None}
        columns |= {_OTHER + name: values for name, values in others.items()}
        with whole(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **columns)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Args:
            path: The file.

        Returns:
            The predictions.

        Raises:
            RunError: if the file is missing or damaged.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                columns = {key: file[key] for key in file.files}
            texts = {key: str(columns[key]) for key in ("split", "positive") if key in columns}
            others = {key.removeprefix(_OTHER): columns.pop(key) for key in list(columns) if key.startswith(_OTHER)}
            return cls(**{**columns, **texts, "classes": columns["classes"], "columns": others})
        except FileNotFoundError:
            raise RunError(f"'path' must name an existing file, got {str(path)!r}") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"'path' must name saved predictions, got {str(path)!r}; it is damaged: {error}") from None

    def frame(self) -> pd.DataFrame:
        """Show the predictions as a table.

        Returns:
            One row per record: id, label (its name; of several with `|` between), group ("" without groups), fold,
            repeat, split, of several labels `label_<class>` for each class (0 or 1), `prob_<class>` for each class,
            and what else the set knows, with an underscore behind a name that is one of these.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            "id": self.ids,
            "label": self.names(self.labels),
            "group": "" if self.groups is None else self.groups,
            "fold": self.fold,
            "repeat": self.repeat,
            "split": self.split,
        }
        probs = {f"prob_{name}": self.probs[:, index] for index, name in enumerate(self.classes)}
        marks = {f"label_{name}": self.labels[:, index] for index, name in enumerate(self.classes) if self.multilabel}
        named = columns | marks | probs
        others = {f"{name}_" if name in named else name: values for name, values in self.columns.items()}
        return pd.DataFrame(named | others)
