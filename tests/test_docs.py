"""The code of the pages runs as it stands."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torchvision
from numpy.typing import NDArray
from PIL import Image

from imgcls import Dataset

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/quickstart.md", "docs/plugins.md"]


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")  # classes of the page can be pickled, as those of a file can
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks:
        exec(compile(block, page, "exec"), module.__dict__)
    assert blocks


# The one-liners of the page on data


@pytest.fixture
def forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with a set in every form that the page names, and what its lines call by name."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 24), dtype=np.uint8)
    paths = ["set/{0}/{1}.png", "split/{2}/{0}/p{1}.png", "masked/{0}/{1}.png", "masked/{0}/{1}_mask.png"]
    paths += ["data/{1}.png", "train_img/00000{1}.jpg", "named/person{1}_{3}.jpeg"]
    for number in range(4):
        words = "ab"[number % 2], number + 1, ["train", "test"][number // 2], ["bacteria", "virus"][number % 2]
        for path in paths:
            file = Path(path.format(*words))
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(file)
    data = Dataset.from_folder("set")
    frame = pd.DataFrame({"image": data.ids, "label": data.frame["label"]})
    _tables([f"set/{name}" for name in data.ids], frame["label"].tolist())
    labels = np.array([0, 1, 0, 1])
    parts = {f"{split}_images": images for split in ("train", "val", "test")}
    np.savez("medmnist.npz", **parts, **{name.replace("images", "labels"): labels[:, None] for name in parts})  # type: ignore[arg-type]
    named = {"frame": frame, "images": images, "labels": labels, "patients": labels}
    return {"Dataset": Dataset, "torchvision": torchvision, "data": data, **named, **_hub(images, labels)}


def _tables(paths: list[str], labels: list[str]) -> None:
    index = {"file": paths, "class": labels, "patient": ["x", "y"] * 2, "part": ["train", "train", "test", "test"]}
    pd.DataFrame(index).to_csv("index.csv", index=False)
    pd.DataFrame({"image": paths, "label": labels}).to_csv("excel.csv", sep=";", index=False)
    findings = {"image": paths, "effusion": [1, 0, 1, 0], "nodule": [1, 1, 0, 0], "all": ["a;b", "b", "a", ""]}
    pd.DataFrame(findings).to_csv("findings.csv", index=False)
    Path("labels").mkdir()
    pd.DataFrame({"filename": list("1234"), "label": labels}).to_csv("labels/labels.csv", index=False)
    Path("label_train.txt").write_text("0\n1\n0\n1\n")


def _hub(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, Any]:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    pictures = [Image.fromarray(image) for image in images]
    made = [
        datasets.Dataset.from_dict({"image": pictures[part], "label": labels[part].tolist()}, features=features)
        for part in (slice(0, 2), slice(2, 4))
    ]
    return {"hub": made[0], "hub_test": made[1]}


def _lines(page: str) -> list[str]:
    rows = re.findall(r"^\| [^|]* \| `(.*)` \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return [row.replace("\\|", "|") for row in rows]


def test_every_line_of_the_page_on_data_runs(forms: dict[str, Any]) -> None:
    lines = _lines("docs/data.md")
    assert len(lines) == 23  # of both tables
    for line in lines:
        if ".relabel(" in line:
            forms = {**forms, "data": Dataset.from_names("named", pattern=r"(?P<label>bacteria|virus)")}
        found = eval(line, forms)
        assert len(found) if "check" not in line else found.ok
