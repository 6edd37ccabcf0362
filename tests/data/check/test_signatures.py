from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.check import signatures
from imgcls.data.check.scan import eight_bits, scan
from imgcls.data.check.signatures import similarity, sketch
from imgcls.data.dataset import Dataset


def _compared(first: NDArray[Any], second: NDArray[Any], *, mirror: bool = False) -> tuple[int, float]:
    """Bits between the hashes and correlation of two pictures."""
    thumbs = [scan(Dataset.from_arrays(image[None], ["a"], classes=["a", "b"])).thumbs for image in (first, second)]
    found = sketch(np.concatenate(thumbs))
    other = found.mirrored[1] if mirror else found.hashes[1]
    value = similarity(found.spectra, np.array([0]), np.array([1]), mirror=mirror)
    return int(found.hashes[0] ^ other).bit_count(), float(value[0])


def _compressed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def _lit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    light = np.linspace(0.5, 1.2, image.shape[1])
    return np.clip(image * light, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "smaller": lambda image: np.asarray(Image.fromarray(image).resize((40, 36))),
    "larger": lambda image: np.asarray(Image.fromarray(image).resize((200, 150))),
    "compressed": _compressed,
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "negative contrast": lambda image: (20 + image * 0.4).astype(np.uint8),
    "lit from the side": _lit,
    "shifted": lambda image: np.roll(image, (1, 2), axis=(0, 1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_alike(texture: Callable[..., NDArray[np.uint8]], name: str) -> None:
    for seed in range(5):
        bits, value = _compared(texture(seed), CHANGES[name](texture(seed)))
        assert bits <= 12
        assert value > 0.75


def test_other_pictures_are_not_alike(texture: Callable[..., NDArray[np.uint8]]) -> None:
    found = sketch(np.stack([texture(seed, size=(64, 64)) for seed in range(40)]))
    first, second = np.triu_indices(40, 1)
    assert similarity(found.spectra, first, second).max() < 0.6
    assert similarity(found.spectra, first, second, mirror=True).max() < 0.6


def test_pieces_change_no_similarity(
    texture: Callable[..., NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sketch(np.stack([texture(seed, size=(64, 64)) for seed in range(8)]))
    first, second = np.triu_indices(8, 1)
    whole = similarity(found.spectra, first, second, mirror=True)
    monkeypatch.setattr(signatures, "_PAIRS", 5)
    assert np.allclose(similarity(found.spectra, first, second, mirror=True), whole, atol=1e-5)
    assert len(similarity(found.spectra, first[:0], second[:0])) == 0


def test_a_mirrored_copy_is_alike_when_mirrored(texture: Callable[..., NDArray[np.uint8]]) -> None:
    image = texture(1)
    bits, value = _compared(image, image[:, ::-1], mirror=True)
    assert bits == 0
    assert value == pytest.approx(1, abs=1e-5)
    assert _compared(image, image[:, ::-1])[1] < 0.6


def test_correlation_of_spectra_is_that_of_pixels() -> None:
    # Two waves of one frequency, a quarter of a wave from each other.
    place = np.arange(64)
    waves = [np.cos(2 * np.pi * 2 * place / 64), np.sin(2 * np.pi * 2 * place / 64)]
    pictures = np.stack([np.tile(128 + 60 * wave, (64, 1)) for wave in waves]).astype(np.uint8)
    found = sketch(pictures)
    itself, other = similarity(found.spectra, np.array([0, 0]), np.array([0, 1])).tolist()
    assert itself == pytest.approx(1, abs=1e-5)
    # A shift of two pixels turns this wave by 22.5 degrees.
    assert other == pytest.approx(np.cos(np.pi / 2 - 2 * np.pi * 2 * 2 / 64), abs=0.06)


def test_plain_pictures_are_told(texture: Callable[..., NDArray[np.uint8]]) -> None:
    rng = np.random.default_rng(0)
    blank, faint = np.full((64, 64), 90, np.uint8), rng.integers(90, 92, (64, 64)).astype(np.uint8)
    slope = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    found = sketch(np.stack([blank, faint, texture(0, size=(64, 64)), texture(0, size=(64, 64), low=100, high=120)]))
    assert found.plain.tolist() == [True, True, False, False]
    assert sketch(slope[None]).spectra.shape == (1, 325)


def test_deep_pixels_are_stretched() -> None:
    assert eight_bits(np.array([[1000, 3000]], np.uint16)).tolist() == [[0, 255]]
    assert eight_bits(np.array([[np.nan, 1.0, 2.0]], np.float32)).tolist() == [[0, 127, 255]]
    assert eight_bits(np.full((2, 2), 7, np.uint16)).tolist() == [[0, 0], [0, 0]]
