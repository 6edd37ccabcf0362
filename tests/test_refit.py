from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import Run, Trainer
from imgcls.core.errors import RunError
from imgcls.core.folders import read_json
from imgcls.data.dataset import Dataset
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 3},
    "stages": [{"epochs": 1, "train": "head", "lr": 0.01}, {"epochs": 3, "lr": 0.03}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=8, groups=18))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        data = Dataset.from_folder(folder, group="(g[0-9]+)-")
        yield Trainer(data, out=tmp_path_factory.mktemp("runs") / "run", **SMALL).fit()


@pytest.fixture(scope="module")
def refitted(run: Run) -> Run:
    return run.refit()


def test_the_one_model_trains_on_every_record_for_the_median_of_the_epochs(run: Run, refitted: Run) -> None:
    assert refitted.folder == run.folder / "refit"
    np.testing.assert_array_equal(refitted.folds[0].train, np.arange(len(run.data)))
    best = sorted(read_json(path)["epoch"] + 1 for path in run.folder.glob("fold_*/fold.json"))
    assert len(refitted.history) == refitted.facts["epochs"] == best[1]
    assert refitted.history["best"].all()  # the last weights are kept, whatever validation says


def test_it_decides_by_the_threshold_that_unseen_records_gave(run: Run, refitted: Run, folder: Path) -> None:
    assert refitted.thresholds == run.thresholds
    image = next(folder.rglob("*.png"))
    table = refitted.predict(image)
    assert len(refitted.predictor.models) == 1
    cut = next(t.value for t in run.thresholds if t.model == "mean" and t.rule == "max_f1")
    positive = run.model.positive
    decided = table["decision"][0] == positive
    assert decided == (table[f"prob_{positive}"][0] >= cut)


def test_its_numbers_are_those_of_the_folds_and_its_report_says_so(run: Run, refitted: Run) -> None:
    assert refitted.value("roc_auc") == pytest.approx(run.value("roc_auc"), nan_ok=True)
    assert "was not measured itself" in refitted.report().read_text(encoding="utf-8")
    with pytest.raises(RunError, match="'explain' must be asked of the run of the folds"):
        refitted.explain()


def test_predictions_of_records_that_it_trained_on_are_not_offered(refitted: Run) -> None:
    for ask in (lambda: refitted.predictions("val"), refitted.conformal, lambda: refitted.rejection(risk=0.1)):
        with pytest.raises(RunError, match="'val' must be asked of the run of the folds, got a refit"):
            ask()


def test_it_takes_sets_and_rejection_of_the_folds(run: Run, refitted: Run, folder: Path) -> None:
    images = sorted(folder.rglob("*.png"))[:4]
    table = refitted.predict(images, sets=run.conformal(0.2), reject=run.rejection(coverage=0.9))
    assert {"set", "rejected"} <= set(table)


def test_it_is_evaluated_on_other_records(refitted: Run, folder: Path) -> None:
    data = Dataset.from_folder(folder, group="(g[0-9]+)-")
    found = refitted.evaluate(data, aggregation="mean", resamples=20)
    table = found.table[(found.table["metric"] == "accuracy") & (found.table["threshold"] == "max_f1")]
    said = refitted.predict([folder / name for name in data.ids])["decision"]
    right = (said == [data.classes[label] for label in data.labels]).mean()
    assert table[table["level"] == "image"]["value"].item() == pytest.approx(right)
    assert refitted.evaluate(resamples=0).facts["split"] == "test"


def test_a_fixed_test_set_stays_out(folder: Path, tmp_path: Path) -> None:
    data = Dataset.from_folder(folder, group="(g[0-9]+)-")
    run = Trainer(data, out=tmp_path / "run", test=0.25, **SMALL).fit()
    fold = run.refit().folds[0]
    np.testing.assert_array_equal(fold.test, run.folds[0].test)
    assert not set(fold.train) & set(fold.test)


def test_a_schedule_that_follows_validation_is_refused(folder: Path, tmp_path: Path) -> None:
    data = Dataset.from_folder(folder, group="(g[0-9]+)-")
    stages = [{"epochs": 1, "lr": 0.03, "schedule": "plateau"}]
    run = Trainer(data, out=tmp_path / "run", **{**SMALL, "stages": stages}).fit()
    with pytest.raises(RunError, match="'schedule' must not be 'plateau' to refit"):
        run.refit()
