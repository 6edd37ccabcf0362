"""What is explained: a number that is made of the logits."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgcls.core import options
from imgcls.core.errors import ConfigError, UnsupportedModelError, nearest
from imgcls.core.options import rejected

__all__ = ["NO_CLASS", "Contrast", "Score", "Target", "resolve", "scores"]

#: Stands in `Attributions.target` where a function of the logits is explained.
NO_CLASS = -1


@final
@attrs.frozen(kw_only=True)
class Contrast:
    """Why one class and not another: the logit of the one minus that of the other.

    Attributes:
        of: The class; None is the predicted one.
        against: The other; None is the most likely one besides `of`.
    """

    of: int | None = attrs.field(default=None, validator=options.optional(options.count(0)))
    against: int | None = attrs.field(default=None, validator=options.optional(options.count(0)))

    def __attrs_post_init__(self) -> None:
        if self.of is not None and self.of == self.against:
            raise rejected("against", "be another class than 'of'", self.against)


#: None for the predicted class; a class for all images or one per image (B,), as index or name;
#: a `Contrast`; weights of the logits (B, K); or a function from logits (B, K) to scores (B,).
Target = (
    SupportsIndex
    | str
    | Sequence[int]
    | Sequence[str]
    | NDArray[Any]
    | Tensor
    | Contrast
    | Callable[[Tensor], Tensor]
    | None
)


@final
@attrs.define(eq=False)
class Score:
    """The number that is explained, as a function of logits.

    The first logits it is called with must be those of the images that are explained: they
    decide which class is meant where the user named none.

    Attributes:
        given: What the user asked for.
        classes: The names of the classes, if the user gave them.
        logits: (B, K) the first logits; None before the first call.
        target: (B,) int64 the class that is explained, `NO_CLASS` for a function of the logits.
    """

    given: Target
    classes: Sequence[str] | None = None
    logits: Tensor | None = None
    target: Tensor | None = None
    _weights: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Compute the scores.

        Args:
            logits: (B, K), of the images or of what a method makes of them, in their order.

        Returns:
            (B,).
        """
        if self.logits is None:
            self._decide(logits)
        if self._weights is None:
            return self._called(logits)
        return torch.where(self._weights != 0, logits * self._weights, 0).sum(dim=1)

    def kind(self) -> str:
        """Say in a word what is explained.

        Returns:
            `predicted`, `class`, `contrast`, `weights` or `function`.
        """
        if self.given is None:
            return "predicted"
        if isinstance(self.given, Contrast):
            return "contrast"
        if _is_weights(self.given):
            return "weights"
        return "function" if _is_function(self.given) else "class"

    def _decide(self, logits: Tensor) -> None:
        kind = self.kind()
        if kind == "function":
            self.target = torch.full((len(logits),), NO_CLASS, device=logits.device)
        elif kind == "weights":
            self._weights = _weights(self.given, logits)
            self.target = self._weights.argmax(dim=1)
        elif isinstance(self.given, Contrast):
            self.target, self._weights = _contrast(self.given, logits)
        else:
            self.target = resolve(_numbers(self.given, self.classes), logits)
            self._weights = _one_hot(self.target, logits)
        self.logits = logits.detach()

    def _called(self, logits: Tensor) -> Tensor:
        assert callable(self.given)
        found = self.given(logits)
        if not isinstance(found, Tensor) or found.shape != (len(logits),) or not found.is_floating_point():
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise rejected("target", f"give one score per image ({len(logits)},) as a function of the logits", got)
        return found


def resolve(target: Any, logits: Tensor) -> Tensor:
    """Turn classes as the user gave them into one class per image.

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


def scores(logits: Tensor, target: Score | Tensor) -> Tensor:
    """Compute the number that is explained.

    Args:
        logits: (B, K), or (B, 1) of a binary head with one logit.
        target: What `Explainer.attribute` was given, or classes (B,) int64.

    Returns:
        (B,) the logit of the target, with one logit that logit for class 1 and minus that
        logit for class 0; or what else the user asked for.

    Raises:
        UnsupportedModelError: if these are no logits (B, K).

    Examples:
        >>> scores(torch.tensor([[2.0], [3.0]]), torch.tensor([0, 1]))
        tensor([-2.,  3.])
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(f"'model' must give logits (B, K), got {got}")
    return target(logits) if isinstance(target, Score) else Score(target)(logits)


def _is_weights(given: Any) -> bool:
    return isinstance(given, Tensor | np.ndarray) and given.ndim == 2


def _is_function(given: Any) -> bool:
    return callable(given) and not isinstance(given, Tensor)


def _weights(given: Any, logits: Tensor) -> Tensor:
    weights = torch.as_tensor(given, dtype=logits.dtype, device=logits.device).detach()
    if weights.shape != logits.shape or not weights.isfinite().all():
        rule = f"have finite weights of the shape of the logits {tuple(logits.shape)}"
        raise rejected("target", rule, tuple(weights.shape))
    return weights


def _contrast(given: Contrast, logits: Tensor) -> tuple[Tensor, Tensor]:
    if logits.shape[1] == 1:
        raise rejected("target", "be a class where the head has one logit", given, "0 or 1 say the same there")
    of = resolve(given.of, logits)
    others = logits.scatter(1, of[:, None], -torch.inf)
    against = resolve(given.against, others)
    if bool((of == against).any()):
        raise rejected("target", "contrast two classes", given, "name 'of', or leave 'against' out")
    return of, _one_hot(of, logits) - _one_hot(against, logits)


def _one_hot(target: Tensor, logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return (2 * target - 1)[:, None].to(logits.dtype)
    return functional.one_hot(target, logits.shape[1]).to(logits.dtype)


# Names in place of numbers; what is no name is left to 'resolve'.
def _numbers(given: Any, classes: Sequence[str] | None) -> Any:
    if isinstance(given, list | tuple):
        return [_numbers(value, classes) for value in given]
    if not isinstance(given, str) or classes is None:
        return given
    if given not in classes:
        raise ConfigError(f"'target' must be a class, got {given!r}; {nearest(given, classes)}")
    return list(classes).index(given)


def _class(value: Any, classes: int) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < classes:
        raise rejected("target", f"be None, or classes from 0 to {classes - 1}", value)
    return number
