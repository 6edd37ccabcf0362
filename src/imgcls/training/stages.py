"""The stages of a training, and when to stop one early."""

from __future__ import annotations

import attrs

from imgcls.core import options
from imgcls.training.optim import Optimizer, Schedule, to_optimizer, to_schedule

__all__ = ["EarlyStopping", "Stage"]


@attrs.frozen(kw_only=True)
class Stage:
    """A part of the training with settings of its own.

    Attributes:
        epochs: How many epochs at most.
        train: What trains: `"head"`, while the backbone is frozen (batch norm and dropout
            included), or `"all"`.
        lr: The highest learning rate.
        optimizer: A name or spec: `"adamw"`, `{"name": "sgd", "momentum": 0.9}`; None takes
            the Trainer's.
        schedule: A name or spec: `"constant"`, `"cosine"`, `"one-cycle"`; None takes the
            Trainer's.
    """

    epochs: int = attrs.field(validator=options.count(1))
    train: str = attrs.field(default="all", validator=options.choice("head", "all"))
    lr: float = attrs.field(default=1e-3, validator=options.number(0, above=True))
    optimizer: Optimizer | None = attrs.field(default=None, converter=to_optimizer)
    schedule: Schedule | None = attrs.field(default=None, converter=to_schedule)


@attrs.frozen(kw_only=True)
class EarlyStopping:
    """Ends a stage that no longer gets better.

    Attributes:
        patience: After how many epochs without a better value.
        min_delta: How much better counts as better.
    """

    patience: int = attrs.field(default=5, validator=options.count(1))
    min_delta: float = attrs.field(default=0.0, validator=options.number(0))
