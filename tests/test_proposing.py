from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imgcls import Dataset, Trainer
from imgcls.cli import app
from imgcls.core.config import from_yaml
from imgcls.proposing import propose_config


def folder_of(root: Path, names: dict[str, int], *, side: int = 40, colour: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for name, count in names.items():
        for number in range(count):
            path = root / name.format(number=number, owner=number // 3)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (side, side + 8, 3) if colour else (side, side + 8), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return root


def proposed(root: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    source = {"from": "folder", "root": str(root), **options}
    text = propose_config(Dataset.from_config(source), source)
    return text, from_yaml(text)


def test_a_proposal_makes_a_trainer(tmp_path: Path) -> None:
    _, options = proposed(folder_of(tmp_path, {"a/{number}.png": 12, "b/{number}.png": 12}))
    trainer = Trainer.from_config({**options, "backbone": {"name": "small-cnn"}})
    assert (trainer.image.size, trainer.image.channels) == ((32, 32), 1)
    assert trainer.balancer.sampler.__class__.__name__ == "Uniform"


def test_imbalance_colour_and_own_test_records_are_seen(tmp_path: Path) -> None:
    names = {
        f"{split}/{name}/{{number}}.png": count for split in ("train", "test") for name, count in (("a", 12), ("b", 3))
    }
    text, options = proposed(folder_of(tmp_path, names, colour=True))
    assert options["test"] == "predefined"
    assert options["balancer"] == {"sampler": "weighted", "correct_priors": True}
    assert options["image"]["channels"] == 3
    assert options["data"]["positive"] == "b"
    assert "4.0 times the records" in text


def test_names_that_share_a_beginning_are_pointed_out_and_the_expression_works(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a/cat{owner}_{number}.png": 12, "b/dog{owner}_{number}.png": 12})
    text, _ = proposed(root)
    assert "24 names have only 8 beginnings, such as 'cat0'" in text
    (line,) = (line for line in text.splitlines() if "group: '" in line)
    expression = from_yaml(line.lstrip("# "))["group"]
    _, again = proposed(root, group=expression)
    assert again["data"]["group"] == expression
    groups = Dataset.from_config(again["data"]).groups
    assert groups is not None
    assert len(np.unique(groups)) == 8


def test_nothing_is_said_of_names_that_are_numbers(tmp_path: Path) -> None:
    text, _ = proposed(folder_of(tmp_path, {"a/{number}.png": 12, "b/{number}.png": 12}))
    assert "No groups: if several images show one patient" in text


@pytest.mark.parametrize("side", [20, 70, 500])
def test_the_size_never_exceeds_that_of_the_images_or_224(tmp_path: Path, side: int) -> None:
    _, options = proposed(folder_of(tmp_path, {"a/{number}.png": 3, "b/{number}.png": 3}, side=side))
    assert options["image"]["size"] == {20: 32, 70: 64, 500: 224}[side]


def test_what_belongs_to_the_trainer_is_not_given_to_init(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["init", str(tmp_path), "backbone.name=resnet18", "--out", str(tmp_path / "a.yaml")])
    assert "imgcls train " in str(told.exception)
    assert str(told.exception).startswith("'backbone.name' must be left out here, which takes options of the reader")
