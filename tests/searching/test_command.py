"""`imgcls search` as a user types it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imgcls import Trainer
from imgcls.cli import main
from imgcls.core.config import from_yaml, to_yaml
from imgcls.testing import blobs, write_image_folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    options = {
        "data": {"from": "folder", "root": str(write_image_folder(tmp_path / "images", data=blobs()))},
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": {"size": 8, "channels": 1},
        "splitter": "holdout",
        "decision": 0.5,
        "stages": [{"epochs": 1, "lr": 1e-2}],
        "precision": "fp32",
        "search": {
            "out": str(tmp_path / "search"),
            "space": {"stages.0.lr": {"float": [1e-4, 1e-1], "log": True}, "optimizer": ["adamw", "sgd"]},
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(options), encoding="utf-8")
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["imgcls", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_search_of_a_configuration_leaves_one_that_trains(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "search", config, "search.trials=2", "stages.0.epochs=2") == 0
    assert "2 complete" in capsys.readouterr().out
    best = from_yaml((tmp_path / "search" / "best.yaml").read_text(encoding="utf-8"))
    assert Trainer.from_config({**best, "out": str(tmp_path / "again")}).stages[0].epochs == 2
    assert call(monkeypatch, "train", tmp_path / "search" / "best.yaml", f"out={tmp_path / 'again'}") == 0
    capsys.readouterr()
    assert call(monkeypatch, "search", "show", tmp_path / "search") == 0
    assert "2 complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "show"), "'show' must be followed by the folder of a search"),
        (("search", "show", "nowhere"), "'folder' must hold a search with trials"),
        (
            ("search", "CONFIG", "search.trails=2"),
            "'search.trails' must be an option of Searcher; did you mean 'trials'",
        ),
        (("search", "CONFIG", "search.space={lr: [1]}"), "'search.space.lr' must be an option of Trainer"),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(
    words: tuple[str, ...],
    message: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *(config if word == "CONFIG" else word for word in words)) == 1
    assert message in capsys.readouterr().err
