from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from imgcls.augment.augment import to_augment
from imgcls.augment.preview import contact_sheet, preview
from imgcls.cli import app
from imgcls.core.errors import ConfigError
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec

pytestmark = pytest.mark.usefixtures("one_thread")


def cells(sheet: Image.Image, rows: int, columns: int) -> list[list[NDArray[np.uint8]]]:
    pixels = np.asarray(sheet)
    height, width = (sheet.height - 4) // rows, (sheet.width - 4) // columns
    return [
        [pixels[row * height + 20 : (row + 1) * height, c * width + 4 : (c + 1) * width] for c in range(columns)]
        for row in range(rows)
    ]


def test_a_row_has_the_image_and_then_its_draws() -> None:
    images = np.zeros((2, 128, 128, 1), np.uint8)
    images[:, 10, 20] = 255
    flip = to_augment([{"name": "flip-lr", "p": 1}])
    sheet = contact_sheet(images, flip, titles=["a", "b"], draws=3)
    for row in cells(sheet, 2, 4):
        assert (row[0] == images[0]).all()
        for draw in row[1:]:
            assert (draw == images[0][:, ::-1]).all()


def test_outlines_of_masks_follow() -> None:
    images, masks = np.zeros((1, 128, 128, 3), np.uint8), np.zeros((1, 128, 128), np.bool_)
    masks[0, 30:40, 50:70] = True
    flip = to_augment([{"name": "flip-ud", "p": 1}])
    ((original, draw),) = cells(contact_sheet(images, flip, titles=["a"], masks=masks, draws=1), 1, 2)
    assert (original[30, 50] == (255, 0, 0)).all()
    assert not original[35, 60].any()
    assert (draw == original[::-1]).all()


def test_a_sheet_has_records_of_each_class_and_policies_of_all() -> None:
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.integers(0, 256, (30, 8, 8), np.uint8), np.arange(30) % 3)
    spec = ImageSpec(size=8, channels=1)
    one = preview(data, to_augment("light"), image=spec, records=2, draws=2)
    all_of_them = preview(data, to_augment({"default": "light", "2": "strong"}), image=spec, records=1, draws=2)
    assert (all_of_them.height - 4) * 2 == (one.height - 4) * 3
    with pytest.raises(ConfigError, match="'draws' must be a whole number of at least 1, got 0"):
        preview(data, to_augment("light"), image=spec, draws=0)


def test_the_command_writes_a_sheet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("L", (12, 12), 90).save(tmp_path / "set" / name / "1.png")
    out = tmp_path / "sheet.png"
    command = ["augment-preview", str(tmp_path / "set"), "--out", str(out), "--records", "2", "--draws", "1"]
    assert CliRunner().invoke(app, [*command, "--augment", "[flip-lr]"], catch_exceptions=False).exit_code == 0
    with Image.open(out) as sheet:
        assert sheet.size == (2 * 132 + 4, 2 * 148 + 4)
    with pytest.raises(ConfigError, match="'--augment' must be given"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{from: folder, root: {tmp_path / 'set'}}}\nimage: {{size: 12}}\naugment: light\n")
    command[1] = str(config)
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
