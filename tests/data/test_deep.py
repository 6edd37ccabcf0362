from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import DecodeError
from imgcls.data import deep, images
from imgcls.data.spec import ImageSpec

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 65536, (16, 24), dtype=np.uint16)
COLOUR = RNG.integers(0, 65536, (16, 24, 3), dtype=np.uint16)
ALPHA = RNG.integers(0, 65536, (16, 24, 1), dtype=np.uint16)
FULL = (0, 65535)


def native(**options: Any) -> ImageSpec:
    return ImageSpec(**{"size": (16, 24), "bits": 16, "channels": 1, "range": FULL, **options})


def saved(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def in_colour(path: Path, pixels: NDArray[np.uint16]) -> Path:
    swapped = pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]
    assert cv2.imwrite(str(path), swapped)
    return path


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(path: Path, pixels: NDArray[np.uint16], kind: int, *extra: bytes) -> Path:
    height, width = pixels.shape[:2]
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(start + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def tiff(path: Path, pixels: NDArray[Any], *, big: bool = False, **changed: int) -> Path:
    """Write what Pillow cannot; tags are changed by their number as t262=0."""
    order: Literal["<", ">"] = ">" if big else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    sample = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample} | {int(name[1:]): value for name, value in changed.items()}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    start = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, 8 + len(data))
    path.write_bytes(start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_of_16_bits_is_kept(tmp_path: Path, name: str) -> None:
    file = saved(tmp_path / name, GREY)
    assert np.array_equal(images.original(file)[..., 0], GREY)
    assert images.original(file).dtype == np.uint16
    assert np.array_equal(images.read(file, native())[..., 0], GREY)


@given(
    st.integers(-100, 65535), st.integers(1, 70000), st.sampled_from([8, 16]), st.sampled_from([np.uint16, np.float32])
)
def test_range_becomes_all_levels(low: int, width: int, bits: int, kind: Any) -> None:
    found = images.decode(GREY.astype(kind), native(bits=bits, range=(low, low + width)))
    shares = np.clip((GREY.astype(float) - low) / width, 0, 1)
    assert np.abs(found[..., 0] - shares * (2**bits - 1)).max() <= 0.51


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("sign", [-1, 1])
def test_other_numbers_are_scaled_alike(tmp_path: Path, kind: Any, sign: int) -> None:
    file = saved(tmp_path / "a.tif", GREY.astype(kind) * sign)
    assert np.array_equal(images.original(file)[..., 0], GREY.astype(np.float32) * sign)
    assert images.original(file).dtype == np.float32
    read = images.read(file, native(range=FULL if sign > 0 else (-65535, 0)))
    assert np.array_equal(read[..., 0], GREY if sign > 0 else 65535 - GREY)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float32])
def test_either_order_of_bytes_is_read(tmp_path: Path, kind: Any, *, big: bool) -> None:
    pixels = (GREY // 2).astype(kind)
    assert np.array_equal(images.original(tiff(tmp_path / "a.tif", pixels, big=big))[..., 0], pixels)


def test_large_unsigned_numbers_stay_positive(tmp_path: Path) -> None:
    pixels = GREY.astype(np.uint32) * 65537
    file = tiff(tmp_path / "a.tif", pixels)
    assert np.array_equal(images.original(file)[..., 0], pixels.astype(np.float32))
    assert np.array_equal(images.read(file, native(range=(0, 2**32 - 1)))[..., 0], GREY)


def test_zero_is_white_where_the_file_says_so(tmp_path: Path) -> None:
    file = tiff(tmp_path / "a.tif", GREY, t262=0)
    assert np.array_equal(images.read(file, native())[..., 0], 65535 - GREY)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_of_16_bits_are_kept(tmp_path: Path, name: str) -> None:
    file = in_colour(tmp_path / name, COLOUR)
    assert np.array_equal(images.original(file), COLOUR)
    assert np.array_equal(images.read(file, native(channels=3)), COLOUR)
    in_memory = images.InMemory(name=name, content=file.read_bytes())
    assert np.array_equal(images.read(in_memory, native(channels=3)), COLOUR)
    grey = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(images.read(file, native())[..., 0] - grey).max() <= 0.51


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_are_put_on_black(tmp_path: Path, name: str) -> None:
    file = in_colour(tmp_path / name, np.dstack([COLOUR, ALPHA]))
    assert np.abs(images.original(file) - COLOUR * (ALPHA / 65535)).max() <= 0.51


def test_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", np.dstack([GREY, ALPHA]), 4)
    found = images.original(file)
    assert found.shape == (16, 24, 1)
    assert np.abs(found - GREY[..., None] * (ALPHA / 65535)).max() <= 0.51


@pytest.mark.parametrize(("pixels", "kind"), [(GREY[..., None], 0), (COLOUR, 2)])
def test_transparent_value_is_black(tmp_path: Path, pixels: NDArray[np.uint16], kind: int) -> None:
    file = png(tmp_path / "a.png", pixels, kind, chunk(b"tRNS", pixels[3, 5].astype(">u2").tobytes()))
    expected = pixels.copy()
    expected[3, 5] = 0
    assert np.array_equal(images.original(file), expected)


def test_grey_becomes_colour_by_repeating() -> None:
    assert np.array_equal(images.decode(GREY, native(channels=3)), np.dstack([GREY] * 3))


TURNED: dict[int, Any] = {3: lambda a: a[::-1, ::-1], 5: lambda a: a.swapaxes(0, 1), 6: np.rot90}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_grey_stands_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path / f"a.{suffix}", np.ascontiguousarray(TURNED[orientation](GREY)), exif=exif)
    assert np.array_equal(images.original(file)[..., 0], GREY)


