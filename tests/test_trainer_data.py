"""What a Trainer does with views, weights, deep, unreadable and streamed images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from imgcls import Dataset, Run, Trainer, embed, load_run
from imgcls.core.errors import ConfigError, DecodeError
from imgcls.data.spec import ImageSpec
from imgcls.inference.predictor import normalised
from imgcls.runtime.batches import Batches, normalisation
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import open_source, statistics
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: Mapping[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 1, "lr": 0.03, "optimizer": "sgd"}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Run]:
    def fit(data: Dataset, **changes: Any) -> Run:
        return Trainer(data, **{**SMALL, "out": tmp_path / "run", **changes}).fit()

    return fit


def weights_of(run: Run) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.classifier(0).state_dict().values()]).float()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of files with a second picture of each record, a mask, a weight and an age."""
    root, data = write_image_folder(tmp_path / "set", blobs(size=8)), blobs(size=8)
    rows = []
    for position, file in enumerate(sorted(root.rglob("*.png"))):
        name = file.relative_to(root).as_posix()
        flat = root / "flat" / name
        flat.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(file))).save(flat)
        mask = root / "masks" / name
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(mask)
        label, group = name.split("/")[0], file.name.split("-")[0]
        rows.append((name, label, group, f"flat/{name}", f"masks/{name}", 1 + position % 3, 20 + position))
    assert len(rows) == len(data)
    columns = ["image", "label", "who", "flat", "seg", "importance", "age"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "index.csv", index=False)
    return root / "index.csv"


def opened(table: Path, **changes: Any) -> Dataset:
    options = {"group": "who", "views": {"flat": "flat"}, "mask": "seg", "weight": "importance"}
    return Dataset.from_csv(table, **{**options, **changes})


def test_a_view_trains_and_the_images_themselves_validate(table: Path, fitted: Callable[..., Run]) -> None:
    data = opened(table)
    run = fitted(data, train_view="flat", image={"size": 8, "channels": 1, "mean": "dataset", "std": "dataset"})
    facts = load_checkpoint(run.folder / "fold_0/checkpoints/best").facts
    spec = ImageSpec(size=8, channels=1)
    expected = statistics(open_source(data, spec, view="flat"), run.folds[0].train)
    assert (tuple(facts["mean"]), tuple(facts["std"])) == expected
    model, seen = run.classifier(0), run.folds[0].val
    pixels = np.stack([data.pixels(position, spec) for position in seen.tolist()])
    logits = model(normalised(pixels, model, spec)).detach().numpy()
    val = run.predictions("val")
    np.testing.assert_allclose(val.logits[val.fold == 0], logits, atol=1e-5)


def test_unknown_view_is_refused(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"'train_view' must be a view of the set, got 'flatt'; .*'flat'"):
        Trainer(opened(table), **{**SMALL, "train_view": "flatt"})


def test_what_the_set_knows_of_a_record_goes_with_its_predictions(table: Path, fitted: Callable[..., Run]) -> None:
    data = opened(table)
    found = fitted(data).predictions("test")
    ages = dict(zip(data.ids.tolist(), data.frame["age"], strict=True))
    assert found.columns["age"].tolist() == [ages[name] for name in found.ids.tolist()]
    assert {"age", "weight", "mask", "view:flat"} <= set(found.frame().columns)


def test_a_run_with_masks_views_and_weights_opens_on_another_machine(
    table: Path, fitted: Callable[..., Run], tmp_path: Path
) -> None:
    data = opened(table, mask_threshold=100)
    run = fitted(data)
    moved = table.parent.rename(tmp_path / "elsewhere")
    again = load_run(run.folder, root=moved).data
    assert again.fingerprint == data.fingerprint
    assert (again.views, again.mask_threshold) == (("flat",), 100)
    np.testing.assert_array_equal(again.original_mask(3), np.eye(8, dtype=bool))


