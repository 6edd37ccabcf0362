"""The stages of a training, and what happens on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from imgcls.augment.augment import Augment, Policies, to_augment
from imgcls.augment.augmenter import Augmenter, augmenter
from imgcls.balancing.balancer import Balancer
from imgcls.core import config, options
from imgcls.core.errors import listing
from imgcls.training.optimizers import Optimizer, to_optimizer
from imgcls.training.schedules import Schedule, to_schedule, warmup_option

__all__ = ["FIND", "EarlyStopping", "FullStage", "NonFinite", "Snapshots", "Stage", "to_balancer"]

#: The learning rate of a stage that looks for one.
FIND = "find"


def _train(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not number and not (isinstance(value, str) and value):
        rule = "be 'head', 'all', how many of the last blocks, or a pattern of names of modules"
        raise options.rejected(field.name, rule, value)


def _lr(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value != FIND:
        options.number(0, above=True)(_, field, value)


def _augment(value: Any) -> Any:
    return None if value is None else to_augment(value)


def to_balancer(value: Any) -> Any:
    """Read what is done about imbalance; a word is the sampler.

    Args:
        value: A Balancer, its options, or anything else, which is left for the validator.

    Returns:
        The Balancer, with the augmentation of repeated draws written out.

    Raises:
        ConfigError: if an option is wrong.
    """
    found = config.nested(Balancer, {"sampler": value} if isinstance(value, str) else value, path="balancer")
    if not isinstance(found, Balancer) or found.repeats is None:
        return found
    with config.at("balancer"):
        repeats = to_augment(found.repeats, "repeats")
        if not isinstance(repeats, Augment):
            raise options.rejected("repeats", "be one augmentation for all classes", found.repeats)
    return attrs.evolve(found, repeats=repeats)


def _size(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else options.texts(value)


def _check_size(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    good = isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)
    if value is not None and not good:
        raise options.rejected(field.name, "be a number of pixels or a pair (height, width)", value)


@attrs.frozen(kw_only=True)
class Stage:
    """A part of the training with settings of its own; None takes the Trainer's.

    Attributes:
        epochs: How many epochs at most.
        train: What trains: `"head"`; `"all"`; a number, that many of the last blocks of the
            backbone and the head; or a pattern of names of modules, such as `"body.model.layer4*"`,
            and the head. What does not train stays as it is, batch norm and dropout included.
        lr: The highest learning rate, that of the head; `"find"` looks for one by a range test.
        lr_scale: Factor of the learning rate in the backbone.
        layer_decay: Factor of the learning rate from each block to the one before it.
        weight_decay: Decay of the weights.
        warmup: Optimizer steps, or their share, in which the learning rate rises first.
        optimizer: A name or spec: `"adamw"`, `{"name": "sgd", "momentum": 0.9}`.
        schedule: A name or spec: `"constant"`, `"cosine"`, `"one-cycle"`.
        augment: What happens to training images.
        balancer: What is done about classes of different size.
        size: Height and width of training images; validation keeps those of the Trainer.
        views: For frozen backbones: so many augmented pictures of each record take turns, and
            their features are computed once.
    """

    epochs: int = attrs.field(validator=options.count(1))
    train: str | int = attrs.field(default="all", validator=_train)
    lr: float | str = attrs.field(default=1e-3, validator=_lr)
    lr_scale: float = attrs.field(default=1.0, validator=options.number(0, above=True))
    layer_decay: float | None = attrs.field(default=None, validator=options.optional(options.number(0, 1, above=True)))
    weight_decay: float | None = attrs.field(default=None, validator=options.optional(options.number(0)))
    warmup: int | float | None = attrs.field(default=None, validator=options.optional(warmup_option()))
    optimizer: Optimizer | None = attrs.field(
        default=None, converter=to_optimizer, validator=options.optional(options.instance(Optimizer))
    )
    schedule: Schedule | None = attrs.field(
        default=None, converter=to_schedule, validator=options.optional(options.instance(Schedule))
    )
    augment: Augment | Policies | None = attrs.field(
        default=None, converter=_augment, validator=options.optional(options.instance(Augment, Policies))
    )
    balancer: Balancer | None = attrs.field(
        default=None, converter=to_balancer, validator=options.optional(options.instance(Balancer))
    )
    size: tuple[int, int] | None = attrs.field(default=None, converter=_size, validator=_check_size)
    views: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))

    def __attrs_post_init__(self) -> None:
        if self.train == "head" and (self.lr_scale != 1.0 or self.layer_decay is not None):
            raise options.rejected("train", "not be 'head' beside 'lr_scale' or 'layer_decay'", self.train)
        if self.views is not None and self.train != "head":
            raise options.rejected("views", "be left out where the backbone trains", self.views)
        if self.schedule is not None and self.warmup is not None:
            self.schedule.check_warmup(self.warmup)


@attrs.frozen(kw_only=True)
class FullStage:
    """A stage with what it takes from the Trainer.

    Attributes:
        stage: The stage.
        optimizer: Its optimizer.
        schedule: Its schedule.
        augment: What happens to its training images.
        balancer: What it does about classes of different size.
    """

    stage: Stage
    optimizer: Optimizer
    schedule: Schedule
    augment: Augment | Policies
    balancer: Balancer

    def augmenter(self, classes: Sequence[str], *, multilabel: bool = False) -> Augmenter:
        """Bind the augmentation to the classes of a set.

        Args:
            classes: Their names in order.
            multilabel: Whether a record may have several labels.

        Returns:
            What augments batches.

        Raises:
            ConfigError: if it names a class that is none, or cannot go with the other options.
        """
        again = self.balancer.repeats
        if multilabel and isinstance(self.augment, Policies):
            rule = "be one for all records where they have several labels"
            raise options.rejected("augment", rule, f"policies for {listing(self.augment)}")
        found = augmenter(self.augment, classes=classes, repeats=again)
        if self.stage.views is not None and (found.idle or found.mixes or again is not None):
            rule = "be left out without augmentation, where images are mixed, or beside 'repeats'"
            raise options.rejected("views", rule, self.stage.views)
        return found


@attrs.frozen(kw_only=True)
class EarlyStopping:
    """Ends a stage that no longer gets better.

    Attributes:
        patience: After how many validations without a better value.
        min_delta: How much better than the last value that counted is better; small gains that add up to it count.
    """

    patience: int = attrs.field(default=5, validator=options.count(1))
    min_delta: float = attrs.field(default=0.0, validator=options.number(0))


@attrs.frozen(kw_only=True)
class NonFinite:
    """What is done about a loss or gradient that is not finite; no weight is ever changed by it.

    Attributes:
        policy: `"raise"` ends the training; `"skip"` leaves the step out; `"rollback"` goes back
            to the last checkpoint and on with half of the learning rate.
        limit: How often a fold may skip or go back.
    """

    policy: str = attrs.field(default="raise", validator=options.choice("raise", "skip", "rollback"))
    limit: int = attrs.field(default=3, validator=options.count(1))


@attrs.frozen(kw_only=True)
class Snapshots:
    """Weights of past epochs that are kept beside the best and the last.

    Attributes:
        every: After how many epochs.
        keep: How many.
    """

    every: int = attrs.field(default=1, validator=options.count(1))
    keep: int = attrs.field(default=3, validator=options.count(1))
