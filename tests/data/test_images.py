from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import ConfigError, DecodeError
from imgcls.data import images
from imgcls.data.spec import ImageSpec

# A smooth picture whose corners differ: red grows to the right, green downwards.
GRADIENT = np.stack(
    [*np.meshgrid(np.linspace(0, 240, 24), np.linspace(0, 240, 16)), np.full((16, 24), 30.0)], axis=-1
).astype(np.uint8)
NATIVE = ImageSpec(size=(16, 24))


def saved(path: Path, pixels: NDArray[Any] = GRADIENT, *, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.jpg", "png_named.jpg"], ids=lambda name: name.split(".")[-1]
)
def test_formats_are_read(tmp_path: Path, name: str) -> None:
    kinds: dict[str, Any] = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    options = kinds.get(name[1:], {})
    file = saved(tmp_path / name, format="PNG" if name.startswith("png") else None, **options)
    error = np.abs(images.read(file, NATIVE).astype(int) - GRADIENT)
    assert error.max() <= (4 if name == "a.jpg" else 0)


# What each value of the tag means, by the EXIF standard, as an operation on the upright picture.
HELD: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: np.rot90,
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", HELD)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_images_stand_upright_however_the_camera_was_held(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    file = saved(tmp_path / f"a.{suffix}", np.ascontiguousarray(HELD[orientation](GRADIENT)), exif=exif, **options)
    assert np.array_equal(images.read(file, NATIVE), GRADIENT)
    assert np.array_equal(images.original(file), GRADIENT)


def test_turned_jpeg_keeps_its_shape_when_it_is_decoded_small(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    big = np.kron(GRADIENT, np.ones((20, 20, 1), np.uint8))
    turned = images.read(saved(tmp_path / "a.jpg", np.rot90(big), exif=exif, quality=95), NATIVE)
    assert np.abs(turned.astype(int) - GRADIENT).mean() < 3


def test_transparent_pixels_become_black(tmp_path: Path) -> None:
    alpha = np.full((16, 24), 255, np.uint8)
    alpha[:, :12] = 0
    read = images.read(saved(tmp_path / "a.png", np.dstack([GRADIENT, alpha])), NATIVE)
    assert not read[:, :12].any()
    assert np.array_equal(read[:, 12:], GRADIENT[:, 12:])


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    read = images.read(tmp_path / "a.png", ImageSpec(size=4))
    assert (read[0, 0].tolist(), read[1, 1].tolist()) == ([0, 0, 0], [0, 0, 255])


@pytest.mark.parametrize(
    ("mode", "suffix", "tolerance"),
    [("CMYK", "tif", 1), ("CMYK", "jpg", 12), ("YCbCr", "jpg", 12), ("P", "png", 60), ("RGBA", "png", 0)],
)
def test_other_modes_become_colours(tmp_path: Path, mode: str, suffix: str, tolerance: int) -> None:
    read = images.read(saved(tmp_path / f"a.{suffix}", mode=mode, quality=100), NATIVE)
    assert np.abs(read.astype(int) - GRADIENT).max() <= tolerance


def test_grey_becomes_colour_by_repeating(tmp_path: Path) -> None:
    read = images.read(saved(tmp_path / "a.png", GRADIENT[..., 0]), NATIVE)
    assert np.array_equal(read, np.repeat(GRADIENT[..., :1], 3, axis=-1))


def test_colour_becomes_grey_by_its_luma(tmp_path: Path) -> None:
    read = images.read(saved(tmp_path / "a.png"), ImageSpec(size=(16, 24), channels=1))
    luma = GRADIENT @ np.array([0.299, 0.587, 0.114])
    assert read.shape == (16, 24, 1)
    assert np.abs(read[..., 0] - luma).max() < 1


def test_two_colours_become_black_and_white(tmp_path: Path) -> None:
    read = images.original(saved(tmp_path / "a.png", GRADIENT[..., 0] > 100))
    assert np.array_equal(read[..., 0], (GRADIENT[..., 0] > 100) * 255)


def test_stretch_letterbox_and_crop() -> None:
    white = np.full((10, 20), 255, np.uint8)
    white[:, :5] = 100  # outside of the central square
    grey = {
        fit: images.decode(white, ImageSpec(size=8, channels=1, fit=fit, interpolation="nearest"))[..., 0]
        for fit in ("stretch", "letterbox", "crop")
    }
    assert {fit: pixels.shape for fit, pixels in grey.items()} == dict.fromkeys(grey, (8, 8))
    assert grey["stretch"].min() == 100
    assert [not grey["letterbox"][row].any() for row in range(8)] == [True] * 2 + [False] * 4 + [True] * 2
    assert grey["crop"].min() == 255


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (1, 1), (16, 24)])
def test_any_shape_fits_any_size(fit: str, shape: tuple[int, int]) -> None:
    spec = ImageSpec(size=(16, 24), channels=1, fit=fit)
    assert images.decode(np.full(shape, 7, np.uint8), spec).shape == (16, 24, 1)


