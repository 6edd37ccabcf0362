"""The colours of the report can be told apart: contrast as WCAG 2.2 defines it (success criteria 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("imgcls.report").joinpath("style.css").read_text(encoding="utf-8")

#: What text is written in, and what it stands on.
TEXTS, GROUNDS = ("ink", "soft", "accent", "error", "warning"), ("paper", "card")


def colours(mode: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if mode == "light" else dark))


def luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_has_the_largest_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_can_be_read(mode: str, text: str, ground: str) -> None:
    known = colours(mode)
    assert contrast(known[text], known[ground]) >= 4.5


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_colour_of_text_and_ground_is_among_those(mode: str) -> None:
    assert set(colours(mode)) == {*TEXTS, *GROUNDS, "line"}
    used = re.findall(r"(?<![\w-])color: ([^;}]+)", STYLE)
    assert set(used) <= {f"var(--{name})" for name in TEXTS}
    grounds = re.findall(r"background: ([^;}]+)", STYLE)
    assert set(grounds) <= {f"var(--{name})" for name in GROUNDS} | {"#000", "#fff"}  # these two lie behind pictures
