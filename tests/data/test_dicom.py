from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from imgcls.core.errors import DecodeError, MissingExtraError
from imgcls.data import images
from imgcls.data.spec import ImageSpec

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (16, 24), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)


def native(shape: tuple[int, ...] = (16, 24), **options: Any) -> ImageSpec:
    return ImageSpec(**{"size": shape[:2], "channels": 1, "bits": 16, **options})


def packaged(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def written(path: Path, pixels: NDArray[Any] = GREY, *, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def scaled(values: NDArray[Any], low: float, high: float, levels: int = 65535) -> NDArray[np.float64]:
    return np.clip((values.astype(float) - low) / (high - low), 0, 1) * levels


def test_ct_is_scaled_in_hounsfield_units() -> None:
    file = packaged("CT_small.dcm")
    units = dcmread(file).pixel_array.astype(float) - 1024
    assert np.array_equal(images.original(file)[..., 0], units)
    in_memory = images.InMemory(name=file.name, content=file.read_bytes())
    assert images.header(in_memory) == images.header(file)
    spec = native((128, 128), range=(-500, 800))
    assert np.array_equal(images.read(in_memory, spec), images.read(file, spec))
    assert images.original(file).dtype == np.float32
    read = images.read(file, native((128, 128), range=(-500, 800)))
    assert np.abs(read[..., 0] - scaled(units, -500, 800)).max() <= 0.51


def test_mr_is_shown_in_its_own_window() -> None:
    file = packaged("MR_small.dcm")
    data = dcmread(file)
    centre, width = float(data.WindowCenter) - 0.5, float(data.WindowWidth) - 1
    expected = scaled(data.pixel_array, centre - width / 2, centre + width / 2, levels=255)
    read = images.read(file, ImageSpec(size=64, channels=1))
    assert np.abs(read[..., 0] - expected).max() <= 0.51


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_small_odd.dcm", "ExplVR_BigEnd.dcm"]
)
def test_colours_become_rgb(name: str) -> None:
    file = packaged(name)
    assert np.array_equal(images.original(file), pixel_array(file))
    assert np.array_equal(images.original(file), images.read(file, ImageSpec(size=images.original(file).shape[:2])))


def test_palette_of_16_bits_uses_all_of_them() -> None:
    file = packaged("examples_palette.dcm")
    found = images.original(file)
    assert found.dtype == np.uint16
    assert found.shape == (350, 800, 3)
    read = images.read(file, ImageSpec(size=(350, 800)))
    assert np.abs(read - scaled(found, 0, 65535, levels=255)).max() <= 0.51


def test_header_is_read_without_pixels() -> None:
    header = images.header(packaged("MR_truncated.dcm"))
    assert (header.format, header.mode, header.bits, header.width, header.height) == (
        *("DICOM", "MONOCHROME2", 16),
        *(64, 64),
    )


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a"])
def test_content_tells_dicom_and_not_the_name(tmp_path: Path, name: str) -> None:
    assert np.array_equal(images.original(written(tmp_path / name))[..., 0], GREY)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("suffix", [".dcm", ".DICOM"])
def test_file_without_preamble_is_read_if_its_name_says_dicom(tmp_path: Path, suffix: str, syntax: str) -> None:
    data = dcmread(written(tmp_path / "whole", syntax=syntax))
    meta = 144 + data.file_meta.FileMetaInformationGroupLength  # preamble, DICM, and the length itself
    bare = tmp_path / f"bare{suffix}"
    bare.write_bytes((tmp_path / "whole").read_bytes()[meta:])
    assert np.array_equal(images.original(bare)[..., 0], GREY)
    with pytest.raises(DecodeError, match="no image of a known format"):
        images.original(bare.rename(tmp_path / "bare.png"))


def test_rescaling_and_the_range_go_together(tmp_path: Path) -> None:
    file = written(tmp_path / "a.dcm", GREY.astype(np.int16), RescaleSlope=0.5, RescaleIntercept=-100)
    assert np.array_equal(images.original(file)[..., 0], GREY.astype(np.float32) / 2 - 100)
    read = images.read(file, native(range=(0, 1000)))[..., 0]
    assert np.abs(read - scaled(GREY / 2 - 100, 0, 1000)).max() <= 0.51


@pytest.mark.parametrize(
    ("elements", "low", "high"),
    [
        ({"WindowCenter": 2000, "WindowWidth": 1001}, 1499.5, 2499.5),
        ({"WindowCenter": [2000, 9], "WindowWidth": [1001, 9]}, 1499.5, 2499.5),
        ({"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}, 1500, 2500),
        ({"WindowCenter": 1000, "WindowWidth": 1001, "RescaleSlope": 2, "RescaleIntercept": -500}, 499.5, 1499.5),
    ],
)
def test_first_window_of_the_file_is_its_range(tmp_path: Path, elements: Any, low: float, high: float) -> None:
    file = written(tmp_path / "a.dcm", **elements)
    values = images.original(file)[..., 0]
    assert np.abs(images.read(file, native())[..., 0] - scaled(values, low, high)).max() <= 0.51
    assert np.abs(images.read(file, native(range=(5, 4000)))[..., 0] - scaled(values, 5, 4000)).max() <= 0.51


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 2000, "WindowWidth": 1},
        {"WindowCenter": 2000},
        {"WindowCenter": "", "WindowWidth": ""},
    ],
)
def test_file_without_a_linear_window_needs_a_range(tmp_path: Path, elements: Any) -> None:
    file = written(tmp_path / "a.dcm", GREY.clip(10, 4000), **elements)
    with pytest.raises(DecodeError, match=r"a\.dcm' must come with a range, .* values from 10 to 4000; set ImageSpec"):
        images.read(file, ImageSpec())


