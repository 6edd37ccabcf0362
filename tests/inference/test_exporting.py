"""What is exported says what the run says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from imgcls import Dataset, ExportedModel, Predictions, Run, Trainer, load_exported, load_run
from imgcls.cli import main
from imgcls.core.errors import ConfigError, RunError, UnsupportedModelError
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import METHODS, Calibration
from imgcls.evaluation.conformal import fit_conformal
from imgcls.evaluation.thresholds import fit_thresholds
from imgcls.inference import exporting
from imgcls.inference.graph import Graph, to_probs
from imgcls.inference.graph_files import write_onnx, write_program
from imgcls.inference.predictor import normalised
from imgcls.inference.sealing import write_sums
from imgcls.models.base import Classifier, Facts
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = ["onnx", "torch-export", "safetensors"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=10, groups=24, channels=3))


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three folds with calibrated probabilities that all predict the same test records, and a guard."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(place / "cache"))
        patch.setenv("IMGCLS_QUIET", "1")
        found = Trainer(
            Dataset.from_folder(images, group="(g[0-9]+)-"),
            backbone={"name": "small-cnn", "base": 4, "depth": 2},
            image=ImageSpec(size=8, mean="dataset", std="dataset"),
            stages=[{"epochs": 1, "lr": 0.003}],
            splitter={"name": "stratified-group-kfold", "k": 3},
            test=0.3,
            calibration="temperature",
            precision="fp32",
            out=place / "run",
        ).fit()
        found.guard()
        yield found


@pytest.fixture(scope="module")
def exports(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("exports")
    return {name: run.export(name, out=place / name, sets=0.4, reject={"coverage": 0.7}) for name in FORMATS}


def predicted(run: Run, files: list[Path], threshold: str | float | None = None) -> pd.DataFrame:
    """What the exports are to say; they abstain by their own threshold alone."""
    reject = run.rejection(coverage=0.7) if threshold is None else None
    return run.predict(files, threshold=threshold, sets=0.4, reject=reject)


@pytest.fixture(scope="module")
def files(images: Path) -> list[Path]:
    return sorted(images.rglob("*.png"))[::5]


def probs(table: pd.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return table[["prob_a", "prob_b"]].to_numpy()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("threshold", [None, "sensitivity>=0.95", 0.3])
def test_an_export_gives_the_table_of_the_run(
    name: str, threshold: str | float | None, run: Run, exports: dict[str, Path], files: list[Path]
) -> None:
    wanted = predicted(run, files, threshold)
    table = load_exported(exports[name]).predict(files, threshold=threshold)
    np.testing.assert_allclose(probs(table), probs(wanted), atol=1e-5)
    np.testing.assert_allclose(table["spread"], wanted["spread"], atol=1e-5)
    np.testing.assert_allclose(table["distance"], wanted["distance"], rtol=1e-3)
    exact = wanted.columns.drop([*wanted.filter(like="prob_").columns, "spread", "distance"])
    assert table[exact].equals(wanted[exact])
    assert {"unlike", "set"} <= set(exact)
    assert table.dtypes.equals(wanted.dtypes)


def test_an_export_tells_noise_from_the_training_images(exports: dict[str, Path], files: list[Path]) -> None:
    model = load_exported(exports["onnx"])
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    assert model.tell(noise, caution=model.caution).columns["unlike"].all()
    assert not model.predict(files)["unlike"].any()


def test_an_unreadable_file_is_a_row_of_an_export(exports: dict[str, Path], files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    row = load_exported(exports["onnx"]).predict([tmp_path / "bad.png", files[0]], on_error="row").iloc[0]
    assert np.isnan(row["distance"])
    assert (row["set"], row["rejected"], row["unlike"], row["decision"]) == ("", "", "", "")


def test_no_training_record_leaves_with_an_export(exports: dict[str, Path]) -> None:
    guard = load_exported(exports["onnx"]).guard
    assert guard is not None
    assert len(guard.ids) == 0
    assert all(known.features.size == 0 for known in guard.folds)


def test_sets_without_a_limit_survive_the_file(run: Run, files: list[Path], tmp_path: Path) -> None:
    model = load_exported(run.export("safetensors", out=tmp_path / "out", sets={"alpha": 0.01, "per_class": True}))
    assert model.about.sets is not None
    assert model.about.sets.limits == run.conformal(0.01, per_class=True).limits
    assert np.isinf(model.about.sets.limits).all()
    assert set(model.predict(files)["set"]) == {"a|b"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_batch_may_have_any_size(name: str, size: int, exports: dict[str, Path], files: list[Path]) -> None:
    model = load_exported(exports[name])
    np.testing.assert_allclose(probs(model.predict(files, batch_size=size)), probs(model.predict(files)), atol=1e-6)


def test_an_onnx_export_runs_without_torch(run: Run, exports: dict[str, Path], files: list[Path]) -> None:
    code = (
        "import sys\nfor name in ('torch', 'torchvision', 'timm'): sys.modules[name] = None\n"
        "import imgcls\nimgcls.load_exported(sys.argv[1]).predict(sys.argv[2:]).to_csv(sys.stdout, index=False)"
    )
    words = [sys.executable, "-c", code, str(exports["onnx"]), *map(str, files[:3])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [line.split(",") for line in done.stdout.splitlines()]
    wanted = predicted(run, files[:3])
    assert rows[0] == list(wanted.columns)
    assert [row[3] for row in rows[1:]] == wanted["decision"].tolist()
    np.testing.assert_allclose(np.array([row[1:3] for row in rows[1:]], dtype=float), probs(wanted), atol=1e-5)


def test_a_program_runs_with_torch_alone(run: Run, exports: dict[str, Path]) -> None:
    code = (
        "import sys, torch\nmodel = torch.export.load(sys.argv[1]).module()\n"
        "mean, each, _ = model(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))\n"
        "print(mean.tolist(), tuple(each.shape), 'imgcls' in sys.modules)"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(exports["torch-export"] / "model.pt2")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    mean, shape, imported = eval(done.stdout.strip().replace("] (", "], (").replace(") F", "), F"))
    np.testing.assert_allclose(mean, run.predictor.probs(np.zeros((2, 8, 8, 3), np.uint8)), atol=1e-5)
    assert shape == (2, 3, 2)
    assert not imported


def test_one_fold_is_exported_with_its_own_threshold(run: Run, files: list[Path], tmp_path: Path) -> None:
    exported = load_exported(run.export("safetensors", fold=1, out=tmp_path / "one", sets=0.4))
    table = exported.predict(files)
    model, pixels = run.classifier(1), np.stack([_pixels(run, file) for file in files])
    with torch.no_grad():
        logits = model(normalised(pixels, model, run.model.image)).numpy()
    np.testing.assert_allclose(probs(table), run.calibrations[1].probs(logits), atol=1e-5)
    (cut,) = [one.value for one in run.thresholds if (one.model, one.rule) == ("1", run.model.decision)]
    assert table["decision"].tolist() == np.where(table["prob_b"] >= cut, "b", "a").tolist()
    val = run.predictions("val")
    assert exported.about.sets == fit_conformal(val.take(val.fold == 1), alpha=0.4)
    with torch.no_grad():
        embeddings = model.body(normalised(pixels, model, run.model.image)).numpy()
    np.testing.assert_allclose(table["distance"], run.guard().folds[1].distance(embeddings), rtol=1e-3)


def _pixels(run: Run, file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from imgcls.data.images import read

    return read(file, run.model.image)


def test_the_folder_says_what_was_checked(exports: dict[str, Path]) -> None:
    about = load_exported(exports["onnx"]).about
    assert about.parity["images"] == 32
    assert about.parity["max_difference"] <= 1e-4
    text = (exports["onnx"] / "README.md").read_text()
    assert f"{about.parity['max_difference']:.1e}" in text
    assert about.parity["max_distance_difference"] <= 1e-2
    assert "- `set`: the true class is missing in it in 40 % of records at most" in text
    assert "`rejected`" in text
    assert "`unlike`" in text
    assert "`pixels`: (B, 8, 8, 3), uint8" in text


def test_the_model_card_comes_along(run: Run, exports: dict[str, Path]) -> None:
    assert (exports["onnx"] / "model_card.md").read_bytes() == (run.folder / "model_card.md").read_bytes()


def test_the_checksums_are_those_of_sha256sum(exports: dict[str, Path]) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=exports["onnx"], check=True)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["model.onnx", "export.json", "README.md", "SHA256SUMS"])
def test_a_flipped_byte_is_refused_by_the_name_of_the_file(name: str, exports: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports["onnx"], tmp_path / "copy"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        load_exported(folder)


def test_a_missing_file_is_refused_by_name(exports: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports["onnx"], tmp_path / "copy"))
    (folder / "model.onnx").unlink()
    with pytest.raises(RunError, match=r"file 'model.onnx' of export .* got a missing or changed one"):
        load_exported(folder)
    with pytest.raises(RunError, match="'path' must name the folder of an export"):
        load_exported(tmp_path)


def test_an_export_of_a_newer_version_is_refused(exports: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports["onnx"], tmp_path / "copy"))
    about = folder / "export.json"
    about.write_text(about.read_text().replace('"schema": 1', '"schema": 2'))
    (folder / "SHA256SUMS").write_text("")
    write_sums(folder)
    with pytest.raises(RunError, match="must be of schema 1 or older, got 2; update imgcls"):
        load_exported(folder)


def test_another_answer_is_an_error_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_WRITERS", {"safetensors": _with_other_weights})
    with pytest.raises(UnsupportedModelError, match=r"must give the probabilities of the run within 0.0001, got"):
        run.export("safetensors", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def _with_other_weights(graph: Graph, file: Path, pixels: object) -> None:
    from imgcls.inference.graph_files import write_weights

    other = Graph.__new__(Graph)
    nn.Module.__init__(other)
    other.parts = nn.ModuleList(reversed(list(graph.parts)))
    write_weights(other, file, np.zeros(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onyx"}, "'format' must be one of .* got 'onyx'; did you mean 'onnx'"),
        ({"fold": 3}, "'fold' must be one of 3 folds, got 3"),
        ({"format": "safetensors", "int8": True}, "'int8' must be left out for the format 'safetensors'"),
        ({"reject": {"risk": 0.1, "coverage": 0.9}}, "'risk' must be given, or 'coverage', and not both"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run.export(**options, out=tmp_path / "out")  # type: ignore[arg-type]


def test_a_folder_in_use_is_refused(run: Run, images: Path) -> None:
    with pytest.raises(RunError, match="'out' must be a new or empty folder"):
        run.export("safetensors", out=images)


def test_providers_are_those_of_onnxruntime(exports: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="'providers' must be of this onnxruntime, got"):
        load_exported(exports["onnx"], providers=["NoSuchProvider"])
    with pytest.raises(ConfigError, match="'providers' must be left out for the format 'safetensors'"):
        load_exported(exports["safetensors"], providers=["CPUExecutionProvider"])


def test_a_run_stays_whole_when_it_is_exported_into_itself(run: Run, files: list[Path]) -> None:
    assert run.export("safetensors", images=files[:2]).parent == run.folder / "exports"
    assert load_run(run.folder).facts == run.facts


def test_the_command_line_exports(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run.folder), "--format", "safetensors", "--fold", "2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["imgcls", *words])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "Largest difference on 32 real images: " in capsys.readouterr().out
    assert load_exported(tmp_path / "out").about.folds == (2,)


# Integers of 8 bits


@pytest.fixture(scope="module")
def int8(run: Run, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    out = tmp_path_factory.mktemp("int8") / "out"
    return load_exported(run.export(int8=True, out=out, sets=0.4, reject={"coverage": 0.7}))


@pytest.fixture(scope="module")
def coarse(run: Run, int8: ExportedModel) -> Predictions:
    """What the models in integers say of the validation records that they did not train on."""
    val, place = run.predictions("val"), {name: at for at, name in enumerate(run.data.ids.tolist())}
    pixels = np.stack([run.data.pixels(place[name], run.model.image) for name in val.ids.tolist()])
    return attrs.evolve(val, probs=int8.run(pixels).each[np.arange(len(val)), val.fold])


def test_convolutions_compute_in_integers_and_the_head_does_not(int8: ExportedModel) -> None:
    graph = onnx.load(int8.folder / "model.onnx").graph
    inputs = {node.op_type: node.input[0] for node in graph.node}
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    assert inputs["Conv"] in quantised
    assert inputs["Gemm"] not in quantised
    assert int8.about.int8


def test_thresholds_of_integers_are_fitted_to_what_they_say(run: Run, int8: ExportedModel, coarse: Predictions) -> None:
    rules = [one.rule for one in int8.about.thresholds]
    assert rules == [one.rule for one in run.thresholds if one.model == "mean"]
    wanted = fit_thresholds(coarse.mean_of_repeats(), model="mean", rules=rules)
    found = {one.rule: one.value for one in int8.about.thresholds}
    assert found == pytest.approx({one.rule: one.value for one in wanted}, abs=1e-6)
    before = {one.rule: one.value for one in run.thresholds if one.model == "mean"}
    assert found != pytest.approx(before, abs=1e-6)


def test_sets_and_abstention_of_integers_are_fitted_to_what_they_say(int8: ExportedModel, coarse: Predictions) -> None:
    sets, reject = int8.about.sets, int8.about.reject
    assert sets is not None
    assert reject is not None
    assert sets.limits == pytest.approx(fit_conformal(coarse.mean_of_repeats(), alpha=0.4).limits, abs=1e-6)
    taken = ~reject.rejects(int8.decider.confidence(coarse.probs))
    assert taken.mean() == pytest.approx(reject.coverage)
    assert 0.7 <= reject.coverage < 1


def test_the_limit_of_the_guard_is_kept_by_validation_records_in_integers(run: Run, int8: ExportedModel) -> None:
    guard, places = int8.guard, run.folds[1].val
    assert guard is not None
    pixels = np.stack([run.data.pixels(int(place), run.model.image) for place in places])
    distance = guard.folds[1].distance(int8.run(pixels).embeddings[:, 1])
    assert distance.max() == pytest.approx(1, abs=1e-4)  # of fewer than 99 records the largest is the limit


def test_what_was_fitted_to_other_probabilities_is_refused_for_integers(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'int8' must be left out with fitted 'sets' or 'reject'"):
        run.export(int8=True, out=tmp_path / "out", sets=run.conformal(0.1))


KEYS = ["split", "fold", "class", "threshold", "metric"]


def costs(model: ExportedModel) -> pd.DataFrame:
    table = pd.read_csv(model.folder / "quantisation.csv", dtype=dict.fromkeys(KEYS, str))
    return table.fillna(dict.fromkeys(KEYS, ""))


def test_the_cost_of_integers_is_told_with_intervals(run: Run, int8: ExportedModel) -> None:
    table = costs(int8)
    assert set(table["split"]) == {"val", "test"}
    row = table[(table["split"] == "test") & (table["metric"] == "loss") & (table["fold"] == "mean")].iloc[0]
    assert row["value_before"] == pytest.approx(run.value("loss")[0], abs=1e-5)
    assert row["low_int8"] < row["value_int8"] < row["high_int8"]
    assert row["value_int8"] != row["value_before"]
    cost = int8.about.cost
    assert cost["records"] == len(run.predictions("val")) + len(run.predictions("test"))
    assert 0 < cost["max_difference"] < 0.2
    assert "| test | roc auc | " in (int8.folder / "README.md").read_text()


def test_integers_are_judged_by_models_that_did_not_train_on_a_record(run: Run, int8: ExportedModel) -> None:
    table, val = costs(int8), run.predictions("val")
    rows = table[(table["split"] == "val") & (table["metric"] == "roc_auc")].set_index("fold")["value_before"]
    for fold in range(3):
        own = val.take(val.fold == fold)
        assert rows[str(fold)] == pytest.approx(roc_auc_score(own.labels, own.logits[:, 1] - own.logits[:, 0]))


# The parts of the graph


def curves(method: str, count: int) -> list[tuple[float, ...]]:
    steps = (-2.0, -1.0, -1.0 + 1e-9, 3.0)  # two of them nearer than floats of 32 bits
    made: dict[str, list[tuple[float, ...]]] = {
        "temperature": [(0.7 + number, 0.0) for number in range(count)],
        "platt": [(1.3 + number, -0.4 * number) for number in range(count)],
        "isotonic": [(*steps, 0.1, 0.3, 0.5, 0.9 - number / 20) for number in range(count)],
    }
    return made[method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("outputs", "multilabel"), [(1, False), (2, False), (4, False), (3, True)])
def test_the_last_layer_calibrates_as_the_run_does(method: str, outputs: int, multilabel: bool) -> None:
    count = outputs if outputs > 2 and (method != "temperature" or multilabel) else 1
    found = Calibration(method=method, model="0", num_records=9, curves=curves(method, count), nll=(1.0, 1.0))
    logits = np.random.default_rng(0).normal(0, 2, (50, outputs)).astype(np.float32)
    layer = to_probs(found, multilabel=multilabel)
    np.testing.assert_allclose(layer(torch.from_numpy(logits)), found.probs(logits, multilabel=multilabel), atol=1e-6)


def test_a_calibration_of_one_step_is_that_step() -> None:
    found = Calibration(method="isotonic", model="0", num_records=9, curves=[(0.5, 0.25)], nll=(1.0, 1.0))
    np.testing.assert_allclose(to_probs(found, multilabel=False)(torch.zeros(2, 2)), [[0.75, 0.25]] * 2)


def classifier(body: nn.Module) -> Classifier:
    facts = Facts(num_features=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Classifier(body, nn.Linear(3, 2), facts, num_outputs=2).eval()


class Mean(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Bessel(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.special.bessel_j0(images).mean(dim=(2, 3))


class Fork(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def graph(body: nn.Module, spec: ImageSpec | None = None) -> Graph:
    return Graph([classifier(body)], spec or ImageSpec(size=8), [], multilabel=False)


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"operators that ONNX has, got .*bessel_j0"):
        write_onnx(graph(Bessel()), tmp_path / "model.onnx", PIXELS)


def test_a_network_whose_way_depends_on_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'torch.export' can follow, got .*; export 'safetensors'"):
        write_program(graph(Fork()), tmp_path / "model.pt2", PIXELS)


def test_deep_pixels_are_exported_too(tmp_path: Path) -> None:
    from imgcls.inference.exported import onnx_runner

    made, pixels = graph(Mean(), ImageSpec(size=8, bits=16)), PIXELS.astype(np.uint16) * 257
    write_onnx(made, tmp_path / "model.onnx", pixels)
    np.testing.assert_allclose(
        onnx_runner(tmp_path / "model.onnx")(pixels).probs, made(torch.from_numpy(pixels))[0].detach(), atol=1e-6
    )


def test_each_model_has_its_own_normalisation() -> None:
    models = [classifier(Mean()), classifier(Mean())]
    models[1].facts = attrs.evolve(models[1].facts, mean=(0.1, 0.2, 0.3))
    with torch.no_grad():
        _, each, _ = Graph(models, ImageSpec(size=8), [], multilabel=False)(torch.from_numpy(PIXELS))
        wanted = [model(normalised(PIXELS, model, ImageSpec(size=8))).softmax(dim=1) for model in models]
    torch.testing.assert_close(each, torch.stack(wanted, dim=1))
