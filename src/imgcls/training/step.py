"""One optimizer step: forward and backward in parts, checked before any weight changes."""

from __future__ import annotations

import itertools
import math

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls.core.errors import TrainingError
from imgcls.core.progress import say
from imgcls.core.randomness import derive_seed
from imgcls.training.feeding import Fed
from imgcls.training.job import Job, Phase
from imgcls.training.state import State

__all__ = ["Stepped", "gradients", "train_step"]


@attrs.frozen(kw_only=True, eq=False)
class Stepped:
    """What a step found.

    Attributes:
        loss: The mean of the weighted losses of all processes.
        records: How many records the batch of all processes has.
        grad_norm: Norm of the gradient before it is clipped.
        logits: Logits of this process's records, (B, K), without gradients.
    """

    loss: float
    records: int
    grad_norm: float
    logits: Tensor

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite, so that the weights were changed."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def train_step(state: State, phase: Phase, job: Job, fed: Fed) -> Stepped:
    """Make one optimizer step, unless loss or gradient are not finite.

    Args:
        state: The state; weights and learning rate change.
        phase: The stage.
        job: The training.
        fed: This process's share of the batch.

    Returns:
        What was found.

    Raises:
        TrainingError: if memory is short even for single pairs of records.
    """
    assert state.optimizer is not None
    assert state.course is not None
    state.lr = state.course.lr
    before = state.kept()
    loss, logits = gradients(state, phase, job, fed, before=before)
    norm = _norm(state.optimizer, job.clip_grad)
    values = torch.stack([loss, norm.to(loss.dtype)]).tolist()
    stepped = Stepped(loss=values[0], records=fed.size, grad_norm=values[1], logits=logits)
    if stepped.finite:
        state.optimizer.step()
        state.course.step()
        if state.averaged is not None:
            state.averaged.update(state.model)
    else:  # batch norm took what is not finite into its statistics, before anybody looked at the loss
        state.put_back(before)
    return stepped


def gradients(state: State, phase: Phase, job: Job, fed: Fed, *, before: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the gradient of the mean of the weighted losses over the records of all processes.

    Weights have a mean of 1 over the draws of the stage, and the sum is divided by the number of records.
    Dividing by the weights of each batch, as torch does, would give a class the less weight the rarer
    it is, since it is then in few batches, whose weights are large.

    Args:
        state: The state; where memory is short, batches go through the network in more parts.
        phase: The stage.
        job: The training.
        fed: This process's share of the batch.
        before: What `State.kept` gave, since an attempt that fails for lack of memory must leave nothing behind.

    Returns:
        The mean, and the logits (B, K) of the share.

    Raises:
        TrainingError: if memory is short even for pairs of records.
    """
    assert state.optimizer is not None
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        _seed(job, state.steps)
        found = _attempt(state, phase, fed)
        if not job.ranks.any(found is None, job.runtime.device):
            break
        found = None
        state.put_back(before)
        _shrink(state, job, len(fed.positions))
    assert found is not None
    job.ranks.add_gradients(_trained(state.optimizer))
    job.ranks.share_buffers(state.model)
    return job.ranks.total(found[0]), found[1]


def _trained(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


# The norm of the gradient before it is clipped.
def _norm(optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
    trained = _trained(optimizer)
    norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(trained, clip, norm)
    return norm


def _attempt(state: State, phase: Phase, fed: Fed) -> tuple[Tensor, Tensor] | None:
    try:
        return _backward(state, phase, fed)
    except torch.OutOfMemoryError:
        return None  # what the failed attempt held is free only when the exception is gone


def _backward(state: State, phase: Phase, fed: Fed) -> tuple[Tensor, Tensor]:
    total, seen = torch.zeros((), device=fed.inputs.device), []
    for part in _parts(len(fed.positions), state.parts):
        logits = state.feed.logits(state.model, fed.inputs[part])
        losses, weights = phase.criterion.terms(logits, fed.targets[part], fed.positions[part])
        loss = (losses * weights).sum() / fed.size
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total = total + loss.detach()
        seen.append(logits.detach())
    return total, torch.cat(seen) if seen else fed.inputs.new_empty(0)


# Batch norm cannot train on a single record.
def _parts(size: int, parts: int) -> list[slice]:
    edges = np.linspace(0, size, max(min(parts, size // 2), 1) + 1).round().astype(int).tolist()
    return [slice(*edge) for edge in itertools.pairwise(edges) if edge[1] > edge[0]]


def _shrink(state: State, job: Job, size: int) -> None:
    state.parts *= 2
    if job.runtime.device.startswith("cuda"):
        torch.cuda.empty_cache()
    if state.parts > max(size // 2, 1):
        raise TrainingError(
            f"a step must fit into the memory of {job.runtime.device!r}, got too little even for 2 records at a time; "
            "choose smaller images or a smaller backbone"
        )
    say(f"Out of memory: each batch goes through the network in {state.parts} parts from now on; results are the same")


# Dropout draws from torch's global state; a seed for each step makes it a function of seed and step alone.
def _seed(job: Job, step: int) -> None:
    seed = derive_seed(job.seed, "step", step, job.ranks.rank)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU, also those of others
    if job.runtime.device.startswith("cuda"):
        with torch.cuda.device(job.runtime.device):
            torch.cuda.manual_seed(seed)
