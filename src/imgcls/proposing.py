"""Looks at a set and writes a configuration for it, with comments that say why."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import attrs
import numpy as np

from imgcls.core.config import to_yaml
from imgcls.core.spacing import evenly
from imgcls.data.dataset import Dataset

__all__ = ["propose_config"]

#: Images that are looked at, spread over the set.
_LOOKED = 64

#: Sides in pixels that a proposal chooses from.
_SIZES = (32, 64, 96, 128, 160, 192, 224)

#: Signs in a line of a comment.
_WIDTH = 100

#: How many times as many records the largest class may have before draws are weighted.
_IMBALANCED = 3.0

#: What stands before the last number of a file's name, such as `person12` in `person12_bacteria_3.jpeg`.
_BEFORE_NUMBER = re.compile(r"^(.*?)[-_ ]?\d+$")


@attrs.frozen(kw_only=True)
class _Seen:
    """What some images show.

    Attributes:
        side: The median of the shorter sides in pixels.
        grey: Whether all are without colour.
        shapes: How many forms (height, width) there are.
    """

    side: int
    grey: bool
    shapes: int


def propose_config(data: Dataset, source: Mapping[str, Any]) -> str:
    """Propose a configuration for a set.

    Some images are decoded for their size and colour; the rest is read from the manifest.

    Args:
        data: The set.
        source: How it is read: `from` and the options of that reader.

    Returns:
        YAML with comments, which `Trainer.from_config` reads.
    """
    seen = _look(data)
    parts = [_head(data), _data(data, source), _test(data), _image(seen), _balance(data), _training()]
    return "\n".join(parts)


def _look(data: Dataset) -> _Seen:
    chosen = evenly(len(data), _LOOKED)
    images = [np.asarray(data[int(position)].image) for position in chosen]
    return _Seen(
        side=int(np.median([min(image.shape[:2]) for image in images])),
        grey=all(image.ndim == 2 or bool((image == image[..., :1]).all()) for image in images),
        shapes=len({image.shape[:2] for image in images}),
    )


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, _WIDTH))


def _head(data: Dataset) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in data.counts().items())
    told = (
        f"{len(data)} images: {counts}. What is left out has its default; the reference of the Trainer has all options."
    )
    return _comment(told)


def _data(data: Dataset, source: Mapping[str, Any]) -> str:
    options, told = dict(source), ""
    if data.positive is not None:
        options.setdefault("positive", data.positive)
        told = _comment(
            "Sensitivity and thresholds speak of the positive class: the rarer one, unless you name another."
        )
    return told + to_yaml({"data": options}) + _groups(data)


# Whether images belong together only people know; what their names suggest is left as a comment.
def _groups(data: Dataset) -> str:
    if data.groups is not None:
        count = len(np.unique(data.groups))
        return _comment(f"{count} groups; none is ever divided between training, validation and test.")
    found = _repeated_beginning(data)
    if found is None:
        return _comment(
            "No groups: if several images show one patient, animal or part, name it with 'group'; otherwise numbers "
            "will flatter."
        )
    count, example = found
    told = _comment(
        f"{len(data)} names have only {count} beginnings, such as {example!r}. If one is a patient, animal or part, "
        "say so among the options of 'data', or images of one will be trained and tested on:"
    )
    return told + "#   group: '([^/]+?)[-_ ]?[0-9]+[.][^./]+$'\n"


def _repeated_beginning(data: Dataset) -> tuple[int, str] | None:
    stems = [PurePosixPath(name).stem for name in data.ids]
    matches = [_BEFORE_NUMBER.match(stem) for stem in stems]
    beginnings = Counter(match[1] for match in matches if match is not None and match[1])
    several = {name: count for name, count in beginnings.items() if count > 1}
    many = len(beginnings) > len(data.classes) * 2
    if not many or sum(several.values()) < len(data) / 5:
        return None
    return len(beginnings), max(several, key=lambda name: several[name])


def _test(data: Dataset) -> str:
    if data.splits is not None and np.any(data.splits == "test"):
        told = "The set names its own test records; the rest becomes folds, each with validation records of its own."
        return _comment(told) + to_yaml({"test": "predefined"})
    told = (
        "Each fold tests on other records, so that every record is tested once. A share such as 0.2 would be "
        "cut off as one test set instead."
    )
    return _comment(told) + to_yaml({"test": None})


def _image(seen: _Seen) -> str:
    size = max(side for side in _SIZES if side <= max(seen.side, _SIZES[0]))
    forms = "one form" if seen.shapes == 1 else "several forms, which 'stretch' makes square and 'letterbox' pads"
    colour = "without colour" if seen.grey else "in colour"
    told = f"Images {colour}, of {forms}; the shorter side is {seen.side} pixels (median)."
    options = {"size": size, "channels": 1 if seen.grey else 3, "fit": "stretch"}
    return _comment(told) + to_yaml({"image": options})


def _balance(data: Dataset) -> str:
    counts = [count for count in data.counts().values() if count]
    ratio = max(counts) / min(counts)
    if ratio < _IMBALANCED or data.multilabel:
        told = "Nothing is done about how many records the classes have."
        return _comment(told) + to_yaml({"balancer": {"sampler": "uniform"}})
    told = (
        f"The largest class has {ratio:.1f} times the records of the smallest: draws are weighted, so that a batch "
        "has all classes alike, and probabilities are corrected back to how frequent they are."
    )
    return _comment(told) + to_yaml({"balancer": {"sampler": "weighted", "correct_priors": True}})


def _training() -> str:
    stages = [{"epochs": 2, "train": "head", "lr": 3e-3}, {"epochs": 8, "train": "all", "lr": 3e-4}]
    return (
        _comment("Pretrained on ImageNet, which is downloaded once; 'imgcls backbones list' has a thousand others.")
        + to_yaml({"backbone": "resnet18", "augment": "light"})
        + _comment("First the head, then everything. The epoch that is best on validation is kept.")
        + to_yaml({"stages": stages})
        + "# out: runs/first\n"
    )