def test_weights_of_records_reach_the_loss(fitted: Callable[..., Run], tmp_path: Path) -> None:
    data, runs = blobs(size=8), {}
    weights = {"ones": np.ones(len(data)), "twos": np.full(len(data), 2.0), "some": np.arange(len(data)) % 3}
    for name, weight in weights.items():
        arrays, groups = np.asarray(data.arrays), data.groups
        weighted = Dataset.from_arrays(arrays, data.frame["label"], groups=groups, weights=weight)
        runs[name] = weights_of(fitted(weighted, out=tmp_path / name))
    torch.testing.assert_close(runs["ones"], runs["twos"])  # only their ratios count
    assert not torch.allclose(runs["ones"], runs["some"])


def test_npz_runs_open_by_their_own_file(tmp_path: Path, fitted: Callable[..., Run]) -> None:
    data = blobs(size=8)
    assert data.groups is not None
    np.savez(tmp_path / "set.npz", images=np.asarray(data.arrays), labels=data.labels, groups=data.groups)
    run = fitted(Dataset.from_npz(tmp_path / "set.npz"))
    assert load_run(run.folder).data.fingerprint == run.data.fingerprint
    (tmp_path / "new").mkdir()
    (tmp_path / "set.npz").rename(tmp_path / "new/set.npz")
    assert load_run(run.folder, root=tmp_path / "new").data.fingerprint == run.data.fingerprint


# The same tensor everywhere


def everywhere(run: Run, data: Dataset, position: int) -> list[torch.Tensor]:
    """One image as training, evaluation, prediction and explanation see it."""
    model, image = run.classifier(0), run.model.image
    numbers = attrs.evolve(image, mean=model.facts.mean, std=model.facts.std)
    sources = [open_source(data, image, mode=mode) for mode in ("disk", "stream")]
    seen = [Batches.over(source, Runtime(), spec=numbers).images(np.array([position])) for source in sources]
    seen += [next(Batches.over(sources[0], Runtime(channels_last=True), spec=numbers).each([np.array([position])]))]
    caught: list[torch.Tensor] = []
    for fold in run.predictor.models:
        fold.body.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    run.predict(data.path(position))
    explained = np.stack([data.pixels(position, image)])  # as explaining reads it
    return [*seen, caught[0], normalised(explained, model, image)]


@pytest.mark.parametrize(
    "image",
    [
        {"size": 8, "channels": 1},
        {
            "size": [8, 10],
            "channels": 3,
            "fit": "letterbox",
            "fill": "replicate",
            "mean": "imagenet",
            "std": "imagenet",
        },
        {"size": 8, "channels": 3, "fit": "crop", "bits": 16, "mean": "dataset", "std": "dataset"},
    ],
)
def test_an_image_is_the_same_tensor_everywhere(
    image: dict[str, Any], tmp_path: Path, fitted: Callable[..., Run]
) -> None:
    data = Dataset.from_folder(write_image_folder(tmp_path / "set", blobs(size=20)), group="(g[0-9]+)-")
    run = fitted(data, image=image)
    first, *others = everywhere(run, data, 5)
    for other in others:
        assert torch.equal(first, other)
    scale, shift = normalisation(
        attrs.evolve(run.model.image, mean=run.classifier(0).facts.mean, std=run.classifier(0).facts.std)
    )
    row = data.pixels(5, run.model.image)[3].reshape(-1) * scale.numpy() - shift.numpy()
    np.testing.assert_allclose(first[0, :, 3].permute(1, 0).reshape(-1).numpy(), row, atol=1e-6)


def test_each_fold_normalises_by_its_own_training_records(fitted: Callable[..., Run]) -> None:
    data = blobs(size=8)
    run = fitted(data, image={"size": 8, "channels": 1, "mean": "dataset", "std": "dataset"})
    source = open_source(data, run.model.image)
    for number, fold in enumerate(run.folds):
        facts = run.classifier(number).facts
        assert (facts.mean, facts.std) == statistics(source, fold.train)
    assert run.classifier(0).facts.mean != run.classifier(1).facts.mean


