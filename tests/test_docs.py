"""The code of the pages runs as it stands."""

from __future__ import annotations

import re
import shutil
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
from torch import nn

import imgcls
from imgcls import Dataset, Searcher, Trainer
from imgcls.core.config import from_yaml
from imgcls.core.errors import DataError, missing_extra
from imgcls.testing import blobs, write_image_folder

ROOT = Path(__file__).parent.parent

#: Pages whose code stands by itself.
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("quickstart", "plugins", "trackers", "augmentation", "explaining")),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "howto").glob("*.md")),
]

#: Pages whose code speaks of a set and a run of the reader; here they are small ones.
ABOUT_A_RUN = [
    f"docs/{name}.md"
    for name in (
        *("backbones", "balancing", "calibration", "checking", "concepts", "evaluation", "export", "images"),
        *("prediction", "report", "splitting", "thresholds", "training"),
    )
]


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run_blocks(page, {}, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of two classes, a run on it in `runs/b`, and images to predict."""
    place = tmp_path_factory.mktemp("finished")
    write_image_folder(place / "xrays", blobs(groups=30, size=16))
    images = sorted((place / "xrays").rglob("*.png"))
    for image, name in zip(images[::50], ("a.png", "b.png", "new.png"), strict=True):
        shutil.copy(image, place / name)
    _trainer(_study(place), out=place / "runs" / "b").fit()
    return place


def _study(place: Path) -> Dataset:
    frame = Dataset.from_folder(place / "xrays", group=r"(g\d+)-").frame.rename(columns={"id": "image"})
    known = frame[["image", "label", "group"]].assign(site=["north", "south"] * 60, sex=["f", "m", "m", "f"] * 30)
    return Dataset.from_frame(known, root=place / "xrays", image="image", label="label", group="group", positive="b")


# What a page calls Trainer, so that a page may write the short call and seconds are enough.
def _trainer(data: Dataset, **options: Any) -> Trainer:
    small: dict[str, Any] = {
        "backbone": {"name": "small-cnn", "base": 8, "depth": 2},
        "image": {"size": 16, "channels": 1},
        "splitter": {"name": "stratified-group-kfold", "k": 2},
        "stages": [{"epochs": 1, "lr": 3e-3}],
    }
    return Trainer(data, **{**small, **options})


class Small:
    """What a page calls Trainer, where it reads configurations too."""

    from_config = Trainer.from_config

    def __new__(cls, data: Dataset, **options: Any) -> Trainer:  # type: ignore[misc]
        return _trainer(data, **options)


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_code_of_a_page_about_a_run_runs(
    page: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "work"
    shutil.copytree(finished, place)
    data = _study(place)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    run = imgcls.load_run(place / "runs" / "b", root=place / "xrays")
    given = {name: getattr(imgcls, name) for name in imgcls.__all__}
    given |= {"imgcls": imgcls, "data": data, "other": data.sample(40, seed=1), "run": run, "my_network": module}
    _run_blocks(page, given | {"Trainer": Small, "trainer": _trainer(data)}, place, monkeypatch)


def _run_blocks(page: str, names: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(place)
    module = types.ModuleType("page")  # classes of the page can be pickled, as those of a file can
    module.__dict__.update(names)
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks:
        exec(compile(block, page, "exec"), module.__dict__)
    assert blocks


# The configurations of the pages for those who come from other programs


MIGRATIONS = [path for path in sorted((ROOT / "docs" / "migration").glob("*.md")) if path.stem != "index"]


@pytest.mark.parametrize("page", MIGRATIONS, ids=lambda path: path.stem)
def test_the_configurations_of_a_migration_page_can_be_read(
    page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        options = from_yaml(block, source=page.name)
        with pytest.raises(DataError, match=r"must (name|be) an existing"):  # all but the files is right
            Dataset.from_config(options["data"])
        options["data"] = {"from": "folder", "root": str(finished / "xrays"), "group": r"(g\d+)-"}
        assert (Searcher if "search" in options else Trainer).from_config(options)


# The errors of the page on errors

WRONG = re.findall(
    r"^```py\n(.*?)\n```\n\n```text\n(.*?)\n```",
    (ROOT / "docs/faq.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize(("code", "message"), WRONG, ids=[code for code, _ in WRONG])
def test_the_page_on_errors_says_what_the_program_says(
    code: str, message: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "work"
    shutil.copytree(finished, place)
    _spoil(place)
    monkeypatch.chdir(place)
    data = _study(place)
    names = {name: getattr(imgcls, name) for name in imgcls.__all__}
    names |= {"data": data, "few": blobs(groups=6), "run": imgcls.load_run("runs/b", root="xrays")}
    names["Trainer"] = Small
    with pytest.raises(imgcls.ImgclsError) as error:
        exec(code, names | {"missing_extra": missing_extra})
    said, parts = (
        " ".join(str(error.value).split()),
        [re.escape(part) for part in " ".join(message.split()).split("[...]")],
    )
    assert re.fullmatch(".*".join(parts), said), said


# What the page needs that is wrong: a file that is cut off, one of 16 bits, a table of files that are not there.
def _spoil(place: Path) -> None:
    for name in ("broken", "deep"):
        shutil.copytree(place / "xrays", place / name)
    cut = place / "broken" / "a" / "g000-000003.png"
    cut.write_bytes(cut.read_bytes()[:60])
    deep = (np.arange(256).reshape(16, 16) * 200).astype(np.uint16)
    Image.fromarray(deep).save(place / "deep" / "a" / "g000-000003.png")
    (place / "table.csv").write_text("image,label\na/one.png,a\nb/two.png,b\n")
    (place / "runs" / "half").mkdir()
    (place / "runs" / "half" / "config.yaml").write_text("backbone: resnet18\n")


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
