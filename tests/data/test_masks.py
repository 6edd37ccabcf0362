from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import DecodeError
from imgcls.data import images
from imgcls.data.images import Header
from imgcls.data.masks import fit_mask, read_mask
from imgcls.data.spec import ImageSpec

INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")
FITS = [("stretch", "constant"), ("letterbox", "constant"), ("letterbox", "replicate"), ("crop", "constant")]

# A shape without symmetry, which touches the left edge.
BLOB = np.zeros((32, 48), np.bool_)
BLOB[4:20, :30] = True
BLOB[12:29, 22:37] = True


def plain(width: int = 48, height: int = 32) -> Header:
    return Header(width=width, height=height, format="PNG", mode="L", bits=8, raw_width=width, raw_height=height)


def turned(orientation: int) -> Header:
    """Make the header of an image that is stored in 48 x 32."""
    upright = plain(32, 48) if orientation >= 5 else plain()
    return attrs.evolve(upright, orientation=orientation, raw_width=48, raw_height=32)


def saved(path: Path, pixels: NDArray[Any], orientation: int = 1, **options: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("fit", "fill"), FITS)
def test_mask_goes_where_its_image_goes(tmp_path: Path, fit: str, fill: str, orientation: int) -> None:
    file = saved(tmp_path / "image.png", BLOB.astype(np.uint8) * np.uint8(255), orientation)
    mask = read_mask(file, threshold=127, header=images.header(file))
    for interpolation in INTERPOLATIONS:
        for size in ((17, 23), (64, 60)):
            spec = ImageSpec(size=size, channels=1, fit=fit, interpolation=interpolation)
            assert np.array_equal(fit_mask(mask, spec), images.read(file, spec)[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mask_of_the_stored_image_is_turned_with_it(tmp_path: Path, orientation: int) -> None:
    grey = BLOB.astype(np.uint8) * np.uint8(255)
    image = saved(tmp_path / "image.png", grey, orientation)
    mask = saved(tmp_path / "mask.png", grey if orientation >= 5 else images.original(image)[..., 0])
    found = read_mask(mask, threshold=127, header=images.header(image))
    assert np.array_equal(found, images.original(image)[..., 0] > 127)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fill", ["constant", "replicate"])
def test_padding_lies_outside(fill: str, interpolation: str) -> None:
    spec = ImageSpec(size=48, fit="letterbox", fill=fill, interpolation=interpolation)
    fitted = fit_mask(np.ones((32, 48), np.bool_), spec)
    assert fitted.dtype == np.uint8
    assert not fitted[:8].any()
    assert not fitted[40:].any()
    assert (fitted[8:40] == 255).all()


def test_shrinking_gives_the_area_inside() -> None:
    fitted = fit_mask(BLOB, ImageSpec(size=(8, 12), interpolation="box"))
    area = BLOB.reshape(8, 4, 12, 4).mean(axis=(1, 3)) * 255
    assert np.abs(fitted - area).max() <= 1


def test_nearest_stays_inside_or_outside() -> None:
    fitted = fit_mask(BLOB, ImageSpec(size=(7, 9), interpolation="nearest"))
    assert set(np.unique(fitted)) == {0, 255}


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (10, 2), (199.5, 1), (200, 0)])
def test_values_above_the_threshold_are_inside(tmp_path: Path, threshold: float, count: int) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0, :3] = 10, 11, 200
    mask = read_mask(saved(tmp_path / "a.png", pixels), threshold=threshold, header=plain(4, 4))
    assert mask.dtype == np.bool_
    assert mask.sum() == count


def test_any_colour_above_the_threshold_is_inside(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0, 2] = pixels[1, 1, 0] = 200
    mask = read_mask(saved(tmp_path / "a.png", pixels), threshold=127, header=plain(4, 4))
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 1]]


def test_deep_mask_needs_no_range(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), np.uint16)
    pixels[2, 3] = 1000
    mask = read_mask(saved(tmp_path / "a.png", pixels), threshold=999, header=plain(4, 4))
    assert np.argwhere(mask).tolist() == [[2, 3]]


def annotation(path: Path, *boxes: tuple[object, ...], size: str = "", before: str = "") -> Path:
    names = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><name>dog</name><bndbox>{''.join(f'<{n}>{v}</{n}>' for n, v in zip(names, box, strict=True))}"
        "</bndbox></object>"
        for box in boxes
    )
    path.write_text(f"{before}<annotation>{size}{objects}</annotation>")
    return path


def sized(width: int, height: int) -> str:
    return f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"


