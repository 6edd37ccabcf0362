"""What a transform is: ranges of parameters, drawn from uniforms, and a pure function of images and parameters."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import final

import attrs
import torch
from torch import Tensor

from imgcls.augment.ranges import Range
from imgcls.core import config

__all__ = ["Displacement", "Geometric", "Intensity", "Leaf", "Mixing", "Size", "Step", "Transform", "plan", "spread"]

Size = tuple[int, int]


class Transform(config.Named, abc.ABC):
    """A transform, or a group of them, that happens to an image with the chance `p`.

    Attributes:
        p: The chance, from 0 to 1.
    """

    p: float

    @property
    @abc.abstractmethod
    def num_uniforms(self) -> int:
        """How many uniforms an image needs, beside the one that `p` is compared with."""

    @abc.abstractmethod
    def steps(self, uniforms: Tensor, active: Tensor) -> list[Step]:
        """Draw what happens to the images of a batch.

        Args:
            uniforms: Uniforms (B, num_uniforms) in [0, 1).
            active: Which images it happens to, (B,), bool.

        Returns:
            One step for each transform that may happen.
        """


class Leaf(Transform):
    """A transform that is no group."""

    @property
    @final
    def num_uniforms(self) -> int:
        """How many uniforms an image needs, beside the one that `p` is compared with."""
        return len(self._ranges())

    @final
    def parameters(self, uniforms: Tensor) -> Tensor:
        """Turn uniforms into parameters, evenly between lowest and highest.

        Args:
            uniforms: Uniforms (B, num_uniforms) in [0, 1).

        Returns:
            Parameters (B, num_uniforms), float64, on the CPU.
        """
        low, high = torch.tensor(self._ranges(), dtype=torch.float64).view(-1, 2).unbind(1)
        return low + (high - low) * uniforms.double()

    @final
    def steps(self, uniforms: Tensor, active: Tensor) -> list[Step]:
        """Draw what happens to the images of a batch.

        Args:
            uniforms: Uniforms (B, num_uniforms) in [0, 1).
            active: Which images it happens to, (B,), bool.

        Returns:
            One step.
        """
        return [Step(transform=self, active=active, parameters=self.parameters(uniforms))]

    @abc.abstractmethod
    def _ranges(self) -> tuple[Range, ...]: ...  # the lowest and the highest value of each parameter


class Geometric(Leaf):
    """Moves pixels along straight lines: a 3x3 matrix for each image."""

    @final
    def matrices(self, parameters: Tensor, size: Size) -> Tensor:
        """Say where each pixel of the result comes from.

        Args:
            parameters: Parameters (B, num_uniforms).
            size: Height and width in pixels.

        Returns:
            Matrices (B, 3, 3), float64, from (x, y, 1) of the result to the same of the
            image, in pixels to the right of and below the centre.
        """
        return self._matrices(parameters, size)

    @abc.abstractmethod
    def _matrices(self, parameters: Tensor, size: Size, /) -> Tensor: ...


class Displacement(Leaf):
    """Moves pixels along curves: a shift for each pixel."""

    @final
    def field(self, parameters: Tensor, size: Size, device: torch.device) -> Tensor:
        """Say how far from its own place each pixel of the result comes.

        Args:
            parameters: Parameters (B, num_uniforms).
            size: Height and width in pixels.
            device: Where the field is made.

        Returns:
            Shifts (B, H, W, 2), to the right and down, in pixels, float32.
        """
        return self._field(parameters, size, device)

    @abc.abstractmethod
    def _field(self, parameters: Tensor, size: Size, device: torch.device, /) -> Tensor: ...


class Intensity(Leaf):
    """Changes values and leaves everything where it is."""

    @final
    def change(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Change images.

        Args:
            images: Images (B, C, H, W) from 0 to 1, float32; they are left as they are.
            parameters: Parameters (B, num_uniforms), on the CPU.

        Returns:
            The changed images, from 0 to 1.
        """
        found = self._change(images, parameters)
        return found.clamp(0, 1) if found is images else found.clamp_(0, 1)

    @abc.abstractmethod
    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor: ...


class Mixing(Leaf):
    """Mixes an image with another of the batch, and their targets alike.

    The last parameter chooses the other image.
    """

    @final
    def mix(self, images: Tensor, targets: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Mix images and targets.

        Args:
            images: Images (B, C, H, W).
            targets: Targets (B, K), float: one-hot or already mixed.
            step: Which images are mixed, with their parameters.

        Returns:
            Mixed images and targets.
        """
        (index, parameters), count = step.drawn(), len(images)
        partner = (index + 1 + (parameters[:, -1] * (count - 1)).long()) % count
        own, other = index.to(images.device), partner.to(images.device)
        mixed, shares = self._mix(images[own], images[other], parameters)
        kept = shares.to(targets).unsqueeze(1)
        soft = kept * targets[own] + (1 - kept) * targets[other]
        return images.index_copy(0, own, mixed), targets.index_copy(0, own, soft)

    # Pairs of images (B, C, H, W) become mixed images and the share of the first in them, (B,).
    @abc.abstractmethod
    def _mix(self, images: Tensor, others: Tensor, parameters: Tensor, /) -> tuple[Tensor, Tensor]: ...


@final
@attrs.frozen(kw_only=True, eq=False)
class Step:
    """A transform with what chance gave it for a batch.

    Attributes:
        transform: The transform.
        active: Which images it happens to, (B,), bool, on the CPU.
        parameters: Parameters (B, num_uniforms), float64, on the CPU.
    """

    transform: Leaf
    active: Tensor
    parameters: Tensor

    def within(self, part: slice) -> Step:
        """Look at a part of the batch.

        Args:
            part: Which images.

        Returns:
            The step of these.
        """
        return Step(transform=self.transform, active=self.active[part], parameters=self.parameters[part])

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Leave out the images that it does not happen to.

        Returns:
            Positions in the batch (A,) and parameters (A, num_uniforms).
        """
        index = self.active.nonzero().squeeze(1)
        return index, self.parameters[index]


def plan(transforms: Sequence[Transform], uniforms: Tensor, member: Tensor) -> list[Step]:
    """Draw what happens to the images of a batch.

    Args:
        transforms: In their order.
        uniforms: Uniforms (B, columns), the columns one transform after the other.
        member: Which images the transforms are for, (B,), bool.

    Returns:
        The steps that happen to some image, in order.
    """
    steps: list[Step] = []
    first = 0
    for transform in transforms:
        chance, own = uniforms[:, first], uniforms[:, first + 1 : first + 1 + transform.num_uniforms]
        # in float64: a float32 compared with a number is compared in float32, where a p near 1 is 1
        steps += transform.steps(own, member & (chance.double() < transform.p))
        first += 1 + transform.num_uniforms
    return [step for step in steps if step.active.any()]


def spread(parameters: Tensor, images: Tensor) -> list[Tensor]:
    """Bring parameters to where images are, one value an image.

    Args:
        parameters: Parameters (B, n).
        images: Images (B, C, H, W).

    Returns:
        n tensors (B, 1, 1, 1).
    """
    return [column.view(-1, 1, 1, 1) for column in parameters.to(images).unbind(1)]