def test_deep_images_train_and_predict(tmp_path: Path, fitted: Callable[..., Run]) -> None:
    shallow = blobs(size=8)
    for position in range(len(shallow)):
        sample = shallow[position]
        file = tmp_path / "set" / sample.label / f"{sample.group}-{sample.id}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image[..., 0].astype(np.uint16) * 16).save(file)
    data = Dataset.from_folder(tmp_path / "set", group="(g[0-9]+)-")
    run = fitted(data, image={"size": 8, "channels": 1, "bits": 16, "range": [0, 4095]})
    table = run.predict(data.path(0))
    assert len(table) == 1
    with pytest.raises(DecodeError, match=r"must come with a range, got more than 8 bits .*; set ImageSpec\(range="):
        fitted(data, out=tmp_path / "other")


# Unreadable and streamed


def broken(root: Path, *names: str) -> Dataset:
    files = sorted(root.rglob("*.png"))
    for file in files:
        if file.stem in names:
            file.write_text("no image")
    return Dataset.from_folder(root, group="(g[0-9]+)-")


def test_unreadable_images_are_left_out_and_listed(
    tmp_path: Path, fitted: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = blobs(size=8, groups=24, splits=["train", "train", "test"])
    bad = broken(write_image_folder(tmp_path / "set", data), "g000-000000", "g002-000009")
    with pytest.raises(DecodeError, match="got 2 of 96 that are not"):
        fitted(bad)
    monkeypatch.delenv("IMGCLS_QUIET")
    run = fitted(bad, on_bad="skip")
    assert "Left out since they cannot be read: 1 of test, 1 of train; listed in skipped.csv" in capsys.readouterr().err
    skipped = pd.read_csv(run.folder / "skipped.csv")
    assert skipped["split"].tolist() == ["test", "train"]
    assert skipped["reason"].str.contains("no image of a known format").all()
    assert run.facts["skipped"] == {"test": 1, "train": 1}
    used = {name for fold in run.folds for part in (fold.train, fold.val, fold.test) for name in bad.ids[part]}
    assert used.isdisjoint(skipped["id"])
    assert len(run.predictions("test")) == bad.frame["split"].eq("test").sum() - 1
    assert "skipped.csv" in run.report().read_text()


def test_unreadable_records_of_another_test_set_are_listed_too(tmp_path: Path, fitted: Callable[..., Run]) -> None:
    test = broken(write_image_folder(tmp_path / "test", blobs(size=8, seed=1)), "g000-000001")
    other = attrs.evolve(test, frame=test.frame.assign(group="t" + test.frame["group"]))
    run = fitted(blobs(size=8), test=other, on_bad="skip")
    assert run.facts["skipped"] == {"test": 1}
    assert len(run.predictions("test")) == len(test) - 1


def test_streaming_trains_the_same_weights(tmp_path: Path, fitted: Callable[..., Run]) -> None:
    data = Dataset.from_folder(write_image_folder(tmp_path / "set", blobs(size=8)), group="(g[0-9]+)-")
    runs = [fitted(data, out=tmp_path / mode, store=mode, workers=2) for mode in ("disk", "stream")]
    assert torch.equal(weights_of(runs[0]), weights_of(runs[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "ram"}, "'store' must be one of 'auto', 'disk', 'stream', got 'ram'"),
        ({"workers": 0}, "'workers' must be a whole number of at least 1, got 0"),
        ({"on_bad": "replace"}, "'on_bad' must be one of 'raise', 'skip', got 'replace'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(blobs(), **options)


def test_embeddings_are_what_goes_into_the_head(fitted: Callable[..., Run]) -> None:
    data = blobs(size=8)
    backbone = {"name": "small-cnn", "base": 4, "depth": 2}
    found = embed(data, backbone=backbone, image={"size": 8, "channels": 1}, batch_size=7, seed=3)
    again = embed(data, backbone=backbone, image={"size": 8, "channels": 1}, batch_size=16, seed=3)
    assert found.shape == (len(data), 8)
    np.testing.assert_allclose(found, again, atol=1e-5)


@pytest.mark.parametrize("method", ["grad-cam", "lrp-zennit"])
def test_deep_runs_are_explained(fitted: Callable[..., Run], method: str) -> None:
    run = fitted(blobs(size=8), image={"size": 8, "channels": 1, "bits": 16})
    assert len(run.explain(method, limit=2)) == 2
    assert len(list((run.folder / "attributions").rglob("*.png"))) == 2
