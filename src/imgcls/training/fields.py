"""How the Trainer reads its options: converters and validators of its fields."""

# ruff: noqa: DOC201 (each converter returns the option's value)

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from torch import nn

from imgcls.core import config, options
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.thresholds import parse_rule
from imgcls.models.base import backbones
from imgcls.models.head import Head
from imgcls.models.module import ModuleBackbone
from imgcls.splitting.base import splitters
from imgcls.training.averaging import Ema
from imgcls.training.monitor import monitor_direction
from imgcls.training.stages import EarlyStopping, NonFinite, Snapshots, Stage

__all__ = [
    "are_functions",
    "are_seeds",
    "is_decision",
    "is_monitor",
    "is_switch",
    "is_test",
    "is_workers",
    "to_backbone",
    "to_early_stopping",
    "to_ema",
    "to_head",
    "to_image",
    "to_init",
    "to_nonfinite",
    "to_snapshots",
    "to_splitter",
    "to_stages",
]


def to_backbone(given: Any) -> Any:
    """Read a backbone; a torch module is one."""
    return ModuleBackbone(module=given) if isinstance(given, nn.Module) else backbones.create(given)


def to_init(given: Any) -> Any:
    """Read what training begins with: a run, or a path."""
    return str(Path(getattr(given, "folder", given)).resolve()) if given is not None else None


def to_splitter(given: Any) -> Any:
    """Read a splitter; None stays."""
    return None if given is None else splitters.create(given)


def to_head(given: Any) -> Any:
    """Read the head."""
    return config.nested(Head, given, path="head")


def to_image(given: Any) -> Any:
    """Read the form of images."""
    return config.nested(ImageSpec, given, path="image")


def to_stages(given: Any) -> Any:
    """Read the stages."""
    return config.nested_list(Stage, given, path="stages")


def to_early_stopping(given: Any) -> Any:
    """Read when a stage ends early."""
    return config.nested(EarlyStopping, given, path="early_stopping")


def to_ema(given: Any) -> Any:
    """Read the average of weights."""
    return config.nested(Ema, given, path="ema")


def to_nonfinite(given: Any) -> Any:
    """Read what is done about losses that are not finite; a word is the policy."""
    return config.nested(NonFinite, {"policy": given} if isinstance(given, str) else given, path="nonfinite")


def to_snapshots(given: Any) -> Any:
    """Read which epochs are kept."""
    return config.nested(Snapshots, given, path="snapshots")


def is_test(_: Any, __: Any, given: Any) -> None:
    """Check what is the test set."""
    share = isinstance(given, float) and 0 < given < 1
    count = isinstance(given, int) and not isinstance(given, bool) and given > 0
    if not (given is None or share or count or isinstance(given, Dataset) or given in ("auto", "predefined")):
        rule = "be 'auto', 'predefined', None, a share between 0 and 1, a number of records or a Dataset"
        raise options.rejected("test", rule, given)


def is_monitor(_: Any, __: Any, given: Any) -> None:
    """Check the metric that chooses the checkpoint."""
    if given is not None:
        monitor_direction(given)


def is_decision(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check the rule that decides."""
    if given is not None:
        options.instance(str, int, float, dict)(_, field, given)
        parse_rule(given, name=field.name)


def is_workers(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check how many threads decode."""
    if given != "auto":
        options.count(1)(_, field, given)


def is_switch(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check what is on, off, or measured."""
    if not isinstance(given, bool) and given != "auto":
        raise options.rejected(field.name, "be True, False or 'auto'", given)


def are_functions(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check a list of functions."""
    if not isinstance(given, tuple) or not all(map(callable, given)):
        raise options.rejected(field.name, "be a list of functions", given)


def are_seeds(_: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check a list of seeds."""
    for seed in given or ():
        options.seed()(_, field, seed)
