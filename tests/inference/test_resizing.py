"""Graphs that resize do it as Pillow does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from imgcls import Dataset, Run, Trainer, load_exported
from imgcls.core.errors import ConfigError
from imgcls.data.images import decode
from imgcls.data.spec import FITS, INTERPOLATIONS, ImageSpec
from imgcls.inference.resizing import Resize
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

sides = st.integers(1, 60)


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def levels(resize: Resize, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = resize(torch.from_numpy(pixels)[None])[0].permute(1, 2, 0).numpy()
    return found


@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.sampled_from(FITS),
    st.sampled_from(INTERPOLATIONS),
    st.booleans(),
)
def test_levels_are_those_of_pillow(
    given_size: tuple[int, int], size: tuple[int, int], fit: str, interpolation: str, spread: bool
) -> None:
    fill = "replicate" if spread and fit == "letterbox" else "constant"
    spec = ImageSpec(size=size, fit=fit, fill=fill, interpolation=interpolation)
    pixels = noise(*given_size)
    error = np.abs(levels(Resize(spec), pixels) - decode(pixels, spec))
    # A sum on the border between two levels may fall to either side.
    assert error.max() <= 1
    assert np.mean(error > 0) <= 0.06


@pytest.mark.parametrize(("size", "interpolation"), [((300, 400), "bilinear"), ((700, 500), "bicubic")])
def test_few_levels_differ_at_usual_sizes(size: tuple[int, int], interpolation: str) -> None:
    spec, pixels = ImageSpec(size=224, fit="crop", interpolation=interpolation), noise(*size)
    assert np.mean(levels(Resize(spec), pixels) != decode(pixels, spec)) <= 0.004


@pytest.mark.parametrize("channels", [1, 3])
def test_what_has_the_size_already_stays(channels: int) -> None:
    pixels = noise(9, 7, channels)
    for interpolation in INTERPOLATIONS:
        spec = ImageSpec(size=(9, 7), channels=channels, interpolation=interpolation)
        assert np.array_equal(levels(Resize(spec), pixels), pixels)


def test_rows_come_first_with_a_pillow_that_always_takes_them_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", "12.0.0")
    spec, pixels = ImageSpec(size=(8, 30), interpolation="bicubic"), noise(40, 20)
    narrow = np.asarray(Image.fromarray(pixels).resize((30, 40), Image.Resampling.BICUBIC))
    wanted = np.asarray(Image.fromarray(narrow).resize((30, 8), Image.Resampling.BICUBIC))
    assert np.abs(levels(Resize(spec), pixels) - wanted).max() <= 1


@pytest.mark.parametrize("options", [{"bits": 16}, {"range": (0, 4095)}])
def test_deep_images_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'resize' must be left out for images of more than 8 bits"):
        Resize(ImageSpec(**options))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("resizing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(place / "cache"))
        patch.setenv("IMGCLS_QUIET", "1")
        images = write_image_folder(place / "images", blobs(size=21, groups=24, channels=3))
        return Trainer(
            Dataset.from_folder(images),
            backbone={"name": "small-cnn", "base": 4, "depth": 2},
            image=ImageSpec(size=(8, 12), fit="letterbox", interpolation="bicubic"),
            stages=[{"epochs": 1, "lr": 0.003}],
            splitter={"name": "stratified-kfold", "k": 2},
            precision="fp32",
            out=place / "run",
        ).fit()


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_an_export_takes_images_of_any_size(form: str, run: Run, tmp_path: Path) -> None:
    model = load_exported(run.export(form, out=tmp_path / "out", resize=True))
    assert model.about.resize
    for size in ((30, 9), (9, 30), (8, 12), (1, 1), (64, 48)):
        pixels = noise(*size)
        wanted = run.predictor.probs(np.stack([decode(pixels, run.model.image)]))
        np.testing.assert_allclose(model.probs(pixels[None]), wanted, atol=1e-4)
        np.testing.assert_allclose(model.probs(np.stack([pixels] * 3)), np.repeat(wanted, 3, axis=0), atol=1e-4)
    file = tmp_path / "a.png"
    Image.fromarray(noise(50, 40)).save(file)
    ours, theirs = (one.predict([file])["prob_a"].item() for one in (model, run))
    assert ours == pytest.approx(theirs, abs=1e-5)
    text = (model.folder / "README.md").read_text()
    assert "`pixels`: (B, H, W, 3), uint8, red, green, blue; any B, H and W" in text
    assert "The same with decoded images of their own sizes: " in text
    assert model.about.parity["max_difference_resized"] < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "safetensors"}, "'resize' must be left out for 'safetensors', which are weights alone, got True"),
        ({"int8": True}, "'resize' must be left out with 'int8'"),
    ],
)
def test_where_nothing_can_be_resized_inside_it_is_said(
    options: dict[str, Any], message: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run.export(**options, resize=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
