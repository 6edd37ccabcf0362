"""The layers between a backbone's features and the logits."""

from __future__ import annotations

import attrs
from torch import nn

from imgcls.core import options

__all__ = ["Head"]


@attrs.frozen(kw_only=True)
class Head:
    """A linear layer, or a small network before it.

    Attributes:
        depth: How many linear layers; those before the last have half of the features as
            width and a ReLU.
        dropout: Share of the features that is dropped before each linear layer.
    """

    depth: int = attrs.field(default=1, validator=options.count(1))
    dropout: float = attrs.field(default=0.0, validator=options.number(0, 1, below=True))

    def build(self, num_features: int, num_outputs: int) -> nn.Module:
        """Make the layers.

        Args:
            num_features: Length of the feature vector.
            num_outputs: How many logits.

        Returns:
            A module from features (B, F) to logits (B, K).
        """
        layers: list[nn.Module] = []
        width = num_features
        for _ in range(self.depth - 1):
            hidden = max(num_features // 2, 1)
            layers += [*self._dropout(), nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, *self._dropout(), nn.Linear(width, num_outputs))

    def _dropout(self) -> list[nn.Module]:
        return [nn.Dropout(self.dropout)] if self.dropout else []
