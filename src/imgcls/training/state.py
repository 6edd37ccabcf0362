"""What changes while a fold trains, and how it is written down and read again."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from imgcls.core.errors import RunError
from imgcls.models.base import Classifier
from imgcls.models.freezing import set_modes
from imgcls.runtime.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from imgcls.runtime.ranks import Ranks
from imgcls.training.averaging import AveragedModel
from imgcls.training.events import EpochEnd
from imgcls.training.feeding import Feed
from imgcls.training.job import Job
from imgcls.training.monitor import epoch_metrics
from imgcls.training.schedules import Course

__all__ = ["Seen", "State", "restore", "save"]

#: How many checkpoints to go on from are kept; should the newest be damaged, there is one before it.
_KEPT = 2

#: The counters and values of a state that are plain.
_PLAIN = (
    *("phase", "first", "epoch", "step", "steps", "parts", "skipped", "rolled"),
    *("best", "counted", "waited", "lr", "spent", "total", "rates", "top"),
)


@attrs.define(kw_only=True)
class Seen:
    """What an epoch has seen so far, of this process's share.

    Attributes:
        loss: Sum of the weighted losses of all processes.
        records: How many records they are of.
        logits: Logits of each step.
        positions: Which records they are of.
    """

    loss: float = 0.0
    records: int = 0
    logits: list[Tensor] = attrs.field(factory=list)
    positions: list[Tensor] = attrs.field(factory=list)

    def of_all(self, ranks: Ranks) -> Seen:
        """Put together what all processes have seen.

        Args:
            ranks: Which process this is.

        Returns:
            The same in each, with one tensor of logits and one of positions.
        """
        # A process that went on from a checkpoint, which the first one holds, may have seen nothing yet.
        logits = torch.cat(self.logits) if self.logits else torch.empty(0)
        positions = torch.cat(self.positions) if self.positions else torch.empty(0, dtype=torch.int64)
        return attrs.evolve(self, logits=[ranks.gather(logits)], positions=[ranks.gather(positions)])

    def metrics(self, job: Job) -> dict[str, float]:
        """Compute the metrics of the training records as they were seen.

        Args:
            job: The training.

        Returns:
            Values by name; nothing where nothing was seen.
        """
        if not self.records:
            return {}
        whole = self.of_all(job.ranks)
        logits, positions = whole.logits[0].float(), whole.positions[0]
        targets = torch.from_numpy(job.targets[positions.cpu().numpy()]).to(logits.device)
        return epoch_metrics(logits, targets, positive=job.positive)


@attrs.define(kw_only=True)
class State:
    """What changes while a fold trains.

    Attributes:
        model: The model.
        feed: What the current stage takes its steps from.
        optimizer: The optimizer of the current stage.
        course: Its learning rates.
        averaged: The running average of the weights, or None.
        phase: Which stage, from 0; the number of stages where training is over.
        first: The first epoch of the stage.
        epoch: Which epoch, from 0 over all stages.
        step: Steps done in this epoch.
        steps: Steps done in all epochs.
        parts: In how many parts a batch goes through the network.
        skipped: How many steps were left out for a loss that was not finite.
        rolled: How often training went back to a checkpoint for it.
        best: The rank of the best weights so far, or None.
        counted: The monitored value, larger is better, that last was so much better that it counted for early
            stopping, or None.
        waited: Validations since then.
        lr: The learning rate of the last step.
        spent: Seconds of training before this epoch.
        total: Seconds of this epoch before it was interrupted.
        history: What happened.
        rates: The learning rate that was found for stages that look for one, by stage.
        top: Rank and steps of the best validations, where they are averaged.
        seen: What the epoch has seen.
        changing: What steps change beside the weights: the statistics of batch norms that train.
    """

    model: Classifier
    feed: Feed
    averaged: AveragedModel | None
    parts: int
    optimizer: torch.optim.Optimizer | None = None
    course: Course | None = None
    phase: int = 0
    first: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    skipped: int = 0
    rolled: int = 0
    best: tuple[float, ...] | None = None
    counted: float | None = None
    waited: int = 0
    lr: float = 0.0
    spent: float = 0.0
    total: float = 0.0
    history: list[EpochEnd] = attrs.field(factory=list)
    rates: dict[int, float] = attrs.field(factory=dict)
    top: list[tuple[tuple[float, ...], int]] = attrs.field(factory=list)
    seen: Seen = attrs.field(factory=Seen)
    changing: list[Tensor] = attrs.field(factory=list)

    def to_train(self) -> None:
        """Put what trains into training mode, and the rest into evaluation mode."""
        set_modes(self.model)
        modules = [module for module in self.model.modules() if module.training]
        self.changing = [buffer for module in modules for buffer in module.buffers(recurse=False)]

    def kept(self) -> list[Tensor]:
        """Copy what a step changes beside the weights.

        Returns:
            For `put_back`, where the step is not to count.
        """
        return [buffer.clone() for buffer in self.changing]

    def put_back(self, before: list[Tensor]) -> None:
        """Undo what a step changed beside the weights.

        Args:
            before: What `kept` gave.
        """
        for buffer, value in zip(self.changing, before, strict=True):
            buffer.copy_(value)


def save(state: State, job: Job) -> None:
    """Write a checkpoint to go on from, in the first process.

    Args:
        state: The state.
        job: The training; all of its processes are here.
    """
    seen = state.seen.of_all(job.ranks)
    if not job.ranks.first:
        return
    fields = {name: getattr(state, name) for name in _PLAIN}
    rest = {
        "plain": fields | {"history": [attrs.asdict(event) for event in state.history]},
        "optimizer": None if state.optimizer is None else state.optimizer.state_dict(),
        "course": None if state.course is None else state.course.state_dict(),
        "averaged": None if state.averaged is None else state.averaged.state_dict(),
        "seen": attrs.asdict(seen),
    }
    facts = {"step": state.steps, "epoch": state.epoch}
    checkpoint = Checkpoint(weights=state.model.state_dict(), facts=facts, state=rest)
    save_checkpoint(job.folder / "last", checkpoint, keep=_KEPT)


def restore(state: State, job: Job) -> dict[str, Any]:
    """Read the newest checkpoint to go on from.

    Args:
        state: The state, which gets its values; the model gets its weights.
        job: The training.

    Returns:
        The states of optimizer and learning rates, for those of the stage.

    Raises:
        RunError: if there is none, or all are damaged.
    """
    folder = job.folder / "last"
    found = load_checkpoint(folder)
    if found.state is None:
        raise RunError(f"checkpoint {str(folder)!r} must hold the state of training, got weights alone")
    plain = dict(found.state["plain"])
    state.history = [EpochEnd(**event) for event in plain.pop("history")]
    for name, value in plain.items():
        setattr(state, name, value)
    state.parts = max(state.parts, job.parts)  # a search tries again with more of them where memory was short
    state.seen = Seen(**found.state["seen"])
    if not job.ranks.first:  # the first process holds what all have seen
        state.seen.logits, state.seen.positions = [], []
    state.model.load_state_dict(found.weights)
    if state.averaged is not None:
        state.averaged.load_state_dict(found.state["averaged"])
    return {name: found.state[name] for name in ("optimizer", "course")}
