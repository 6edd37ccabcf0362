"""The layers between a backbone's features and the logits."""

from __future__ import annotations

from itertools import pairwise

import attrs
from torch import nn

from imgcls.core import options
from imgcls.models.cuts import POOLS

__all__ = ["Head"]


@attrs.frozen(kw_only=True)
class Head:
    """A linear layer, or a small network before it.

    Examples: `Head()` is linear, `Head(dropout=0.2)` drops features before that,
    `Head(depth=2, dropout=0.5)` has a hidden layer of half the features, and
    `Head(pool="avg")` is a linear layer on the mean of the last maps, so that a class
    activation map (Zhou et al., 2016) is exact: the logit is the mean of the map and the bias.

    Attributes:
        depth: How many linear layers; each of those before the last is followed by a ReLU.
        width: Width of the hidden layers; None is half of the features.
        dropout: Share that is dropped: after each hidden layer, or of the features where there
            is none.
        pool: How the last maps become features: `avg`, `max` or `avgmax` (the mean of both);
            None leaves that to the backbone, which may have layers of its own there.
    """

    depth: int = attrs.field(default=1, validator=options.count(1))
    width: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))
    dropout: float = attrs.field(default=0.0, validator=options.number(0, 1, below=True))
    pool: str | None = attrs.field(default=None, validator=options.optional(options.choice(*POOLS)))

    def __attrs_post_init__(self) -> None:
        if self.width is not None and self.depth == 1:
            raise options.rejected("width", "be left out for a head without hidden layers", self.width)

    def build(self, num_features: int, num_outputs: int) -> nn.Module:
        """Make the layers.

        Args:
            num_features: Length of the feature vector.
            num_outputs: How many logits.

        Returns:
            A module from features (B, F) to logits (B, K).
        """
        hidden = self.width or max(num_features // 2, 1)
        widths = [num_features, *[hidden] * (self.depth - 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), *self._dropout()]
        return nn.Sequential(*(layers or self._dropout()), nn.Linear(widths[-1], num_outputs))

    def _dropout(self) -> list[nn.Module]:
        return [nn.Dropout(self.dropout)] if self.dropout else []
