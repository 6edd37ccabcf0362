"""Whether a map depends on what it claims to explain: the weights of the model, and the class.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (model randomisation); Sixt, Granz and
Landgraf, When Explanations Lie, ICML 2020 (random logit).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected
from imgcls.core.randomness import derive_seed, generator
from imgcls.evaluation.arrays import Floats, ratio
from imgcls.explain.base import Explainer
from imgcls.explain.targets import NO_CLASS, Target
from imgcls.models.base import Classifier
from imgcls.models.blocks import blocks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["random_logit", "randomised", "rank_correlation"]


def randomised(
    explainer: Explainer, model: nn.Module, images: Tensor, target: Target = None, *, seed: int = 0
) -> pd.DataFrame:
    """Shuffle a model's weights block by block from the head down, and see whether its maps change.

    A map that stays what it was although the model is destroyed shows the image, not the
    model. Weights are permuted within each tensor, which keeps their distribution, and stay
    so while the next block below follows (cascading randomisation).

    Args:
        explainer: The method.
        model: A classifier, whose blocks are used, or any module, whose children are.
        images: (N, C, H, W), normalised.
        target: As in `Explainer.explain`; the class stays that of the model as it is.
        seed: Of the permutations.

    Returns:
        A row a block, from the head down: `block` (down to which all is shuffled), `similarity`
        (mean rank correlation of the sizes of relevance with the maps of the model as it is, near
        0 for a sound method at the end), `n` (images whose maps both say something).
    """
    import pandas as pd

    first = explainer.explain(model, images, target)
    found = []
    for name, changed in _cascade(model, seed):
        other = explainer.explain(changed, images, first.target if target is None else target)
        good = first.valid & other.valid
        values = rank_correlation(first.maps[good], other.maps[good])
        found.append({"block": name, "similarity": _mean(values), "n": int((~np.isnan(values)).sum())})
    return pd.DataFrame(found, columns=["block", "similarity", "n"])


def random_logit(
    explainer: Explainer, model: nn.Module, images: Tensor, target: Target = None, *, seed: int = 0
) -> Floats:
    """Explain another class, drawn by chance, and see whether the maps change.

    Args:
        explainer: The method.
        model: The model.
        images: (N, C, H, W), normalised.
        target: As in `Explainer.explain`.
        seed: Of the other classes.

    Returns:
        (N,) rank correlation of the sizes of relevance of the two maps: 1 for a method that looks
        at no class. NaN where a map says nothing.

    Raises:
        ConfigError: if something else than classes is explained.
    """
    first = explainer.explain(model, images, target)
    if (first.target == NO_CLASS).any():
        raise rejected("target", "be None or classes, since another one is drawn", target)
    classes = max(first.logits.shape[1], 2)
    steps = generator(seed, "random-logit").integers(1, classes, len(images))
    other = explainer.explain(model, images, (first.target + steps) % classes)
    values = rank_correlation(first.maps, other.maps)
    return np.where(first.valid & other.valid, values, np.nan)


def rank_correlation(first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]) -> Floats:
    """Compute Spearman's correlation of the sizes of relevance, image by image.

    Args:
        first: Maps (N, H, W).
        second: Other maps (N, H, W).

    Returns:
        (N,) from -1 to 1; NaN where all pixels of a map are equal.

    Raises:
        ConfigError: if the sizes differ.
    """
    from scipy.stats import rankdata

    if first.shape != second.shape:
        raise ConfigError(f"'second' must have the size of the first maps, {first.shape}, got {second.shape}")
    flat = (len(first), first.shape[1] * first.shape[2])
    ranks = [rankdata(np.abs(maps).reshape(flat), axis=1) for maps in (first, second)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    norms = [np.sqrt((rank**2).sum(axis=1)) for rank in centred]
    return ratio((centred[0] * centred[1]).sum(axis=1), norms[0] * norms[1])


def _cascade(model: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    changed = copy.deepcopy(model)
    for name, prefix in _parts(model):
        with torch.no_grad():
            for key, parameter in changed.named_parameters():
                if key in prefix:
                    parameter.copy_(_shuffled(parameter, seed, key))
        yield name, changed


def _shuffled(values: Tensor, seed: int, key: str) -> Tensor:
    rng = torch.Generator().manual_seed(derive_seed(seed, "shuffled", key))
    order = torch.randperm(values.numel(), generator=rng).to(values.device)
    return values.flatten()[order].view_as(values)


# Blocks from the head down, each with the names of its parameters.
def _parts(model: nn.Module) -> list[tuple[str, set[str]]]:
    names = [name for name, _ in model.named_parameters()]
    if isinstance(model, Classifier):
        head = {name for name in names if name.startswith("head.")}
        return [("head", head), *((block.name, set(block.parameters)) for block in reversed(blocks(model)))]
    children = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return [(child, {name for name in names if name.partition(".")[0] == child}) for child in reversed(children)]


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
