"""The ways to make a set: those of files, and from arrays, other libraries' datasets and configurations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from imgcls.data import arguments, foreign, memory
from imgcls.data.file_readers import MASK_THRESHOLD, FileReaders

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["MASK_THRESHOLD", "READERS", "Readers"]

READERS: Mapping[str, str] = {"folder": "root", "csv": "path", "lines": "path", "names": "root", "npz": "path"}
"""What a configuration may read a set from, and the option of each reader that names the place."""


class Readers(FileReaders):
    """All `from_` methods of a set."""

    @classmethod
    def from_arrays(
        cls,
        arrays: ArrayLike | Sequence[ArrayLike],
        labels: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        splits: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Take images that are in memory already.

        Args:
            arrays: Images (N, height, width) or (N, height, width, 1 or 3), uint8 or uint16; or a
                list of such images of several shapes.
            labels: Labels (N,) or (N, 1): words or whole numbers. Where `classes` are given and hold
                every number as text, the numbers are names; else they index `classes`. Or 0 and
                1 of K classes (N, K), where a record may have several labels.
            groups: Groups (N,).
            splits: `train`, `val` or `test` of each record (N,).
            weights: Weights of the records in the training loss (N,), from 0 on.
            classes: The classes in order; default is alphabetical or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set; ids are the positions.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if shapes or types do not fit.
        """
        names = arguments.class_names(classes)
        given = memory.label_array(labels)
        if names is None and given.ndim == 2:
            names = [str(index) for index in range(given.shape[1])]
        records = memory.from_arrays(arrays, given, groups=groups, splits=splits, weights=weights, classes=names)
        return cls._made(records, classes=names, positive=positive)

    @classmethod
    def from_npz(
        cls,
        path: str | PathLike[str],
        *,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Read an npz file, such as those of MedMNIST with their official splits.

        Args:
            path: A file with `train_images`, `train_labels` and so on for `val` and `test`; or with
                `images`, `labels` and, if wanted, `groups`, `splits` and `weights`.
            classes: The classes in order, which numbers as labels index.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set, its images in memory.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if the file is missing, holds something else, or shapes or types do not fit.
        """
        parts = dict(memory.npz_parts(arguments.path("path", path)))
        made = cls.from_arrays(parts.pop("arrays"), parts.pop("labels"), **parts, classes=classes, positive=positive)
        named = {"classes": arguments.class_names(classes), "positive": arguments.class_name("positive", positive)}
        return made._sourced({"from": "npz", "path": str(path), **named})

    @abstractmethod
    def _sourced(self, source: Mapping[str, Any]) -> Self:
        """Note how the set can be read again."""

    @classmethod
    def from_torch(
        cls,
        dataset: Any,
        *,
        image: str | None = None,
        label: str | None = None,
        group: str | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Take a dataset of torchvision or Hugging Face.

        Args:
            dataset: A torchvision dataset without transforms, a Hugging Face `Dataset`, or
                anything of a length whose items are pairs of image and label. Several by the
                names `train`, `val` and `test` become one set with these splits.
            image: The column of images (Hugging Face); default is the only one.
            label: The column of labels (Hugging Face); default is the only one of class labels.
            group: The column of groups (Hugging Face).
            classes: The classes in order; default is the dataset's order.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set. Images of an `ImageFolder` are read from their files, others from the
            dataset whenever they are needed.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if it is no such dataset, or one that changes its images.
        """
        if isinstance(dataset, Mapping):
            parts = {
                name: foreign.take_over(part, image=image, label=label, group=group) for name, part in dataset.items()
            }
            taken = foreign.together(parts)
        else:
            taken = foreign.take_over(dataset, image=image, label=label, group=group)
        order = taken.classes if classes is None else classes
        return cls._made(taken.records, classes=order, positive=positive, root=taken.root)

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> Self:
        """Read a set from the `data:` part of a configuration.

        Args:
            options: `from:` (`folder`, `csv`, `lines`, `names` or `npz`) and the options of that reader.

        Returns:
            The set.

        Raises:
            ConfigError: if the reader or an option is unknown.
        """
        known: dict[str, tuple[Callable[..., Any], str]] = {
            name: (getattr(cls, f"from_{name}"), first) for name, first in READERS.items()
        }
        reader, first, rest = arguments.source(options, known)
        made: Self = reader(first, **rest)
        return made
