"""A network of your own as a backbone: trained, explained and opened again. Runs in seconds."""

from __future__ import annotations

import attrs
from torch import nn

from imgcls import Backbone, Facts, Trainer, load_run
from imgcls.demo import digits


@attrs.frozen(kw_only=True)
class TinyNet(Backbone):
    """Two convolutions and the mean of their maps."""

    width: int = 16

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        maps = (nn.Conv2d(in_channels, self.width, 3), nn.ReLU(), nn.Conv2d(self.width, self.width, 3), nn.ReLU())
        body = nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # Relevance maps are made where the last maps are: after module 3.
        return body, Facts(num_features=self.width, target_layer="3", mean=(0.5,) * 3, std=(0.5,) * 3)


def main(out: str = "runs/custom-backbone", epochs: int = 8) -> None:
    net = TinyNet(width=32)
    stages = [{"epochs": epochs, "lr": 3e-2}]
    data, image = digits(), {"size": 16, "channels": 1}
    Trainer(data, backbone=net, image=image, splitter="holdout", stages=stages, out=out).fit()
    run = load_run(out, data=data, backbone=net)  # neither is on disk, so both are handed over
    value, low, high = run.value("accuracy")
    print(f"accuracy {value:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    run.explain("grad-cam", limit=4)


if __name__ == "__main__":
    main()
