"""The code of the pages runs as it stands."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import imgcls
from imgcls import Dataset, Searcher, Stage, Trainer
from imgcls.core.config import from_yaml
from imgcls.core.config_files import read_config
from imgcls.core.errors import DataError, missing_extra
from imgcls.execution.cluster import cluster_of
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
        *("parallel", "prediction", "report", "run", "splitting", "thresholds", "training"),
    )
]


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


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


# What the page on searching calls Searcher: its networks are small, and trials few.
def _searcher(trainer: Trainer, *, space: dict[str, Any], **options: Any) -> Searcher:
    nets = [{"name": "small-cnn", "base": base, "depth": 2} for base in (4, 8)]
    return Searcher(trainer, space={**space, "backbone": nets}, **{**options, "trials": 3})


def test_code_of_the_page_on_searching_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(imgcls, "Searcher", _searcher)
    stages = [{"epochs": 1, "train": "head", "lr": 3e-3}, {"epochs": 1, "lr": 3e-3}]
    trainer = _trainer(_study(finished), stages=stages)
    _run_blocks("docs/search.md", {"trainer": trainer}, tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "search" / "best.yaml").exists()
    (block,) = _blocks("docs/search.md", "yaml")
    options = trainer.to_config() | {"data": {"from": "folder", "root": str(finished / "xrays"), "group": r"(g\d+)-"}}
    assert len(Searcher.from_config({**options, **from_yaml(block, source="search.md")}).space) == 3


def test_code_of_the_page_on_fitting_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [{"name": "small-cnn", "base": base, "depth": 2} for base in (4, 8)]
    fit = imgcls.fit
    small = {"minutes": 1, "backbones": nets, "image": {"size": 16, "channels": 1}}
    monkeypatch.setattr(imgcls, "fit", lambda data, **options: fit(data, **{**options, **small}))
    _run_blocks("docs/fit.md", {"data": _study(finished)}, tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "chest" / "fit.json").exists()


def _run_blocks(page: str, names: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _blocks(page, "python")
    monkeypatch.chdir(place)
    module = types.ModuleType("page")  # classes of the page can be pickled, as those of a file can
    module.__dict__.update(names)
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks:
        exec(compile(block, page, "exec"), module.__dict__)
    assert blocks


# Code and configurations that would take a cluster, or long


@pytest.mark.parametrize("page", ["parallel", "cluster"])
def test_calls_of_the_pages_on_executors_have_options_that_exist(page: str) -> None:
    kinds: dict[str, type] = {"Trainer": Trainer, "Searcher": Searcher}
    found = 0
    for block in _blocks(f"docs/{page}.md", "python"):
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            if not isinstance(call.func, ast.Name):
                assert isinstance(call.func, ast.Attribute)
                assert call.func.attr in {"fit", "run"}
                continue
            given = {str(word.arg): word.value for word in call.keywords}
            assert given.keys() <= {field.alias for field in attrs.fields(kinds[call.func.id])}
            executor = ast.literal_eval(given["executor"])
            assert executor == "processes" or cluster_of(executor) is not None
            found += 1
    assert found


def test_the_yaml_of_the_page_on_clusters_can_be_read() -> None:
    (block,) = _blocks("docs/cluster.md", "yaml")
    said = re.search(r"entrypoint: imgcls search \S+ +# (executor: .*); (workers: \d+)", block)
    assert said is not None
    assert from_yaml(block)["kind"] == "RayJob"
    options = from_yaml("\n".join(said.groups()))
    assert cluster_of(options["executor"]) is not None
    assert options["workers"] == 4


@pytest.fixture
def chest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a set in the form of the chest X-rays."""
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        split, label = ("test", "train", "train")[number % 3], ("NORMAL", "PNEUMONIA")[number % 2]
        name = f"IM-{number:04d}-0001.png" if label == "NORMAL" else f"person{number}_virus_1.png"
        (Path("chest_xray") / split / label).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(Path("chest_xray") / split / label / name)
    return tmp_path


def test_the_configurations_of_the_page_on_them_are_whole(chest: Path) -> None:
    for name, block in zip(("base.yaml", "more.yaml"), _blocks("docs/configuration.md", "yaml"), strict=True):
        (chest / name).write_text(block, encoding="utf-8")
    base, more = (Trainer.from_config(read_config(chest / name)) for name in ("base.yaml", "more.yaml"))
    assert (base.out, more.out) == ("runs/chest", "runs/convnext")
    assert len(more.stages) == len(base.stages) == 2


