"""What must be known of a backbone to feed, explain, cut and freeze it."""

from __future__ import annotations

import attrs

from imgcls.models.weights import Unmatched

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Facts"]

#: Mean and standard deviation of ImageNet, which most pretrained weights expect.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@attrs.frozen(kw_only=True)
class Facts:
    """What must be known of a backbone to feed, explain, cut and freeze it.

    Attributes:
        num_features: Length of the feature vector.
        target_layer: Name, within the body, of the module that gives the last feature
            map, from which class activation maps are made; None where there is none.
        layout: The axes of that map: `NCHW`, `NHWC` or `NLC` (tokens).
        prefix_tokens: How many tokens before the patches belong to no place.
        mean: Mean of each channel that the weights expect, in units of 0 to 1.
        std: Standard deviation of each channel in the same units.
        last_map: Name of the module whose map a head with a `pool` of its own takes; None is
            the target layer.
        blocks: Names of modules or parameters of the body, from the stem to the last block,
            a tuple a block: what `Stage(train=2)` counts. Empty derives them from the
            children of the body.
        layers: The same divided more finely, for learning rates that fall layer by layer;
            empty takes the blocks.
        unmatched: Which weights of a file did not fit and were left out, or None.
    """

    num_features: int
    target_layer: str | None = None
    layout: str = "NCHW"
    prefix_tokens: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    last_map: str | None = None
    blocks: tuple[tuple[str, ...], ...] = attrs.field(default=(), repr=False)
    layers: tuple[tuple[str, ...], ...] = attrs.field(default=(), repr=False)
    unmatched: Unmatched | None = None

    def for_channels(self, channels: int) -> Facts:
        """Give one mean and one standard deviation for grey images.

        Args:
            channels: 1 or 3.

        Returns:
            The facts, with the averages of the colours where there is one channel.
        """
        if len(self.mean) == channels:
            return self
        mean, std = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return attrs.evolve(self, mean=(mean,) * channels, std=(std,) * channels)