def test_boxes_count_from_one_and_include_their_ends(tmp_path: Path) -> None:
    file = annotation(tmp_path / "a.xml", (1, 1, 2, 1), (48, 31, 48, 32), ("3.2", "4.0", "4.4", "4.0"))
    mask = read_mask(file, threshold=0, header=plain())
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [3, 2], [3, 3], [30, 47], [31, 47]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_stored_image_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    header = turned(orientation)
    file = annotation(tmp_path / "a.xml", (1, 1, 48, 8), size=sized(48, 32))
    mask = read_mask(file, threshold=0, header=header)
    assert mask.shape == (header.height, header.width)
    if orientation >= 5:
        top = np.zeros((32, 48), np.uint8)
        top[:8] = 255
        image = saved(tmp_path / "a.png", top, orientation)
        assert np.array_equal(mask, images.original(image)[..., 0] > 0)


def test_empty_masks_are_fine(tmp_path: Path) -> None:
    assert not read_mask(annotation(tmp_path / "a.xml"), threshold=0, header=plain()).any()
    black = saved(tmp_path / "a.png", np.zeros((32, 48), np.uint8))
    assert not fit_mask(read_mask(black, threshold=0, header=plain()), ImageSpec()).any()


def test_size_of_a_mask_is_that_of_its_image(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(
        DecodeError, match=r"mask '.*a\.png' must have the size of its image, 48 x 32, got 32 x 32; make"
    ):
        read_mask(file, threshold=0, header=plain())
    with pytest.raises(
        DecodeError, match="must have the size of its image, 32 x 48 or, as stored, 48 x 32, got 32 x 32"
    ):
        read_mask(file, threshold=0, header=turned(6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be XML, got an error: no element found"),
        ("<annotation><object>", "must be XML, got an error: no element found"),
        ("<svg/>", "must be a Pascal VOC <annotation>, got <svg>; give a mask image or VOC boxes"),
        ("<!DOCTYPE a><annotation/>", "must be plain XML, got <!DOCTYPE; remove it"),
        ('<!ENTITY a "b"><annotation/>', "must be plain XML, got <!ENTITY; remove it"),
        ("<annotation><object/></annotation>", "must have a <bndbox> in each object, got none in object 1"),
        (f"<annotation>{sized(32, 48)}</annotation>", "must have the size of its image, 48 x 32, got 32 x 48; make"),
        ("<annotation><size/></annotation>", "must have a number as <width> of its size, got None; correct it"),
    ],
)
def test_bad_annotation_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DecodeError, match=rf"mask '.*a\.xml' {message}"):
        read_mask(tmp_path / "a.xml", threshold=0, header=plain())


@pytest.mark.parametrize(
    "box", [(0, 1, 2, 2), (1, 0, 2, 2), (1, 1, 49, 2), (1, 1, 2, 33), (5, 1, 4, 2), (1, 5, 2, 4), (-3, 1, 2, 2)]
)
def test_impossible_box_is_named(tmp_path: Path, box: tuple[int, ...]) -> None:
    file = annotation(tmp_path / "a.xml", (1, 1, 2, 2), box)
    edges = "xmin {}, ymin {}, xmax {}, ymax {}".format(*box)
    with pytest.raises(DecodeError, match=rf"a\.xml' must have boxes inside of 48 x 32 .* got box 2 with {edges}; cor"):
        read_mask(file, threshold=0, header=plain())


@pytest.mark.parametrize("value", ["", "x", "nan", "inf"])
def test_box_needs_numbers(tmp_path: Path, value: str) -> None:
    file = annotation(tmp_path / "a.xml", (value, 1, 2, 2))
    with pytest.raises(DecodeError, match=f"must have a number as <xmin> of its box 1, got '{value}'; correct it"):
        read_mask(file, threshold=0, header=plain())


def test_hidden_entities_are_refused(tmp_path: Path) -> None:
    text = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    (tmp_path / "a.xml").write_text(text, encoding="utf-16")
    with pytest.raises(DecodeError, match="must be XML in UTF-8, got another encoding; convert it"):
        read_mask(tmp_path / "a.xml", threshold=0, header=plain())


def test_missing_and_broken_masks_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.xml"):
        with pytest.raises(DecodeError, match=f"mask '.*{name}' must exist, got no such file"):
            read_mask(tmp_path / name, threshold=0, header=plain())
    (tmp_path / "b.png").write_text("no mask")
    with pytest.raises(DecodeError, match=r"mask '.*b\.png' must be readable, got no image of a known format"):
        read_mask(tmp_path / "b.png", threshold=0, header=plain())
