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
        loss: The weighted mean of the losses of all processes.
        weight: The sum of the weights.
        grad_norm: Norm of the gradient before it is clipped.
        logits: Logits of this process's records, (B, K), without gradients.
    """

    loss: float
    weight: float
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
    before = [buffer.clone() for buffer in state.model.buffers()]
    loss, weight, logits = gradients(state, phase, job, fed)
    norm = _norm(state.optimizer, job.clip_grad)
    values = torch.stack([loss, weight, norm.to(loss.dtype)]).tolist()
    stepped = Stepped(loss=values[0], weight=values[1], grad_norm=values[2], logits=logits)
    if stepped.finite:
        state.optimizer.step()
        state.course.step()
        if state.averaged is not None:
            state.averaged.update(state.model)
    else:
        _put_back(state.model, before)
    return stepped


# Batch norm takes what is not finite into its running statistics, before anybody looks at the loss.
def _put_back(model: nn.Module, buffers: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(value)


def gradients(state: State, phase: Phase, job: Job, fed: Fed) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradient of the weighted mean of the losses over the records of all processes.

    Args:
        state: The state; where memory is short, batches go through the network in more parts.
        phase: The stage.
        job: The training.
        fed: This process's share of the batch.

    Returns:
        The mean, the sum of the weights, and the logits (B, K) of the share.

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
        _shrink(state, job, len(fed.positions))
    assert found is not None
    trained = _trained(state.optimizer)
    job.ranks.add_gradients(trained)
    job.ranks.share_buffers(state.model)
    total, weight = job.ranks.total(torch.stack(found[:2])).unbind()
    mean = weight.clamp_min(torch.finfo(weight.dtype).tiny)
    torch._foreach_div_([p.grad for p in trained if p.grad is not None], mean)
    return total / mean, weight, found[2]


def _trained(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


# The norm of the gradient before it is clipped.
def _norm(optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
    trained = _trained(optimizer)
    norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(trained, clip, norm)
    return norm


def _attempt(state: State, phase: Phase, fed: Fed) -> tuple[Tensor, Tensor, Tensor] | None:
    try:
        return _backward(state, phase, fed)
    except torch.OutOfMemoryError:
        return None  # what the failed attempt held is free only when the exception is gone


def _backward(state: State, phase: Phase, fed: Fed) -> tuple[Tensor, Tensor, Tensor]:
    total, weight = torch.zeros(2, dtype=torch.float32, device=fed.inputs.device).unbind()
    seen = []
    for part in _parts(len(fed.positions), state.parts):
        logits = state.feed.logits(state.model, fed.inputs[part])
        losses, weights = phase.criterion.terms(logits, fed.targets[part], fed.positions[part])
        loss = (losses * weights).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total, weight = total + loss.detach(), weight + weights.sum()
        seen.append(logits.detach())
    return total, weight, torch.cat(seen) if seen else fed.inputs.new_empty(0)


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
