"""The set of labelled images that everything else is about."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, final

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import ConfigError, DataError
from imgcls.core.randomness import generator
from imgcls.data import arguments, joining, labels, memory, naming
from imgcls.data.access import Access
from imgcls.data.columns import MASK
from imgcls.data.readers import MASK_THRESHOLD, Readers
from imgcls.data.records import Records, companion_columns

if TYPE_CHECKING:
    from imgcls.data.check.report import CheckReport
    from imgcls.data.folds import Folds

__all__ = ["Dataset", "Sample"]


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """One record of a set.

    Attributes:
        id: What names the record: its path below the root, or its number.
        image: Pixels (height, width, channels) as stored in the file, upright.
        label: Its class; of several, with `|` between.
        group: What it belongs to, such as a patient, or None.
        mask: Where the region of interest is, (height, width), or None.
    """

    id: str
    image: NDArray[Any]
    label: str
    group: str | None
    mask: NDArray[np.bool_] | None = None


@final
@attrs.frozen(kw_only=True, eq=False)
class Dataset(Readers, Access):
    """Labelled images with their groups, made by one of the `from_` methods.

    Attributes:
        frame: The records in order: columns `id`, `label`, where known `group`, `split`,
            `weight`, `mask` and `view:<name>`, and whatever else the source had.
        classes: The classes in the order of logits and probabilities.
        positive: The class of sensitivity, average precision and thresholds; None
            unless there are two classes.
        positive_given: Whether the user named it; else it is the rarer one.
        multilabel: Whether a record may have several labels, or none; then `label` in the
            frame has them with `|` between.
        root: The folder that the ids are paths below, or None for images in memory.
        arrays: Images in memory: an array (N, height, width[, channels]), or `Items`, which give
            them one by one; None for files.
        sizes: Bytes of the files when the set was opened: images, then masks, then views, (R, N);
            None for images in memory.
        rows: The row of each record (N,) in the CSV or TSV file, whose header is row 1; None
            for other sets.
        mask_threshold: The value above which a pixel of a mask lies inside.
        source: The reader and its options, from which `config.yaml` rebuilds the set.
    """

    classes: tuple[str, ...]
    positive: str | None = None
    positive_given: bool = False
    multilabel: bool = False
    source: Mapping[str, Any] | None = None

    @classmethod
    def _made(cls, records: Records, *, classes: Any, positive: Any, **fields: Any) -> Dataset:
        given, wanted = arguments.class_names(classes), arguments.class_name("positive", positive)
        fields["mask_threshold"] = arguments.threshold(fields.get("mask_threshold", MASK_THRESHOLD))
        if fields["mask_threshold"] != MASK_THRESHOLD and MASK not in records.frame:
            raise ConfigError(f"'mask_threshold' must be left out without 'mask', got {fields['mask_threshold']!r}")
        column = records.frame["label"]
        order = naming.class_order(labels.distinct(column, multilabel=records.multilabel), given)
        chosen = naming.positive_class(column, order, wanted, multilabel=records.multilabel)
        made = cls(
            frame=records.frame,
            classes=order,
            positive=chosen,
            positive_given=wanted is not None,
            multilabel=records.multilabel,
            arrays=records.arrays,
            sizes=records.sizes,
            rows=records.rows,
            **fields,
        )
        named = {"classes": given, "positive": wanted, "mask_threshold": made.mask_threshold}
        return made if made.source is None else made._sourced({**made.source, **named})

    def _sourced(self, source: Mapping[str, Any]) -> Dataset:
        known = {key: value for key, value in source.items() if value is not None and value != {}}
        if known.get("mask_threshold") == MASK_THRESHOLD:
            del known["mask_threshold"]
        return attrs.evolve(self, source=known)

    @classmethod
    def concat(cls, datasets: Sequence[Dataset], *, positive: str | int | None = None) -> Dataset:
        """Put several sets behind each other.

        Groups of one name are one group, whichever set they come from.

        Args:
            datasets: The sets, all of files or all in memory; classes are united in order.
            positive: The class of sensitivity and thresholds; default is the one that all sets
                were given, else the rarer of two.

        Returns:
            The set; its root is the deepest folder above all of theirs.

        Raises:
            DataError: if they do not fit together, or have an image in common.
        """
        parts = list(datasets)
        if not parts or not all(isinstance(part, Dataset) for part in parts):
            raise DataError("'datasets' must be a list of at least one Dataset")
        thresholds = {part.mask_threshold for part in parts if MASK in part.frame} or {MASK_THRESHOLD}
        if len(thresholds) > 1:
            raise DataError(f"'datasets' must all have one 'mask_threshold', got {sorted(thresholds)}")
        records, root = joining.together([part._records() for part in parts], [part.root for part in parts])
        given = {part.positive if part.positive_given else None for part in parts}
        wanted = given.pop() if positive is None and len(given) == 1 else positive
        classes = list(dict.fromkeys(name for part in parts for name in part.classes))
        return cls._made(records, classes=classes, positive=wanted, root=root, mask_threshold=thresholds.pop())

    def _records(self) -> Records:
        return Records(frame=self.frame, multilabel=self.multilabel, sizes=self.sizes, arrays=self.arrays)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, position: int) -> Sample:
        record = self.frame.iloc[position]
        return Sample(
            id=str(record["id"]),
            image=self.original(position),
            label=str(record["label"]),
            group=None if self.groups is None else str(record["group"]),
            mask=self.original_mask(position),
        )

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each record, (N,); of several labels 1 for each class that it has, (N, K)."""
        numbered = labels.indicators if self.multilabel else labels.codes
        return numbered(self.frame["label"], self.classes)

    @functools.cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """The group of each record, (N,), or None where the set has none."""
        return self.frame["group"].to_numpy(dtype=np.str_) if "group" in self.frame else None

    @functools.cached_property
    def group_codes(self) -> NDArray[np.int64] | None:
        """The number of each record's group in alphabetical order, (N,), or None where the set has none."""
        import pandas as pd

        if "group" not in self.frame:
            return None
        return pd.factorize(self.frame["group"], sort=True)[0].astype(np.int64)

    @functools.cached_property
    def splits(self) -> NDArray[np.str_] | None:
        """`train`, `val` or `test` of each record, (N,), or None where the set does not say."""
        return self.frame["split"].to_numpy(dtype=np.str_) if "split" in self.frame else None

    @functools.cached_property
    def weights(self) -> NDArray[np.float64] | None:
        """The weight of each record in the training loss, (N,), or None where the set has none."""
        return self.frame["weight"].to_numpy(dtype=np.float64) if "weight" in self.frame else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A checksum of records, labels, groups, splits and file sizes; the same on every machine."""
        digest = hashlib.sha256(repr(self.classes).encode())
        names = [name for name in ("id", "label", "group", "split") if name in self.frame]
        for name in [*names, *companion_columns(self.frame)]:
            digest.update("\0".join([name, *self.frame[name].tolist(), ""]).encode())
        if self.weights is not None:
            digest.update(b"weight" + self.weights.tobytes())
        if companion_columns(self.frame):
            digest.update(repr(self.mask_threshold).encode())
        digest.update(memory.digest(self.arrays) if self.arrays is not None else self._sizes().tobytes())
        return digest.hexdigest()

    def subset(self, positions: ArrayLike) -> Dataset:
        """Keep some records; classes and the positive class stay.

        Args:
            positions: Positions (M,) from 0, each once, or a mask (N,).

        Returns:
            The smaller set.

        Raises:
            DataError: if they are no positions or a mask of another length, or one is
                repeated or out of range.
        """
        chosen = arguments.positions(positions, len(self))
        return attrs.evolve(
            self,
            frame=self.frame.iloc[chosen].reset_index(drop=True),
            arrays=None if self.arrays is None else memory.chosen(self.arrays, chosen),
            sizes=None if self.sizes is None else self.sizes[:, chosen],
            rows=None if self.rows is None else self.rows[chosen],
            source=None,
        )

    def sample(self, n: int, *, stratified: bool = False, seed: int = 0) -> Dataset:
        """Keep `n` records chosen by chance.

        Args:
            n: How many, at most all.
            stratified: Whether each class keeps its share, and at least one record while `n`
                allows it; of several labels, each combination.
            seed: The seed of the choice.

        Returns:
            The smaller set, in the old order.

        Raises:
            DataError: if there are fewer records.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or not 0 < n <= len(self):
            raise DataError(f"'n' must be from 1 to {len(self)}, got {n!r}")
        rng = generator(seed, "sample")
        if stratified:
            return self.subset(np.sort(labels.stratified_sample(self.frame["label"], n, rng)))
        return self.subset(np.sort(rng.choice(len(self), size=n, replace=False)))

    def relabel(self, names: Mapping[str, str], *, positive: str | int | None = None) -> Dataset:
        """Rename or merge classes.

        Args:
            names: New names by old ones; classes that are not named keep theirs.
            positive: The class of sensitivity and thresholds; default is the one that the user
                named before, by its new name, else the rarer of two.

        Returns:
            The set with the new classes, in order of first appearance.

        Raises:
            ConfigError: if a name is of the wrong type.
            DataError: if an old name is unknown.
        """
        new = arguments.renames(names, self.classes)
        order = tuple(dict.fromkeys(new.values()))
        wanted = arguments.class_name("positive", positive)
        if wanted is None and self.positive_given and self.positive is not None and len(order) == 2:
            wanted = new[self.positive]
        frame = self.frame.assign(label=labels.renamed(self.frame["label"], new, multilabel=self.multilabel))
        chosen = naming.positive_class(frame["label"], order, wanted, multilabel=self.multilabel)
        given = wanted is not None
        return attrs.evolve(self, frame=frame, classes=order, positive=chosen, positive_given=given, source=None)

    def check(
        self,
        *,
        folds: Folds | None = None,
        near: bool = True,
        embeddings: ArrayLike | None = None,
        embedding_map: Literal["pca", "tsne"] | None = None,
        seed: int = 0,
    ) -> CheckReport:
        """Decode everything once and look for faults; nothing is written and no bad file stops it.

        Args:
            folds: Folds whose sides are looked at too, beside the set's own splits.
            near: Whether to look for near duplicates.
            embeddings: A vector a record (N, D), such as those of `imgcls.embed`, for another
                look at near duplicates.
            embedding_map: Draws a map of the embeddings.
            seed: The seed of samples and maps.

        Returns:
            What was found: bad files, duplicates, label conflicts, leaks, counts and statistics.
        """
        from imgcls.data.check.checking import check

        return check(self, folds=folds, near=near, embeddings=embeddings, embedding_map=embedding_map, seed=seed)

    def counts(self) -> dict[str, int]:
        """Count the records of each class.

        Returns:
            The counts by class, in the order of `classes`.
        """
        several = self.multilabel
        found = self.labels.sum(axis=0) if several else np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))
