from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgcls.core.config_files import read_config
from imgcls.core.errors import ConfigError


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / f"{name}.yaml".replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_a_file_stands_over_what_it_includes_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="image: {size: 224, channels: 3}\nstages: [{epochs: 1}, {epochs: 2}]\nseed: 1\n",
        mine="include: base.yaml\nimage: {size: 96}\nstages: [{epochs: 9}]\n",
    )
    assert read_config(tmp_path / "mine.yaml") == {
        "image": {"size": 96, "channels": 3},
        "stages": [{"epochs": 9}],
        "seed": 1,
    }


def test_later_files_stand_over_earlier_ones_and_paths_count_from_each_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        shared__deep="seed: 1\nout: deep\n",
        shared__one="include: deep.yaml\nseed: 2\n",
        two="seed: 3\n",
        mine="include: [shared/one.yaml, two.yaml]\n",
    )
    assert read_config(tmp_path / "mine.yaml") == {"seed": 3, "out": "deep"}


def test_a_spec_with_a_name_replaces_the_one_below_as_a_whole(tmp_path: Path) -> None:
    write(
        tmp_path, base="optimizer: {name: sgd, momentum: 0.9}\n", mine="include: base.yaml\noptimizer: {name: adamw}\n"
    )
    assert read_config(tmp_path / "mine.yaml") == {"optimizer": {"name": "adamw"}}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"mine": "include: other.yaml\n", "other": "include: mine.yaml\n"}, "must not lead back to a file"),
        ({"mine": "include: nowhere.yaml\n"}, "must name a YAML file, got .*nowhere.yaml"),
        ({"mine": "include: {a: 1}\n"}, "'include' in .*mine.yaml' must be a file or a list of files"),
        ({"mine": "- 1\n"}, "must hold options by name, got list"),
    ],
)
def test_bad_files_are_refused_by_name(texts: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, **texts)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "mine.yaml")