def test_the_configuration_of_the_page_on_chest_x_rays_is_whole(chest: Path) -> None:
    (block,) = _blocks("docs/chest_xray.md", "yaml")
    (file,) = re.findall(r'^--8<-- "(.*)"$', block, re.MULTILINE)
    (chest / "mobilenetv2_100.safetensors").touch()
    assert Trainer.from_config(read_config(ROOT / file)).data.positive == "PNEUMONIA"


@pytest.mark.parametrize("line", "".join(_blocks("docs/training.md", "yaml")).splitlines())
def test_every_line_of_yaml_of_the_page_on_training_is_an_option_of_a_stage(line: str) -> None:
    assert Stage(epochs=20, **from_yaml(line))


# The configurations of the pages for those who come from other programs


MIGRATIONS = [path.stem for path in sorted((ROOT / "docs" / "migration").glob("*.md")) if path.stem != "index"]


@pytest.mark.parametrize("page", MIGRATIONS)
def test_the_configurations_of_a_migration_page_can_be_read(
    page: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = _blocks(f"docs/migration/{page}.md", "yaml")
    assert blocks
    for block in blocks:
        options = from_yaml(block, source=page)
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


# Pages about sets of their own kind


def _folder_of_images(place: Path, names: list[str], size: tuple[int, int] = (16, 16)) -> list[str]:
    """Noise, each image with another seed."""
    place.mkdir(parents=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(place / name)
    return names


def test_code_of_the_page_on_several_labels_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _folder_of_images(tmp_path / "images", [f"{number}.png" for number in range(48)])
    kinds = ["effusion", "nodule", "effusion|nodule", ""]
    known = {"image": names, "patient": [f"p{number // 2}" for number in range(48)]}
    pd.DataFrame({**known, "findings": kinds * 12}).to_csv(tmp_path / "index.csv", index=False)
    for name in ("a.png", "b.png"):
        shutil.copy(tmp_path / "images" / "0.png", tmp_path / name)
    given = {"Dataset": Dataset, "Trainer": Small}
    _run_blocks("docs/several_labels.md", given, tmp_path, monkeypatch)


def test_code_of_the_page_on_tiles_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tmp_path / "parts"
    names = _folder_of_images(parts / "images", ["a.png", "b.png"], (1080, 1920))
    mark = np.zeros((1080, 1920), dtype=np.uint8)
    mark[300:360, 500:570] = 255
    Image.fromarray(mark).save(parts / "a-mask.png")
    columns = {"label": ["crack", "free"], "part": ["one", "two"], "mask": ["a-mask.png", ""]}
    frame = pd.DataFrame({"image": [f"images/{name}" for name in names], **columns})
    frame.to_csv(parts / "index.csv", index=False)
    probs = np.random.default_rng(0).random((200, 2))
    _run_blocks("docs/tiling.md", {"probs": probs}, tmp_path, monkeypatch)
    assert Dataset.from_csv(tmp_path / "parts-tiles" / "tiles.csv", group="group", mask="mask").groups is not None


def test_code_of_the_page_on_the_leak_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _folder_of_images(tmp_path / "magnetic_tile", ["1.png", "2.png"])
    columns = {"image": names, "label": ["free", "crack"], "group_inferred": ["one", "two"]}
    pd.DataFrame(columns).to_csv(tmp_path / "magnetic_tile" / "index.csv", index=False)
    _run_blocks("docs/leaks.md", {"Dataset": Dataset}, tmp_path, monkeypatch)


def test_code_of_the_page_on_scores_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _marked(finished / "xrays", tmp_path)
    runs = [_trainer(data, out=tmp_path / "runs" / "a").fit()]
    vit = {"name": "timm", "model": "test_vit", "pretrained": False, "options": {"img_size": 16, "patch_size": 4}}
    runs.append(_trainer(data, out=tmp_path / "runs" / "vit", backbone=vit).fit())
    method = imgcls.explainers.create("input-times-gradient")
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    given = {"run": runs[0], "run_a": runs[0], "run_b": runs[1], "array": np.ones((16, 16))}
    given |= {"explainer": method, "model": runs[0].classifier(0), "images": images}
    _run_blocks("docs/relevance_scores.md", given, tmp_path, monkeypatch)
    assert (tmp_path / "comparison").is_dir()


# The left half of each image is marked.
def _marked(images: Path, place: Path) -> Dataset:
    shutil.copytree(images, place / "marked")
    mark = np.zeros((16, 16), dtype=np.uint8)
    mark[:, :8] = 255
    Image.fromarray(mark).save(place / "marked" / "left.png")
    frame = Dataset.from_folder(images, group=r"(g\d+)-").frame.rename(columns={"id": "image"})
    frame = frame[["image", "label", "group"]].assign(mask="left.png")
    return Dataset.from_frame(
        frame, root=place / "marked", image="image", label="label", group="group", mask="mask", positive="b"
    )
