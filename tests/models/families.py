"""Small networks of many kinds, with random weights."""

from __future__ import annotations

from typing import Any

from imgcls.models.base import Classifier, backbones

SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "options": {"depths": [1, 1], "embed_dim": 24, "num_heads": [2, 2]},
}

#: By name: spec, side of the images, a cut, and the channels, side and layout of the maps behind it.
FAMILIES: dict[str, tuple[dict[str, Any], int, str, tuple[int, int, str]]] = {
    "small-cnn": ({"name": "small-cnn", "base": 4, "depth": 3}, 16, "stride2", (8, 8, "NCHW")),
    "resnet": ({"name": "test_resnet"}, 64, "stride16", (192, 4, "NCHW")),
    "mobilenetv2": ({"name": "mobilenetv2_050"}, 64, "stride16", (48, 4, "NCHW")),
    "efficientnet": ({"name": "test_efficientnet"}, 64, "blocks.3.0.conv_pw", (128, 8, "NCHW")),
    "convnext": ({"name": "test_convnext"}, 64, "stride16", (48, 4, "NCHW")),
    "regnet": ({"name": "regnety_002"}, 64, "stride16", (152, 4, "NCHW")),
    "vit": ({"name": "test_vit"}, 64, "blocks.2", (64, 4, "NLC")),
    "swin": (SWIN, 56, "stride4", (24, 14, "NHWC")),
    "tv-shufflenet": ({"name": "torchvision/shufflenet_v2_x0_5"}, 64, "stride16", (96, 4, "NCHW")),
    "tv-mobilenet": ({"name": "torchvision/mobilenet_v3_small"}, 64, "features.9.block.0", (288, 4, "NCHW")),
}  # fmt: skip


def build(name: str, outputs: int = 3, **options: Any) -> Classifier:
    """Build a family's network; `cut` and `weights` go into its spec, the rest to `build`."""
    spec, side, _, _ = FAMILIES[name]
    given: dict[str, Any] = {key: options.pop(key) for key in ("cut", "weights", "strict") if key in options}
    if name != "small-cnn" and "weights" not in given:
        given["pretrained"] = False
    return backbones.create(spec | given).build(outputs, **{"image_size": (side, side), **options})