def test_monochrome1_is_inverted_once_it_is_scaled(tmp_path: Path) -> None:
    file = written(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(images.original(file)[..., 0], GREY)
    read = images.read(file, native(range=(0, 4095)))[..., 0]
    assert np.abs(read - (65535 - scaled(GREY, 0, 4095))).max() <= 0.51


@pytest.mark.parametrize(("photometric", "sign"), [("MONOCHROME1", -1), ("MONOCHROME2", 1)])
def test_grey_of_8_bits_needs_no_range(tmp_path: Path, photometric: str, sign: int) -> None:
    file = written(tmp_path / "a.dcm", COLOUR[..., 0], PhotometricInterpretation=photometric)
    expected = COLOUR[..., :1] if sign > 0 else 255 - COLOUR[..., :1]
    assert np.array_equal(images.read(file, native(bits=8, range=(0, 9))), expected)
    assert np.array_equal(images.original(file), expected)


def test_rgb_of_8_bits(tmp_path: Path) -> None:
    file = written(tmp_path / "a.dcm", COLOUR)
    assert np.array_equal(images.read(file, native(bits=8, channels=3)), COLOUR)


def test_rgb_of_16_bits_uses_the_stored_ones(tmp_path: Path) -> None:
    pixels = COLOUR.astype(np.uint16) * 4
    file = written(tmp_path / "a.dcm", pixels, BitsStored=10, HighBit=9)
    assert np.array_equal(images.original(file), pixels)
    assert np.abs(images.read(file, native(channels=3)) - scaled(pixels, 0, 1023)).max() <= 0.51


def test_lookup_table_replaces_rescaling(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = (np.arange(256, dtype=np.uint16) * 200).tobytes()
    table["LUTData"].VR = "OW"
    file = written(tmp_path / "a.dcm", COLOUR[..., 0], ModalityLUTSequence=[table])
    assert np.array_equal(images.original(file), COLOUR[..., :1].astype(np.uint16) * 200)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 3}, "must hold one picture, got 3 frames; save each to a file of its own"),
        ({"Rows": 60000, "Columns": 60000}, "must have at most 64 megapixels, got 60000 x 60000; cut it"),
        ({"Rows": 1}, "must have at least 2 x 2 pixels, got 24 x 1"),
        ({"PhotometricInterpretation": "CMYK"}, "must be grey, RGB or palette, got CMYK; convert it"),
        ({"PixelData": b"1234"}, "must be readable, got an error: The number of bytes of pixel data is less"),
        ({"syntax": DeflatedExplicitVRLittleEndian}, "must not be deflated as a whole"),
    ],
)
def test_bad_file_is_an_error_with_its_name(tmp_path: Path, elements: Any, message: str) -> None:
    file = written(tmp_path / "a.dcm", **elements)
    with pytest.raises(DecodeError, match=rf"image '.*a\.dcm' {message}"):
        images.read(file, native())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rtplan.dcm", "must hold a DICOM picture, got modality RTPLAN and no pixels; leave it out"),
        ("MR_small_jpeg_ls_lossless.dcm", "got an error: Unable to decompress 'JPEG-LS Lossless.* pylibjpeg"),
        ("MR_truncated.dcm", "got an error: The number of bytes of pixel data is less than expected"),
    ],
)
def test_packaged_file_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(DecodeError, match=rf"image '.*{name}' .*{message}"):
        images.read(packaged(name), native())


def test_text_named_dicom_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("This is no image." * 20)
    with pytest.raises(DecodeError, match=r"image '.*a\.dcm' must hold a DICOM picture, got no modality and no pixels"):
        images.original(tmp_path / "a.dcm")


def test_missing_pydicom_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        MissingExtraError, match=r"'pydicom' must be installed, got none; pip install 'imgcls\[dicom\]'"
    ):
        images.read(file, native())
