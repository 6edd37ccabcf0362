from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imgcls.core import config
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError
from imgcls.data.spec import ImageSpec


def test_depth_decides_type_and_levels() -> None:
    assert [(spec.dtype, spec.levels) for spec in (ImageSpec(), ImageSpec(bits=16))] == [
        (np.dtype(np.uint8), 255),
        (np.dtype(np.uint16), 65535),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 32},
        {"channels": 1},
        {"fit": "crop"},
        {"fit": "letterbox"},
        {"fit": "letterbox", "fill": "replicate"},
        {"interpolation": "lanczos"},
        {"bits": 16},
        {"range": (0, 4095)},
    ],
)
def test_what_changes_pixels_changes_their_key(change: dict[str, Any]) -> None:
    known = [ImageSpec().pixels]
    if "fill" in change:
        known.append(ImageSpec(fit="letterbox").pixels)
    assert ImageSpec(**change).pixels not in known


def test_normalisation_does_not_change_the_key() -> None:
    assert ImageSpec(mean="imagenet", std="imagenet").pixels == ImageSpec().pixels


def test_statistics_are_numbers_where_they_are_known() -> None:
    assert ImageSpec(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 1]).statistics == ((0.1, 0.2, 0.3), (0.4, 0.5, 1))
    assert ImageSpec().statistics is None
    assert ImageSpec(mean="dataset", std="dataset").statistics is None
    assert ImageSpec(mean="imagenet", std="imagenet").statistics == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_grey_takes_the_mean_of_the_colours_of_imagenet() -> None:
    statistics = ImageSpec(channels=1, mean="imagenet", std="imagenet").statistics
    assert statistics is not None
    assert np.allclose(statistics, [[0.449], [0.226]])


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(),
        ImageSpec(size=(3, 4), channels=1, fit="letterbox", fill="replicate", bits=16, range=(-1000, 400)),
        ImageSpec(mean="dataset", std="dataset"),
        ImageSpec(channels=1, mean=0.5, std=0.25),
    ],
)
def test_spec_survives_a_file(spec: ImageSpec) -> None:
    text = config.to_yaml(dump(spec))
    assert config.build(ImageSpec, config.from_yaml(text), path="image") == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"'size' must be a side in pixels or \(height, width\), got \(0, 0\)"),
        ({"size": (3, 4, 5)}, "'size' must"),
        ({"size": True}, "'size' must"),
        ({"channels": 2}, "'channels' must be 1 or 3, got 2"),
        ({"channels": True}, "'channels' must be an int, got True"),
        ({"fit": "squash"}, "'fit' must be one of 'stretch', 'letterbox', 'crop', got 'squash'"),
        ({"fill": "edge"}, "'fill' must be one of 'constant', 'replicate', got 'edge'"),
        ({"fill": "replicate"}, "'fill' has no effect with fit='stretch', got 'replicate'; set fit='letterbox'"),
        ({"interpolation": "cubic"}, "'interpolation' must be one of .* got 'cubic'; did you mean 'bicubic'"),
        ({"bits": 12}, "'bits' must be 8 or 16, got 12"),
        ({"bits": "16"}, "'bits' must be an int, got '16'"),
        ({"range": (5, 5)}, r"'range' must be \(low, high\), two finite numbers with low below high, got \(5.0, 5.0\)"),
        ({"range": (0, float("inf"))}, r"'range' must be \(low, high\)"),
        ({"range": 5}, r"'range' must be \(low, high\), .* got \(5.0,\)"),
        ({"range": "0-5"}, r"'range' must be \(low, high\), .* got '0-5'"),
        ({"mean": 0.5}, "'mean' and 'std' must be given together"),
        ({"mean": "imagenet"}, "'mean' and 'std' must be given together"),
        ({"mean": "imagenet", "std": "dataset"}, "'std' must be .* the same word as its 'imagenet', got 'dataset'"),
        ({"mean": "imagenet", "std": [1] * 3}, r"'std' must be .* got \(1.0, 1.0, 1.0\)"),
        ({"mean": 0.5, "std": 0.5}, r"'mean' must have 3 numbers, one a channel, got \(0.5,\)"),
        ({"mean": 0.5, "std": 0, "channels": 1}, r"'std' must be above 0, got \(0.0,\)"),
        ({"mean": ["x"] * 3, "std": [1] * 3}, r"'mean' must be one finite number a channel, .* got \['x', 'x', 'x'\]"),
        ({"mean": "abc", "std": "abc"}, "'mean' must be one finite number a channel, or 'imagenet' or 'dataset', got"),
        ({"mean": [0] * 3, "std": [float("nan")] * 3}, "'std' must be one finite"),
    ],
)
def test_wrong_spec_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**options)
