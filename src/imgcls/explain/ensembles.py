"""Several models that answer together, such as those of the folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from imgcls.core.options import rejected
from imgcls.explain.isolation import isolated

__all__ = ["Ensemble"]


@final
class Ensemble(nn.Module):
    """The mean of the logits of several models.

    Every explainer explains it: the class is chosen by the mean of the logits, each member is
    explained for that class, and the map is the mean of the maps. What conserves the scores
    of the members so conserves their mean, which is what the ensemble says.

    Args:
        members: The models, at least one, from images (B, C, H, W) to logits (B, K).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise rejected("members", "hold models", list(members))
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: (B, C, H, W).

        Returns:
            The mean of the members' logits (B, K).
        """
        return torch.stack([member(images) for member in self.members]).mean(dim=0)

    def logits(self, images: Tensor) -> Tensor:
        """Compute logits in evaluation mode, whatever mode the members are in, which they keep.

        Args:
            images: (B, C, H, W).

        Returns:
            The mean of the members' logits (B, K), without a graph.
        """
        with torch.no_grad():
            logits: Tensor = isolated(self)(images)
        return logits
