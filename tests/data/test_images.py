from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from imgcls.core.errors import DecodeError
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
    "name",
    ["a.png", "a.bmp", "a.tif", "a.webp", "a.jpg", "png_named.jpg", "png_named.dcm"],
    ids=lambda name: name.split(".")[-1],
)
def test_formats_are_read(tmp_path: Path, name: str) -> None:
    kinds: dict[str, Any] = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    options = kinds.get(name[1:], {})
    file = saved(tmp_path / name, format="PNG" if name.startswith("png") else None, **options)
    error = np.abs(images.read(file, NATIVE).astype(int) - GRADIENT)
    assert error.max() <= (4 if name == "a.jpg" else 0)
    in_memory = images.InMemory(name=name, content=file.read_bytes())
    assert np.array_equal(images.read(in_memory, NATIVE), images.read(file, NATIVE))
    assert images.header(in_memory) == images.header(file)


def test_errors_of_what_lies_in_memory_have_its_name() -> None:
    with pytest.raises(DecodeError, match=r"image 'x/a.png' must be readable, got an empty file"):
        images.read(images.InMemory(name="x/a.png", content=b""), NATIVE)


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


@pytest.mark.parametrize("orientation", HELD)
def test_raw_grey_tiff_stands_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = GRADIENT[..., 0]
    file = saved(tmp_path / "a.tif", np.ascontiguousarray(HELD[orientation](grey)), exif=exif)
    assert np.array_equal(images.original(file)[..., 0], grey)


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
    [("YCbCr", "jpg", 12), ("YCbCr", "tif", 3), ("P", "png", 60), ("P", "gif", 60), ("RGBA", "png", 0)],
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


def png_start(width: int, height: int, *, bits: int = 8, kind: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))


def png_header(path: Path, side: int) -> Path:
    return written(path, png_start(side, side) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""))