def test_shrinking_averages() -> None:
    stripes = np.tile(np.array([[0, 255]], np.uint8), (64, 32))
    small = images.decode(stripes, ImageSpec(size=8, channels=1))
    assert np.abs(small.astype(int) - 127).max() < 12


def test_large_jpeg_is_decoded_at_a_scale_of_its_own(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(noise).resize((1200, 1200), Image.Resampling.BICUBIC))
    read = images.read(saved(tmp_path / "a.jpg", big, quality=95), ImageSpec(size=60))
    exact = images.decode(big, ImageSpec(size=60))
    assert np.abs(read.astype(int) - exact).mean() < 2


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(path: Path, side: int) -> Path:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""))
    return path


def truncated(path: Path) -> Path:
    saved(path, np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1500])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def wrong_exif(path: Path) -> Path:
    return saved(path, format="PNG", exif=b"Exif\0\0nonsense that is no TIFF header")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "must exist, got no such file"),
        (lambda path: written(path, b""), "must be readable, got an empty file"),
        (lambda path: written(path, b"no image"), "must be readable, got no image of a known format"),
        (lambda path: written(path, b"GIF89a\1\0\1\0\0\0\0;"), "must be readable, got no image of a known format"),
        (truncated, "must be readable, got an error: .*truncated"),
        (lambda path: png_header(path, 8100), "must have at most 64 megapixels, got 8100 x 8100; cut it into tiles"),
        (
            lambda path: saved(path, np.ones((4, 4), np.uint16), format="PNG"),
            "must have 8 bits a channel, got mode 'I;16'",
        ),
        (wrong_exif, "must be readable, got an error: not a TIFF file"),
        (
            lambda path: saved(path, np.ones((4, 4), np.float32), format="TIFF"),
            "must .* got mode 'F'; scale it to 8 bits",
        ),
    ],
)
def test_bad_file_is_an_error_with_its_name(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(DecodeError, match=rf"image '.*bad\.jpg' {message}"):
        images.read(make(tmp_path / "bad.jpg"), NATIVE)


@pytest.mark.parametrize("side", [10_000, 20_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    with pytest.raises(DecodeError, match=r"at most 64 megapixels|exceeds limit of \d+ pixels"):
        images.read(png_header(tmp_path / "a.png", side), NATIVE)


def test_folder_named_like_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="must be readable"):
        images.read(tmp_path, NATIVE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"'size' must be a side in pixels or \(height, width\), got \(0, 0\)"),
        ({"size": (3, 4, 5)}, "'size' must"),
        ({"size": True}, "'size' must"),
        ({"channels": 2}, "'channels' must be 1 or 3, got 2"),
        ({"fit": "squash"}, "'fit' must be one of 'stretch', 'letterbox', 'crop', got 'squash'"),
        ({"interpolation": "lanczos"}, "'interpolation' must be one of"),
        ({"mean": 0.5}, "'mean' and 'std' must be given together"),
        ({"mean": 0.5, "std": 0.5}, r"'mean' must have 3 numbers, one a channel, got \(0.5,\)"),
        ({"mean": 0.5, "std": 0, "channels": 1}, r"'std' must be above 0, got \(0.0,\)"),
        ({"mean": ["x"] * 3, "std": [1] * 3}, r"'mean' must be one finite number a channel, got \['x', 'x', 'x'\]"),
        ({"mean": "abc", "std": "abc"}, "'mean' must be one finite number a channel, got 'abc'"),
        ({"mean": [0] * 3, "std": [float("nan")] * 3}, "'std' must be one finite"),
        ({"channels": True}, "'channels' must be an int, got True"),
    ],
)
def test_wrong_spec_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**options)
