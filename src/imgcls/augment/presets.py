"""Lists of transforms by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PRESETS"]

_DISTORTIONS = {"name": "one-of", "p": 0.2, "transforms": ["elastic", "grid-distortion", "optical-distortion"]}
_BLURS = {"name": "one-of", "p": 0.3, "transforms": ["gaussian-blur", "motion-blur", "median-blur"]}
_RELIEFS = {
    "name": "one-of",
    "p": 0.2,
    "transforms": ["clahe", {"name": "sharpen", "factor": [1, 3]}, {"name": "emboss", "share": [0.1, 0.4]}],
}
_NOISES = {"name": "one-of", "p": 0.3, "transforms": [{"name": "gaussian-noise", "std": [0.01, 0.1]}, "jpeg"]}

_LIGHT = (
    "flip-lr",
    {"name": "rotate", "degrees": 5},
    {"name": "translate", "x": 0.05, "y": 0.05},
    {"name": "brightness", "factor": 0.1},
    {"name": "contrast", "factor": 0.1},
)

_MEDIUM = (
    "flip-lr",
    {"name": "rotate", "degrees": 15},
    {"name": "scale", "factor": 0.1},
    {"name": "translate", "x": 0.1, "y": 0.1},
    {"name": "brightness", "factor": 0.2},
    {"name": "contrast", "factor": 0.2},
    {"name": "gamma", "gamma": [0.8, 1.25], "p": 0.3},
    {"name": "gaussian-noise", "std": [0.01, 0.05], "p": 0.25},
    {"name": "gaussian-blur", "sigma": [0.1, 1.5], "p": 0.25},
    {"name": "erasing", "area": [0.02, 0.15], "p": 0.25},
)

_STRONG = (
    "flip-lr",
    {"name": "rotate", "degrees": 30, "p": 0.7},
    {"name": "shear", "x": 10, "y": 10, "p": 0.3},
    {"name": "random-resized-crop", "area": [0.5, 1.0], "p": 0.7},
    _DISTORTIONS,
    {"name": "brightness", "factor": 0.35, "p": 0.7},
    {"name": "contrast", "factor": 0.35, "p": 0.7},
    {"name": "gamma", "gamma": [0.6, 1.6], "p": 0.4},
    {"name": "saturation", "factor": 0.4, "p": 0.4},
    {"name": "hue", "shift": 0.05, "p": 0.3},
    _BLURS,
    _RELIEFS,
    _NOISES,  # last, as in a camera: noise that is blurred and then sharpened becomes streaks
    {"name": "erasing", "area": [0.02, 0.25], "p": 0.4},
)

# In the manner of Mueller and Hutter (2021): one operation, of any strength up to a great one, each as likely as doing
# nothing. Inverting, solarising and posterising are left out, which destroy what grey levels mean.
_TRIVIAL = (
    {
        "name": "one-of",
        "p": 13 / 14,
        "transforms": [
            {"name": "flip-lr"},
            {"name": "rotate", "degrees": 135},
            {"name": "scale", "factor": [0.6, 1.6]},
            {"name": "translate", "x": 0.15, "y": 0},
            {"name": "translate", "x": 0, "y": 0.15},
            {"name": "shear", "x": 45},
            {"name": "shear", "x": 0, "y": 45},
            {"name": "brightness", "factor": [0.1, 1.9]},
            {"name": "contrast", "factor": [0.1, 1.9]},
            {"name": "gamma", "gamma": [0.4, 2.5]},
            {"name": "saturation", "factor": [0.1, 1.9]},
            {"name": "sharpen", "factor": [0.1, 1.9]},
            {"name": "gaussian-blur", "sigma": [0.1, 3.0]},
        ],
    },
)

PRESETS: Mapping[str, tuple[Any, ...]] = {
    "none": (),
    "light": _LIGHT,
    "medium": _MEDIUM,
    "strong": _STRONG,
    "trivial": _TRIVIAL,
}
"""Specs of the transforms of each preset."""