def animated(path: Path, form: str) -> Path:
    frames = [Image.fromarray(np.roll(GRADIENT, shift, axis=1)) for shift in range(3)]
    frames[0].save(path, format=form, save_all=True, append_images=frames[1:])
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
        (
            lambda path: written(path, b"GIF89a\2\0\2\0\0\0\0;"),
            "must be readable, got a GIF header that cannot be used",
        ),
        (
            lambda path: written(path, b"BMW: a text, not a picture"),
            "must be readable, got an error: Truncated File Read",
        ),
        (lambda path: written(path, png_start(2, 2)), "must be readable, got a PNG header that cannot be used"),
        (lambda path: saved(path, GRADIENT[:1], format="PNG"), "must have at least 2 x 2 pixels, got 24 x 1; leave"),
        (lambda path: png_header(path, 0), "must be readable, got a PNG header that cannot be used: not id"),
        (lambda path: saved(path, mode="CMYK", format="TIFF"), "must be grey, RGB or palette, got CMYK; convert it"),
        (lambda path: saved(path, mode="CMYK", format="JPEG"), "must be grey, RGB or palette, got CMYK; convert it"),
        (lambda path: saved(path, mode="LAB", format="TIFF"), "must be grey, RGB or palette, got LAB; convert it"),
        (truncated, "must be readable, got an error: .*truncated"),
        *(
            (lambda path, form=form: animated(path, form), r"must hold one picture, got 3 frames; save each")
            for form in ("GIF", "WEBP", "PNG", "TIFF")
        ),
        (
            lambda path: png_header(path, 8100),
            "must have at most 64 megapixels, got 8100 x 8100; cut it into smaller files",
        ),
        (wrong_exif, "must be readable, got an error: not a TIFF file"),
    ],
)
def test_bad_file_is_an_error_with_its_name(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(DecodeError, match=rf"image '.*bad\.jpg' {message}"):
        images.read(make(tmp_path / "bad.jpg"), NATIVE)


@pytest.mark.parametrize("side", [8_100, 10_000, 20_000])
def test_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    file = png_header(tmp_path / "a.png", side)
    for open_ in (images.original, images.header, lambda path: images.read(path, NATIVE)):
        with pytest.raises(
            DecodeError, match=rf"at most 64 megapixels, got {side} x {side}; cut it into smaller files"
        ):
            open_(file)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_bomb_takes_no_memory(tmp_path: Path) -> None:
    pixels = zlib.compress(bytes(16_000 * 2001), 9)
    ends = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    file = written(tmp_path / "a.png", png_start(16_000, 16_000, bits=1, kind=0) + ends)
    program = """
import sys
from pathlib import Path
from imgcls.core.errors import DecodeError
from imgcls.data import images
from imgcls.data.spec import ImageSpec
try:
    images.read(Path(sys.argv[1]), ImageSpec())
except DecodeError as error:
    print(error)
# The peak of this program alone; getrusage would count that of the one that started it.
print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    text, kilobytes = done.stdout.splitlines()
    assert "at most 64 megapixels, got 16000 x 16000" in text
    assert file.stat().st_size < 40_000
    assert int(kilobytes) < 200_000


def test_settings_of_pillow_are_left_alone(tmp_path: Path) -> None:
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    images.read(saved(tmp_path / "a.png"), NATIVE)
    with pytest.raises(DecodeError):
        images.read(truncated(tmp_path / "b.png"), NATIVE)
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)


def test_folder_named_like_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="must be readable"):
        images.read(tmp_path, NATIVE)


def test_header_is_read_upright_and_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path / "a.jpg", exif=exif)
    file.write_bytes(file.read_bytes()[:-50])  # the pixels are not needed
    assert images.header(file) == images.Header(
        width=16, height=24, format="JPEG", mode="RGB", bits=8, orientation=6, raw_width=24, raw_height=16
    )


@pytest.mark.parametrize("orientation", HELD)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_header_agrees_with_the_pixels(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path / f"a.{suffix}", exif=exif)
    header = images.header(file)
    assert (header.height, header.width) == images.original(file).shape[:2]
    assert (header.raw_height, header.raw_width, header.orientation) == (16, 24, orientation)


def test_orientation_behind_the_pixels_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path / "a.png")
    content = file.read_bytes()
    file.write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    assert images.header(file).orientation == 6
    assert images.original(file).shape == (24, 16, 3)


@pytest.mark.parametrize(
    ("pixels", "mode", "suffix", "bits"),
    [
        (GRADIENT[..., 0] > 9, "1", "png", 1),
        (GRADIENT, "RGB", "bmp", 8),
        (GRADIENT[..., 0], "L", "gif", 8),
        (GRADIENT[..., 0].astype(np.uint16), "I;16", "png", 16),
        (GRADIENT[..., 0].astype(np.int32), "I", "tif", 32),
        (GRADIENT[..., 0].astype(np.float32), "F", "tif", 32),
    ],
)
def test_header_tells_the_depth(tmp_path: Path, pixels: NDArray[Any], mode: str, suffix: str, bits: int) -> None:
    header = images.header(saved(tmp_path / f"a.{suffix}", pixels))
    assert (header.mode if suffix != "gif" else "L", header.bits) == (mode, bits)


def test_shallow_pixels_in_16_bits_reach_both_ends(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png")
    deep = images.read(file, ImageSpec(size=(7, 9), bits=16))
    assert deep.dtype == np.uint16
    assert np.array_equal(deep, images.read(file, ImageSpec(size=(7, 9))).astype(np.uint32) * 257)


def test_padding_repeats_the_edge_or_is_black() -> None:
    wide = np.full((10, 20), 9, np.uint8)
    wide[0], wide[-1] = 50, 70
    spec = ImageSpec(size=20, channels=1, fit="letterbox", fill="replicate")
    fitted = images.decode(wide, spec)[..., 0]
    assert fitted[:6].tolist() == [[50] * 20] * 6
    assert fitted[14:].tolist() == [[70] * 20] * 6
    black = images.decode(wide, ImageSpec(size=20, channels=1, fit="letterbox"))[..., 0]
    assert np.array_equal(fitted[5:15], black[5:15])
    assert not black[:5].any()


SIDES = st.integers(2, 60)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["nearest", "box", "bilinear", "bicubic", "lanczos"]))
def test_geometry_is_that_of_pillow(width: int, height: int, wide: int, high: int, interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, method = Image.fromarray(pixels), Image.Resampling[interpolation.upper()]
    expected = {
        "stretch": image.resize((wide, high), method),
        "crop": ImageOps.fit(image, (wide, high), method),
        "letterbox": ImageOps.pad(image, (wide, high), method),
    }
    # Pillow loses the picture where a side comes out at 0.
    thin = min(height / width * wide, width / height * high) < 1
    for fit, reference in expected.items():
        fitted = images.decode(pixels, ImageSpec(size=(high, wide), fit=fit, interpolation=interpolation))
        assert np.array_equal(fitted, np.asarray(reference)) or (thin and fit == "letterbox" and fitted.any())


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_jpeg_decoded_small_stands_where_the_whole_one_does(tmp_path: Path, fit: str) -> None:
    ramp = np.linspace(0, 255, 1001).astype(np.uint8)
    image = np.broadcast_to(ramp, (523, 1001))
    spec = ImageSpec(size=30, channels=1, fit=fit, fill="constant")
    read = images.read(saved(tmp_path / "a.jpg", np.ascontiguousarray(image), quality=98), spec)
    assert np.abs(read.astype(int) - images.decode(image.copy(), spec)).max() <= 3


@pytest.mark.parametrize("mode", ["LA", "La", "RGBa"])
def test_half_transparent_pixels_are_mixed_with_black(mode: str) -> None:
    image = Image.merge("LA", [Image.new("L", (4, 4), 100), Image.new("L", (4, 4), 51)])
    image = (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)
    mixed = np.asarray(images._coloured(image, channels=1))
    assert np.abs(mixed.astype(int) - 20).max() <= 1


def test_images_of_pillow_give_their_pixels() -> None:
    grey = GRADIENT[..., 0]
    for pixels in (GRADIENT, grey, grey.astype(np.uint16) * 200, grey.astype(np.float32)):
        found = images.from_pillow(Image.fromarray(pixels))
        assert found.dtype == pixels.dtype
        assert np.array_equal(found, pixels.reshape(16, 24, -1))
    with pytest.raises(DecodeError, match="must be grey, RGB or palette, got HSV; convert it"):
        images.from_pillow(Image.fromarray(GRADIENT).convert("HSV"))
