"""What training tells those who listen: callbacks, trackers, the progress display."""

from __future__ import annotations

import attrs

__all__ = ["EpochEnd", "StepEnd"]


@attrs.frozen(kw_only=True)
class StepEnd:
    """What is known after an optimizer step.

    Attributes:
        fold: Which fold, from 0.
        stage: Which stage, from 0.
        epoch: Which epoch, from 0 over all stages.
        step: Which step, from 0 over all epochs.
        loss: The training loss of its records.
        lr: The learning rate of the head.
        grad_norm: The norm of the gradient, before it is clipped.
        records: How many records it saw.
    """

    fold: int
    stage: int
    epoch: int
    step: int
    loss: float
    lr: float
    grad_norm: float
    records: int


@attrs.frozen(kw_only=True)
class EpochEnd:
    """What is known after an epoch, or after a validation within one.

    Attributes:
        fold: Which fold, from 0.
        stage: Which stage, from 0.
        epoch: Which epoch, from 0 over all stages.
        step: How many optimizer steps there were so far, over all epochs.
        lr: The learning rate of the last step.
        train_loss: Mean of the training loss since the epoch began, over its records.
        train: The metrics of the training records as they were seen: augmented, by weights
            that changed meanwhile.
        val: The metrics of the validation records.
        seconds: How long it took since the epoch began, validation included.
        best: Whether its weights are the best so far.
    """

    fold: int
    stage: int
    epoch: int
    step: int
    lr: float
    train_loss: float
    train: dict[str, float]
    val: dict[str, float]
    seconds: float
    best: bool
