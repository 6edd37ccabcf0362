"""Processes that train one model together, each on its share of every batch.

`torchrun` starts them; alone, all of this does nothing. Gradients are summed in one buffer after the
backward pass instead of during it, as torch's DistributedDataParallel does: so all processes can agree
first that none of them ran out of memory or met a loss that is not finite, and none waits for ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.core.errors import ConfigError

__all__ = ["Ranks", "joined"]

T = TypeVar("T", bound=np.generic)

#: So long processes wait for each other at the start, in seconds.
_MEETING = 25

#: So long they wait for each other later on, such as for one that decodes the images.
_PATIENCE = timedelta(hours=12)


@final
@attrs.frozen(kw_only=True)
class Ranks:
    """The place of this process among those that train together.

    Attributes:
        rank: Which process this is, from 0; the first writes the files.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, positions: NDArray[T]) -> tuple[int, NDArray[T]]:
        """Cut out what this process has of a batch.

        Args:
            positions: What belongs to the batch, (B,).

        Returns:
            Where the share begins in the batch, and the share. Of a small batch the last processes
            have nothing, and none has a single record, on which batch norm cannot train.
        """
        busy = min(self.world, max(len(positions) // 2, 1))
        edges = np.linspace(0, len(positions), busy + 1).round().astype(int)
        edges = np.pad(edges, (0, self.world - busy), mode="edge")
        return int(edges[self.rank]), positions[edges[self.rank] : edges[self.rank + 1]]

    def total(self, value: Tensor) -> Tensor:
        """Add up a tensor over all processes.

        Args:
            value: Of the same shape everywhere.

        Returns:
            The sum.
        """
        if self.world == 1:
            return value
        found = value.clone()
        torch.distributed.all_reduce(found)
        return found

    def any(self, flag: bool, device: str) -> bool:
        """Ask whether something is true in any process.

        Args:
            flag: Whether it is true here.
            device: Where tensors are.

        Returns:
            Whether it is true anywhere.
        """
        return flag if self.world == 1 else bool(self.total(torch.tensor(float(flag), device=device)) > 0)

    def gather(self, value: Tensor) -> Tensor:
        """Put the tensors of all processes behind one another.

        Args:
            value: A tensor (n, ...), whose n may differ.

        Returns:
            All of them, in the order of the processes.
        """
        if self.world == 1:
            return value
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value.cpu())
        return torch.cat(found).to(value.device)

    def told(self, value: Any) -> Any:
        """Let the first process tell the others something.

        Args:
            value: What it says; what the others pass is not used.

        Returns:
            What the first one said.
        """
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes.

        Args:
            parameters: Those that train; a gradient that is missing counts as 0.
        """
        if self.world == 1:
            return
        grads = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of the first, such as the running statistics of batch norm.

        Every process validates, and goes on from a checkpoint, with the same model so.

        Args:
            model: The model.
        """
        if self.world == 1:
            return
        floats = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if not floats:
            return
        flat = torch.cat([buffer.reshape(-1) for buffer in floats])
        torch.distributed.broadcast(flat, src=0)
        for buffer, part in zip(floats, torch.split(flat, [buffer.numel() for buffer in floats]), strict=True):
            buffer.copy_(part.view_as(buffer))


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that a launcher started beside this one.

    Args:
        device: The kind of device that trains; `cuda` processes speak through nccl, others
            through gloo.

    Yields:
        The place of this process; alone where no launcher is at work.

    Raises:
        ConfigError: if the launcher's variables do not fit together, or the others do not come.
    """
    world = _number("WORLD_SIZE", 1)
    if torch.distributed.is_initialized():
        yield _checked(Ranks(rank=torch.distributed.get_rank(), world=torch.distributed.get_world_size()), world)
        return
    if world == 1:
        yield Ranks()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    _meet("nccl" if device.startswith("cuda") else "gloo")
    try:
        ranks = _checked(Ranks(rank=torch.distributed.get_rank(), world=torch.distributed.get_world_size()), world)
        with contextlib.nullcontext() if ranks.first else _quiet():
            yield ranks
    finally:
        torch.distributed.destroy_process_group()


# All of them would say the same.
@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = os.environ.get("IMGCLS_QUIET")
    os.environ["IMGCLS_QUIET"] = "1"
    try:
        yield
    finally:
        del os.environ["IMGCLS_QUIET"]
        if before is not None:
            os.environ["IMGCLS_QUIET"] = before


def _meet(backend: str) -> None:
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"'WORLD_SIZE' must come from a launcher, got {missing} unset beside it; start with torchrun")
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    try:
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]  # not in the stubs' list of names
            os.environ["MASTER_ADDR"],
            _number("MASTER_PORT", 0),
            world,
            # torchrun serves the store itself and says so.
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=timedelta(seconds=_MEETING),
        )
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"'WORLD_SIZE' must be the number of processes that were started, got {world} and not all came within "
            f"{_MEETING} s; start with torchrun --nproc_per_node {world}; {str(error).splitlines()[0]}"
        ) from None


def _checked(ranks: Ranks, world: int) -> Ranks:
    if ranks.world != world:
        raise ConfigError(f"'WORLD_SIZE' must agree with the launcher, got {world} and {ranks.world} processes")
    return ranks


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        raise ConfigError(f"{name!r} must be a whole number, got {text!r}; unset it or start with torchrun")
    return int(text)