@pytest.mark.parametrize("orientation", TURNED)
def test_deep_colours_stand_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    eight = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    file = png(tmp_path / "a.png", TURNED[orientation](COLOUR), 2, eight)
    assert images.header(file).orientation == orientation
    assert np.array_equal(images.original(file), COLOUR)


@pytest.mark.parametrize("orientation", TURNED)
def test_deep_tiff_colours_stand_upright(tmp_path: Path, orientation: int) -> None:
    file = in_colour(tmp_path / "a.tif", TURNED[orientation](COLOUR))
    content = file.read_bytes()
    # The tag of the orientation takes the place of one that says nothing: the sample format of whole numbers.
    order = "<" if content[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, directory)
    entries = [content[directory + 2 + 12 * i : directory + 14 + 12 * i] for i in range(count)]
    kept = [entry for entry in entries if struct.unpack(f"{order}H", entry[:2])[0] not in {274, 339}]
    kept.append(struct.pack(f"{order}HHIHH", 274, 3, 1, orientation, 0))
    kept.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2])[0])
    start = content[:4] + struct.pack(f"{order}I", len(content)) + content[8:]
    file.write_bytes(start + struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4))
    assert images.header(file).orientation == orientation
    assert np.array_equal(images.original(file), COLOUR)


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("size", "fit"), [((5, 7), "stretch"), ((40, 30), "stretch"), ((9, 9), "crop")])
def test_resizing_by_rows_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], fit: str, interpolation: str
) -> None:
    monkeypatch.setattr("imgcls.data.fitting._STRIP", 24 * 3)
    spec = native(size=size, fit=fit, interpolation=interpolation)
    box = (4, 0, 20, 16) if fit == "crop" else None
    whole = Image.fromarray((GREY / 65535).astype(np.float32))
    expected = np.asarray(whole.resize(size[::-1], Image.Resampling[interpolation.upper()], box=box))
    assert np.abs(images.decode(GREY, spec)[..., 0] - expected.clip(0, 1) * 65535).max() <= 0.51


@pytest.mark.parametrize("fill", ["constant", "replicate"])
def test_deep_padding(fill: str) -> None:
    found = images.decode(GREY, native(size=(24, 24), fit="letterbox", fill=fill))[..., 0]
    mode: Any = "edge" if fill == "replicate" else "constant"
    assert np.array_equal(found, np.pad(GREY, ((4, 4), (0, 0)), mode=mode))


def test_large_image_is_never_whole_as_floats() -> None:
    image = deep.Deep(stored=np.zeros((4000, 3000, 1), np.uint16))
    tracemalloc.start()
    deep.fit(image, ImageSpec(channels=1, range=FULL))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * image.stored.nbytes  # 24 MB; as float32 alone it would be 48


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (GREY // 32, "must come with a range, got more than 8 bits with values from 7 to 1234; set ImageSpec"),
        (-GREY.astype(np.float32), r"with values from -65536.5 to 7; set ImageSpec\(range=\(low, high\)\)"),
    ],
)
def test_deep_image_without_a_range_is_an_error(tmp_path: Path, pixels: NDArray[Any], message: str) -> None:
    pixels = pixels.clip(7, 1234) if pixels.dtype == np.uint16 else pixels
    pixels[0, :2] = (7, 1234) if pixels.dtype == np.uint16 else (7, -65536.5)
    with pytest.raises(DecodeError, match=rf"image '.*a\.tif' .*{message}"):
        images.read(saved(tmp_path / "a.tif", pixels), ImageSpec())
    with pytest.raises(DecodeError, match=f"image in memory .*{message}"):
        images.decode(pixels, ImageSpec())


def test_nan_is_an_error() -> None:
    pixels = GREY.astype(np.float32)
    pixels[3, 3] = np.nan
    with pytest.raises(DecodeError, match="image in memory must hold numbers only, got NaN or infinity; replace it"):
        images.decode(pixels, native())


def test_other_types_in_memory_are_refused() -> None:
    with pytest.raises(DecodeError, match="image in memory must be uint8, uint16 or float32, got int64; convert it"):
        images.decode(GREY.astype(np.int64), native())


def test_truncated_colours_are_an_error_of_few_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = in_colour(tmp_path / "a.png", COLOUR)
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(DecodeError, match=r"must be readable, got an error: .*truncated"):
        images.original(file)
    assert capfd.readouterr().err == ""
