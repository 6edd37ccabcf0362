"""Which parts of a classifier train, and the mode of each."""

from __future__ import annotations

from torch import nn

from imgcls.core.options import rejected
from imgcls.models.base import Classifier
from imgcls.models.blocks import blocks, match

__all__ = ["freeze", "set_modes", "trained"]


def trained(classifier: Classifier, train: str | int) -> frozenset[str]:
    """Name the parameters that train.

    Args:
        classifier: The classifier.
        train: `"head"`; `"all"`; a number, for that many last blocks and the head; or a
            pattern of names in the backbone, such as `layer4.*`, and the head.

    Returns:
        Names in the classifier.

    Raises:
        ConfigError: if there are not so many blocks, or nothing matches the pattern.
    """
    head = frozenset(f"head.{name}" for name, _ in classifier.head.named_parameters())
    if train == "head":
        return head
    if train == "all":
        return frozenset(name for name, _ in classifier.named_parameters())
    if isinstance(train, str):
        return head | frozenset(match(classifier, train))
    known = blocks(classifier)
    if not 1 <= train <= len(known):
        remedy = "'all' trains everything, 'head' nothing of the backbone; 'imgcls backbones show' lists the blocks"
        raise rejected("train", f"be from 1 to the number of blocks, {len(known)}", train, remedy)
    return head.union(*(block.parameters for block in known[-train:]))


def freeze(classifier: Classifier, train: str | int) -> None:
    """Let parts of a classifier train and freeze the rest, in `requires_grad` and mode.

    Args:
        classifier: The classifier, which is changed.
        train: What trains, as in `trained`.

    Raises:
        ConfigError: if there are not so many blocks, or nothing matches the pattern.
    """
    names = trained(classifier, train)
    for name, parameter in classifier.named_parameters():
        parameter.requires_grad_(name in names)
    set_modes(classifier)


def set_modes(classifier: Classifier) -> None:
    """Put what trains into training mode and what is frozen into evaluation mode.

    Frozen batch norms keep their statistics, and nothing is dropped in frozen parts. A module
    without parameters, such as dropout, follows what stands before it.

    Args:
        classifier: The classifier, whose `requires_grad` say what trains; its head always does.
    """
    classifier.train()
    _set(classifier.body)


def _set(module: nn.Module) -> None:
    needs = [parameter.requires_grad for parameter in module.parameters()]
    module.train(any(needs))
    if all(needs) or not any(needs):
        return
    children = list(module.children())
    mode = False
    for child in children:
        if any(True for _ in child.parameters()):
            _set(child)
            mode = any(parameter.requires_grad for parameter in child.parameters())
        else:
            child.train(mode)
