"""Which class is explained, and the number that speaks for it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected

__all__ = ["Target", "resolve", "scores"]

#: A class for all images, one class per image, or None for the predicted one.
Target = SupportsIndex | Sequence[int] | NDArray[np.integer[Any]] | Tensor | None


def resolve(target: Target, logits: Tensor) -> Tensor:
    """Turn what the user gave into one class per image.

    Args:
        target: A class for all images, one class per image (B,), or None for the class that
            the model predicts.
        logits: (B, K), or (B, 1) of a binary head with one logit, which speaks for class 1.

    Returns:
        (B,) int64, on the device of the logits.

    Raises:
        ConfigError: if a class is out of range, or there is not one per image.

    Examples:
        >>> resolve(None, torch.tensor([[0.1, 0.9], [0.8, 0.2]]))
        tensor([1, 0])
    """
    if target is None:
        return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
    classes = max(logits.shape[1], 2)
    values = target.tolist() if isinstance(target, Tensor | np.ndarray) else target
    if isinstance(values, Sequence) and not isinstance(values, str):
        chosen = [_class(value, classes) for value in values]
    else:
        chosen = [_class(values, classes)] * len(logits)
    if len(chosen) != len(logits):
        raise ConfigError(f"'target' must have one class per image, {len(logits)} in all, got {len(chosen)} of them")
    return torch.tensor(chosen, device=logits.device)


def scores(logits: Tensor, target: Tensor) -> Tensor:
    """Pick the number that is explained.

    Args:
        logits: (B, K), or (B, 1) of a binary head with one logit.
        target: (B,) int64, as `resolve` returns it.

    Returns:
        (B,) the logit of the target; with one logit that logit for class 1 and minus that
        logit for class 0.

    Examples:
        >>> scores(torch.tensor([[2.0], [3.0]]), torch.tensor([0, 1]))
        tensor([-2.,  3.])
    """
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * target - 1)
    return logits.gather(1, target[:, None])[:, 0]


def _class(value: Any, classes: int) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < classes:
        raise rejected("target", f"be None, or classes from 0 to {classes - 1}", value)
    return number
