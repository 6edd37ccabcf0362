"""What a run's folder says: numbers, predictions, thresholds, records, models."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError, RunError, nearest
from imgcls.core.folders import read_json
from imgcls.data.columns import MASK, VIEW
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.data.labels import SEPARATOR
from imgcls.evaluation.calibration import Calibration, calibrate, load_calibrations
from imgcls.evaluation.evaluate import SPREAD
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import load_thresholds, with_repeats
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.saved import SavedModel
from imgcls.inference.scoring import score
from imgcls.models.base import Backbone, Classifier

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recorded"]


@attrs.frozen(kw_only=True, eq=False)
class Recorded:
    """What of a `Run` is read from its folder; its fields are described there."""

    folder: Path
    facts: dict[str, Any] = attrs.field(repr=False)
    _data: Dataset | None = attrs.field(default=None, repr=False)
    _test: Dataset | None = attrs.field(default=None, repr=False)
    _root: Path | None = attrs.field(default=None, repr=False)
    _backbone: Backbone | None = attrs.field(default=None, repr=False)

    @functools.cached_property
    def metrics(self) -> pd.DataFrame:
        """Every metric with its interval, as `evaluate` returns them, of images and, with level "group", of groups."""
        import pandas as pd

        keys = ("split", "fold", "level", "group", "class", "threshold", "metric", "interval", "note")
        return pd.read_csv(
            self.folder / "metrics.csv",
            dtype=dict.fromkeys(keys, str),
            keep_default_na=False,
            na_values={"value": [""], "low": [""], "high": [""]},
        )

    # One row a metric, split and fold: without groups of images, and without what is no interval.
    @property
    def _of_images(self) -> pd.DataFrame:
        return self.metrics[(self.metrics["level"] == "image") & (self.metrics["fold"] != SPREAD)]

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """What happened in each epoch of each fold."""
        import pandas as pd

        tables = [pd.read_csv(folder / "history.csv").assign(fold=n) for n, folder in enumerate(self._fold_folders())]
        return pd.concat(tables, ignore_index=True)

    @functools.cached_property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The thresholds of each fold (`model` is its number) and of the mean of the folds."""
        return load_thresholds(self.folder / "thresholds.json")

    @functools.cached_property
    def calibrations(self) -> tuple[Calibration, ...]:
        """How logits become probabilities, for each fold (`model` is its number) and for all of them together ("mean").

        None where the run is not calibrated.
        """
        return load_calibrations(self.folder / "calibration.json")

    @functools.cached_property
    def model(self) -> SavedModel:
        """The description of the models."""
        return SavedModel.load(self.folder / "model.json")

    @functools.cached_property
    def data(self) -> Dataset:
        """The set that the run was trained on.

        Raises:
            RunError: if its images were in memory only, or have changed.
        """
        if self._data is not None:
            return self._data
        if self.facts["root"] is None:
            return self._checked(_npz_data(self.folder / "config.yaml", self._root))
        root = Path(self._root or self.facts["root"])
        return self._checked(_manifest_data(self.folder / "manifest.csv", root, self.facts, self.model))

    @property
    def given_backbone(self) -> Backbone | None:
        """The backbone itself, where it was given to open the run."""
        return self._backbone

    def _checked(self, data: Dataset) -> Dataset:
        if data.fingerprint != self.facts["fingerprint"]:
            raise RunError("'data' must be the set of the run, got other records, labels, groups or file sizes")
        return data

    @functools.cached_property
    def folds(self) -> Folds:
        """Which records trained, validated and tested in each fold."""
        return Folds.load(self.folder / "splits.json", self.data)

    def predictions(self, split: str = "test") -> Predictions:
        """Read what the models said.

        With the splitter `repeated` a record is there once a repeat, and `repeat` says which. Probabilities are
        calibrated where the run is; logits are those of the models.

        Args:
            split: `val` or `test`, records that the models did not train on. Test predictions are those of the mean of
                the folds where the test set is fixed, else of the fold that tested the record. `train` gives those that
                each fold trained on; they are computed when they are asked for first, and kept.

        Returns:
            The predictions.

        Raises:
            ConfigError: if there is no such split.
            RunError: if the run has none of that split.
        """
        if split not in {"train", "val", "test"}:
            raise ConfigError(f"'split' must be 'train', 'val' or 'test', got {split!r}")
        if split == "val" and self._refitted:
            raise RunError(
                "'val' must be asked of the run of the folds, got a refit, which trained on these records; sets and "
                f"rejection of that run may be given to 'predict' here: {self.facts['refit_of']!r}"
            )
        if split != "test":
            parts = self._trained() if split == "train" else self._validated()
            repeats = read_json(self.folder / "splits.json").get("repeats", [0] * len(parts))
            return Predictions.concat(with_repeats(parts, repeats))
        if self.used_for_selection:
            raise RunError("'split' must be 'val' for a run without test records, got 'test'")
        return Predictions.load(self.folder / "predictions_test.npz")

    @property
    def _refitted(self) -> bool:
        return "refit_of" in self.facts

    def _validated(self) -> list[Predictions]:
        whole = self.folder / "predictions_val.npz"
        if whole.exists():  # of a calibrated run: each record by what others gave
            pooled = Predictions.load(whole)
            return [pooled.take(pooled.fold == number) for number in range(self.facts["num_folds"])]
        return [Predictions.load(folder / "predictions_val.npz") for folder in self._fold_folders()]

    def _trained(self) -> list[Predictions]:
        paths = [folder / "predictions_train.npz" for folder in self._fold_folders()]
        if not all(path.exists() for path in paths):
            parts, models = [fold.train for fold in self.folds], map(self.classifier, range(len(paths)))
            on_bad = "skip" if self.facts.get("skipped") else "raise"
            found = score(self.data, parts, self.model, list(models), split="train", on_bad=on_bad)
            for path, part in zip(paths, found, strict=True):
                part.save(path)
        raw = [Predictions.load(path) for path in paths]
        return [calibrate(part, self.calibrations) for part in raw] if self.calibrations else raw

    @functools.cached_property
    def seed(self) -> int:
        """The seed of the training, which resamples for intervals have too."""
        return int(from_yaml((self.folder / "config.yaml").read_text(encoding="utf-8"))["seed"])

    @functools.cached_property
    def used_for_selection(self) -> bool:
        """Whether the numbers of the run are of validation records, which also chose the checkpoint, so they flatter.

        That is where there are no test records, as with `report="val"` of a splitter.
        """
        return not (self.folder / "predictions_test.npz").exists()

    def value(self, metric: str, *, split: str = "test", threshold: str = "") -> tuple[float, float, float]:
        """Look up one overall number.

        Args:
            metric: Its name, such as `roc_auc`.
            split: `val` or `test`.
            threshold: The rule it depends on; empty for metrics that depend on none.

        Returns:
            The value and the limits of its 95 % interval: of the mean of the folds where the test set is
            fixed, else pooled over the folds, and averaged over repeats where there are several (`evaluate`).

        Raises:
            RunError: if there is no such number.
        """
        table = self._of_images[self._of_images["class"] == ""]
        for column, wanted in (("split", split), ("threshold", threshold), ("metric", metric)):
            known = set(table[column])
            if wanted not in known:
                raise RunError(f"'{column}' must be one of the run, got {wanted!r}; {nearest(wanted, known)}")
            table = table[table[column] == wanted]
        rows = {row["fold"]: row for row in table.to_dict("records")}
        row = rows.get("mean", rows.get("all"))
        if row is None:
            raise RunError(
                f"'split' must have numbers over all folds, got {split!r}, where a record may belong to several folds; "
                "'metrics' has those of each fold"
            )
        return float(row["value"]), float(row["low"]), float(row["high"])

    def tested(self) -> Dataset:
        """Find the set that holds the test records.

        Returns:
            The run's own set, or the test set that was given.

        Raises:
            RunError: if it is another one and is not at hand.
        """
        if self.facts.get("test_fingerprint") is None:
            return self.data
        if self._test is None:
            raise RunError("the test set of this run is another Dataset; give it to 'load_run' as 'test'")
        return self._test

    def classifier(self, fold: int) -> Classifier:
        """Load the model of one fold.

        Args:
            fold: Its number.

        Returns:
            The classifier in evaluation mode, on the CPU.
        """
        return self.model.classifier(self._fold_folders()[fold], backbone=self._backbone)

    def _fold_folders(self) -> list[Path]:
        return [self.folder / f"fold_{number}" for number in range(self.facts["num_folds"])]


def _manifest_data(path: Path, root: Path, facts: dict[str, Any], model: SavedModel) -> Dataset:
    import pandas as pd

    columns = set(pd.read_csv(path, nrows=0).columns)
    named: dict[str, Any] = {name: name for name in ("group", "split", "weight", MASK) if name in columns}
    named["views"] = {name.removeprefix(VIEW): name for name in columns if name.startswith(VIEW)}
    if model.multilabel:
        named["label_separator"] = SEPARATOR
    named["mask_threshold"] = facts.get("mask_threshold", 127)
    data = Dataset.from_csv(path, root=root, image="id", classes=model.classes, positive=model.positive, **named)
    return attrs.evolve(data, positive_given=facts["positive_given"])


def _npz_data(config: Path, root: Path | None) -> Dataset:
    options = from_yaml(config.read_text(encoding="utf-8"))["data"]
    if options.get("from") != "npz":
        raise RunError("the images of this run were in memory; give them to 'load_run' as 'data'")
    path = Path(options["path"])
    return Dataset.from_config({**options, "path": path if root is None else root / path.name})
