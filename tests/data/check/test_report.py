from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.data.check import page
from imgcls.data.check.checking import check
from imgcls.data.check.embedding import flat_map
from imgcls.data.check.pictures import map_picture
from imgcls.data.dataset import Dataset

Texture = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def data(texture: Texture) -> Dataset:
    images = [texture(seed) for seed in range(8)] + [texture(0), (texture(1) * 0.6).astype(np.uint8)]
    images[3] = np.full((72, 80), 9, np.uint8)
    labels = ["<b>", "b"] * 5
    groups = [f"g{number}" for number in range(10)]
    return Dataset.from_arrays(np.stack(images), labels, groups=groups, splits=["train"] * 8 + ["test", "train"])


def test_classes_are_counted(data: Dataset) -> None:
    table = check(data).classes
    assert table["label"].tolist() == list(data.classes)
    assert table["records"].tolist() == [5, 5]
    assert table["groups"].tolist() == [5, 5]
    assert table[["train", "test"]].to_numpy().tolist() == [[4, 1], [5, 0]]
    assert "val" not in table
    assert table["width"].tolist() == ["80", "80"]


def test_summary_says_what_was_found(data: Dataset) -> None:
    report = check(data)
    text = str(report)
    assert text.splitlines()[0] == "10 images in 2 classes: 1 error, 3 warnings, 2 notes"
    assert "duplicates: 1 surplus records, 1 exact and 1 near pairs" in text
    assert "error: exact duplicate across (1)\n  000000 and 000008: split: train|test" in text
    assert repr(report) == "CheckReport(ok=False, 1 error, 3 warnings, 2 notes)"


def test_long_lists_are_cut(texture: Texture) -> None:
    images = np.stack([texture(0)] * 6)
    text = check(Dataset.from_arrays(images, list("ababab"))).summary()
    assert "error: label conflict (9)" in text
    assert "  and 6 more" in text


def test_problems_stand_in_order_of_gravity(data: Dataset) -> None:
    order = check(data).problems["severity"].tolist()
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_page_is_self_contained(data: Dataset, tmp_path: Path) -> None:
    text = check(data).save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "http" not in text
    images = re.findall(r"<img[^>]*>", text)
    assert len(images) > 10
    assert all('alt="' in image and 'src="data:image/jpeg;base64,' in image for image in images)
    assert "Numbers from this set would be wrong: 1 error, 3 warnings, 2 notes." in text
    assert "prefers-color-scheme: dark" in text


def test_page_says_what_it_leaves_out(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_PAIRS", 1)
    text = check(data).save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 of 2 pairs" in text
    assert text.count('<div class="two">') == 1
    monkeypatch.setattr(page, "_ROWS", 0)
    text = check(data).save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 more are in the tables, not on this page." in text


def test_page_of_a_good_set(texture: Texture, tmp_path: Path) -> None:
    data = Dataset.from_arrays(np.stack([texture(seed) for seed in range(4)]), list("abab"))
    report = check(data)
    assert (report.ok, len(report.problems), len(report.pairs)) == (True, 0, 0)
    text = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Nothing found that must be mended" in text
    assert "No image is there twice." in text


def test_files_that_vanish_leave_a_gap_on_the_page(make_images: Callable[..., Path], tmp_path: Path) -> None:
    root = make_images("a/1.png", "a/2.png", "b/3.png", size=(40, 40))
    report = check(Dataset.from_folder(root))
    (root / "a" / "1.png").unlink()
    text = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("not readable") == 1


def test_tables_are_written_as_json(data: Dataset, tmp_path: Path) -> None:
    report = check(data)
    saved = json.loads(report.to_json(tmp_path / "check.json").read_text())
    assert (saved["ok"], saved["num_surplus"], saved["copies"]) == (False, 1, [["000000", "000008"]])
    assert pd.DataFrame(saved["pairs"])["across"].tolist() == ["split: train|test", ""]
    assert saved["files"][0]["width"] == 80
    assert len(saved["problems"]) == len(report.problems)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_embeddings_are_drawn_and_seeded(data: Dataset, tmp_path: Path, method: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 6))
    report = check(data, embeddings=vectors, embedding_map=method, near=False)  # type: ignore[arg-type]
    again = check(data, embeddings=vectors, embedding_map=method, near=False)  # type: ignore[arg-type]
    assert report.map is not None
    assert again.map is not None
    assert report.map.shape == (10, 2)
    assert np.array_equal(report.map, again.map)
    text = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<img class="map" src="data:image/png;base64,' in text


def test_pairs_that_a_network_finds_alike_do_not_crowd_out_duplicates(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_PAIRS", 2)
    monkeypatch.setattr(page, "_ALIKE", 1)
    report = check(data, embeddings=np.ones((10, 3)))
    text = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    duplicates, alike = text.split('<h2 id="alike">')
    assert "2 of 2 pairs" in duplicates
    assert "<figcaption>exact, similarity 1.00" in duplicates
    assert f"1 of {(report.pairs['kind'] == 'embedding').sum()} pairs" in alike
    assert "<figcaption>embedding, cosine 1.00" in alike


def test_groups_that_may_be_one_are_shown_by_what_they_share(texture: Texture, tmp_path: Path) -> None:
    images = np.stack([texture(seed) for seed in (0, 1, 2, 3, 1)])
    report = check(Dataset.from_arrays(images, list("aabba"), groups=["x", "x", "y", "z", "z"]))
    text = report.save(tmp_path / "page.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="([^"]*)"', text.split('<h2 id="groups">')[1].split("<h2")[0])
    assert len(shown) == 2
    assert shown[0] == shown[1]


def test_rare_classes_are_drawn_above_frequent_ones() -> None:
    data = Dataset.from_arrays(np.zeros((51, 4, 4), np.uint8), ["a"] + ["b"] * 50)
    drawn = base64.b64decode(map_picture(data, np.zeros((51, 2))).partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).reshape(-1, 3)
    # 0.7 of the blue of the first class on the orange of the second
    assert (np.abs(pixels - [98, 121, 129]).max(axis=1) < 12).any()


def test_pca_keeps_what_varies_most() -> None:
    vectors = np.zeros((5, 3), np.float32)
    vectors[:, 1] = [1, 2, 3, 4, 5]
    assert np.allclose(np.abs(flat_map(vectors, "pca", seed=0)[:, 0]), [2, 1, 0, 1, 2], atol=1e-5)
    assert flat_map(vectors[:, :1], "pca", seed=0).shape == (5, 2)


def test_options_without_effect_are_refused(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="'embedding_map' must be None without 'embeddings', got 'pca'"):
        check(data, embedding_map="pca")
    with pytest.raises(ConfigError, match="'embedding_map' must be 'pca', 'tsne' or None, got 'umap'"):
        check(data, embeddings=np.zeros((10, 2)), embedding_map="umap")  # type: ignore[arg-type]


def test_several_labels_are_read_as_text(texture: Texture, tmp_path: Path) -> None:
    from PIL import Image

    rows = []
    for seed, label in enumerate(["a|b", "a", "b", "a|b"]):
        Image.fromarray(texture(seed % 3)).save(tmp_path / f"{seed}.png")
        rows.append({"image": f"{seed}.png", "label": label})
    report = check(Dataset.from_frame(pd.DataFrame(rows), root=tmp_path))
    assert report.pairs["same_label"].tolist() == [True]
    assert report.classes.set_index("label")["records"].to_dict() == {"a|b": 2, "a": 1, "b": 1}
