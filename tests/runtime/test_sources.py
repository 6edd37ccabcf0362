from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imgcls.core.errors import DataError, DecodeError
from imgcls.data import images
from imgcls.data.cache import entries
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.runtime.batches import Batches, chunks
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Resident, Streamed, open_source, resolved, statistics
from imgcls.testing import blobs

Make = Callable[..., Path]
SPEC = ImageSpec(size=(6, 8), channels=3)


@pytest.fixture
def data(make_images: Make) -> Dataset:
    return Dataset.from_folder(make_images(*(f"{kind}/{number}.jpg" for kind in "ab" for number in range(9))))


def test_streamed_pixels_are_those_of_the_store(data: Dataset) -> None:
    disk, stream = (open_source(data, SPEC, mode=mode) for mode in ("disk", "stream"))
    assert (type(disk), type(stream)) == (Resident, Streamed)
    order = np.random.default_rng(0).permutation(len(data))
    parts = list(chunks(order, 4))
    for one, other in zip(disk.each(parts), stream.each(parts), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(disk.pixels(order[:3]), stream.pixels(order[:3]))


def test_streaming_writes_nothing(data: Dataset) -> None:
    list(open_source(data, SPEC, mode="stream").each([np.arange(5)]))
    assert entries() == []


def test_streaming_decodes_a_few_batches_ahead_only(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []
    read = images.read

    def noted(path: Path, spec: ImageSpec) -> Any:
        decoded.append(path)
        return read(path, spec)

    monkeypatch.setattr(images, "read", noted)
    batches = open_source(data, SPEC, mode="stream").each([np.array([position]) for position in range(18)])
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert 1 <= len(decoded) <= 3


def test_a_set_without_room_is_streamed_and_says_so(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", "0.000001")
    monkeypatch.delenv("IMGCLS_QUIET")
    assert isinstance(open_source(data, SPEC), Streamed)
    assert "need 0.0 MiB and there is room for 0.0 MiB; they are decoded anew in every epoch" in capsys.readouterr().err
    with pytest.raises(DataError, match="must have room"):
        open_source(data, SPEC, mode="disk")


def test_a_store_that_is_there_is_used_without_room_for_another(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    open_source(data, SPEC)
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", "0.000001")
    assert isinstance(open_source(data, SPEC), Resident)


def test_streamed_bad_images_are_named_or_known_before(data: Dataset) -> None:
    data.path(3).write_bytes(b"no image")
    data = Dataset.from_folder(data.path(0).parents[1])
    with pytest.raises(DecodeError, match=r"a/3\.jpg' must be readable, got no image"):
        list(open_source(data, SPEC, mode="stream").each([np.arange(5)]))
    assert list(open_source(data, SPEC, mode="stream", on_bad="skip").bad) == [3]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_statistics_are_those_of_all_pixels(channels: int, bits: int) -> None:
    spec = ImageSpec(size=8, channels=channels, bits=bits)
    source = open_source(blobs(size=8, channels=channels), spec)
    chosen = np.arange(0, 40, 3)
    mean, std = statistics(source, chosen)
    pixels = source.pixels(chosen).numpy() / spec.levels
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-6)


def test_a_channel_without_contrast_is_not_divided_by_zero() -> None:
    data = Dataset.from_arrays(np.full((4, 8, 8), 51, np.uint8), [0, 1, 0, 1])
    assert statistics(open_source(data, ImageSpec(size=8, channels=1)), np.arange(4)) == ((0.2,), (1.0,))


def test_deep_and_shallow_images_are_normalised_alike() -> None:
    data, found = blobs(size=8), []
    for bits in (8, 16):
        spec = ImageSpec(size=8, channels=1, bits=bits, mean=0.4, std=0.2)
        found.append(Batches.over(open_source(data, spec), Runtime()).images(np.arange(6)))
    torch.testing.assert_close(found[0], found[1])


def test_words_become_numbers_by_the_training_records() -> None:
    data = blobs(size=8)
    spec = ImageSpec(size=8, channels=1, mean="dataset", std="dataset")
    source = open_source(data, spec)
    train = np.arange(10)
    assert resolved(spec, source, train).statistics == statistics(source, train)
    assert statistics(source, train) != statistics(source, np.arange(len(data)))
    imagenet = ImageSpec(size=8, mean="imagenet", std="imagenet")
    assert resolved(imagenet, source, train).mean == (0.485, 0.456, 0.406)
