"""What a finished run offers: numbers, predictions, thresholds, and its models on new images."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs
import numpy as np

import imgcls
from imgcls.core.config import from_yaml
from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError, DataError, RunError, nearest
from imgcls.core.folders import read_json, sha256, write_json
from imgcls.data.columns import MASK, VIEW
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.data.labels import SEPARATOR
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import load_thresholds, with_repeats
from imgcls.evaluation.thresholds import Threshold
from imgcls.explain.base import Attributions, Explainer, explainers
from imgcls.inference.explaining import choose, draw, explain, explained_class
from imgcls.inference.predictor import Predictor
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Backbone, Classifier
from imgcls.report.page import Content, write_page

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "finish_run", "load_run"]

#: So many explained images keep the page below 10 MB.
_MAX_PICTURES = 40

#: Raised when the layout of the folder changes.
SCHEMA = 1

#: What `run.json` has in every version.
_NEEDED = {"schema", "checksums", "fingerprint", "num_folds", "root", "positive_given"}


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """A finished run, which is a folder on disk.

    Attributes:
        folder: The folder.
        facts: What `run.json` says.
        data: The set it was trained on, where it is at hand.
        test: The test set outside of it, where there is one.
    """

    folder: Path
    facts: dict[str, Any] = attrs.field(repr=False)
    _data: Dataset | None = attrs.field(default=None, repr=False)
    _test: Dataset | None = attrs.field(default=None, repr=False)
    _root: Path | None = attrs.field(default=None, repr=False)
    _backbone: Backbone | None = attrs.field(default=None, repr=False)

    @functools.cached_property
    def metrics(self) -> pd.DataFrame:
        """Every metric with its interval: split, fold, level, group, class, threshold, metric, value, low, high, n."""
        import pandas as pd

        keys = ("split", "fold", "level", "group", "class", "threshold", "metric")
        return pd.read_csv(
            self.folder / "metrics.csv",
            dtype=dict.fromkeys(keys, str),
            keep_default_na=False,
            na_values={"value": [""], "low": [""], "high": [""]},
        )

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
        """Read what the models said of records that they did not train on.

        With the splitter `repeated` a record is there once a repeat, and `repeat` says which.

        Args:
            split: `val` or `test`. Test predictions are those of the mean of the folds where
                the test set is fixed, else of the fold that tested the record.

        Returns:
            The predictions.

        Raises:
            RunError: if the run has none of that split.
        """
        if split not in {"val", "test"}:
            raise ConfigError(f"'split' must be 'val' or 'test', got {split!r}")
        if split == "val":
            parts = [Predictions.load(folder / "predictions_val.npz") for folder in self._fold_folders()]
            repeats = read_json(self.folder / "splits.json").get("repeats", [0] * len(parts))
            return Predictions.concat(with_repeats(parts, repeats))
        if self.used_for_selection:
            raise RunError("'split' must be 'val' for a run without test records, got 'test'")
        return Predictions.load(self.folder / "predictions_test.npz")

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
        table = self.metrics[self.metrics["class"] == ""]
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

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The models of all folds as one."""
        return Predictor.load(self.folder, num_folds=self.facts["num_folds"], backbone=self._backbone)

    def predict(
        self, paths: str | Path | Sequence[str | Path], *, threshold: str | float | None = None
    ) -> pd.DataFrame:
        """Predict image files with the mean of the folds.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; None takes the run's rule.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`.
        """
        return self.predictor.predict(paths, threshold=threshold)

    def refit(self, *, out: str | Path | None = None) -> Run:
        """Train one model on all records but those of a fixed test set, for people who deploy one model.

        It trains for the median of the epochs after which the models of the folds were best. Its
        threshold is that of the mean of the folds, fitted on predictions of records that no model had
        trained on. Its numbers are those of the folds, and its report says so.

        Args:
            out: The folder; None takes `refit` in that of this run.

        Returns:
            The run of the one model.

        Raises:
            RunError: if the run cannot be trained again from its configuration.
        """
        from imgcls.refitting import refit  # above this room: it trains

        return refit(self, out=out)

    def explain(
        self,
        method: str | dict[str, Any] | Explainer = "grad-cam",
        *,
        split: str = "test",
        limit: int = 16,
        errors: bool = False,
        target: str | None = None,
    ) -> Attributions:
        """Explain predictions by the models that made them, and draw panels.

        Panels, maps and an index go to `attributions/<method>-<split>` in the run's folder.

        Args:
            method: An explainer's name, spec, or an explainer.
            split: `val` or `test`.
            limit: How many records at most.
            errors: Whether to take the worst errors instead of an even sample.
            target: The class to explain; None takes the one that was decided, and of several labels the most
                probable one.

        Returns:
            The attributions, in the order of the index.

        Raises:
            RunError: if there is nothing to explain, such as no errors.
            UnsupportedModelError: if the method cannot treat the model; with the reason.
        """
        if "refit_of" in self.facts:
            raise RunError(
                "'explain' must be asked of the run of the folds, whose models made the predictions, got a refit"
            )
        if limit < 1:
            raise ConfigError(f"'limit' must be a whole number of at least 1, got {limit!r}")
        explainer = explainers.create(method)
        predictions = self.predictions(split)
        chosen = choose(predictions, self.thresholds, self.model.decision, limit=limit, errors=errors)
        if not len(chosen):
            raise RunError(f"the {split} records must have errors to explain, got none; leave 'errors' out")
        picked = predictions.take(chosen)
        data = self._tested() if split == "test" else self.data
        explained = explained_class(picked, self.thresholds, self.model.decision, target=target)
        found = explain(
            picked,
            explainer,
            target=explained,
            data=data,
            saved=self.model,
            models=self.classifier,
            num_folds=self.facts["num_folds"],
        )
        name = spec_of(explainer).get("name", type(explainer).__name__)
        named = "" if target is None else f"-{quote(target, safe='')}"
        folder = self.folder / "attributions" / f"{name}-{split}{'-errors' if errors else ''}{named}"
        shutil.rmtree(folder, ignore_errors=True)
        draw(
            folder,
            found,
            picked,
            data,
            self.model,
            target=explained,
            thresholds=self.thresholds,
            rule=self.model.decision,
            method=name,
        )
        found.save(folder / "maps.npz")
        return found

    def _tested(self) -> Dataset:
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

    def report(self) -> Path:
        """Write the HTML page of the run, with what was explained so far.

        Returns:
            The file, `report.html` in the run's folder.
        """
        path = self.folder / "report.html"
        content = Content(
            name=self.folder.name,
            facts=self.facts,
            metrics=self.metrics,
            history=self.history,
            predictions=self.predictions("val" if self.used_for_selection else "test"),
            thresholds=self.thresholds,
            decision=self.model.decision,
            evaluation=read_json(self.folder / "evaluation.json"),
            balance=read_json(self.folder / "splits.json")["balance"],
            environment=read_json(self.folder / "environment.json"),
            config=(self.folder / "config.yaml").read_text(encoding="utf-8"),
            pictures=self._pictures(),
        )
        write_page(path, content)
        return path

    def _pictures(self) -> list[tuple[Path, str]]:
        import pandas as pd

        found = []
        for index in sorted(self.folder.glob("attributions/*/index.csv")):
            for _, row in pd.read_csv(index, dtype=str, keep_default_na=False).iterrows():
                said = f"true {row['label'] or 'none'}, decided {row['decision'] or 'none'}"
                caption = f"{row['method']}: {row['id']}, {said}"
                sure = f"{_explained(row.to_dict())}p = {float(row['prob']):.2f}"
                found.append((index.parent / row["file"], f"{caption} ({sure})"))
        return found[:_MAX_PICTURES]

    def _fold_folders(self) -> list[Path]:
        return [self.folder / f"fold_{number}" for number in range(self.facts["num_folds"])]


# Which class a map is of, where that is not the decision.
def _explained(row: Mapping[Any, str]) -> str:
    target = row.get("target", row["decision"])
    return "" if target == row["decision"] else f"map of {target}, "


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


def load_run(
    path: str | Path,
    *,
    root: str | Path | None = None,
    data: Dataset | None = None,
    test: Dataset | None = None,
    backbone: Backbone | None = None,
) -> Run:
    """Open a finished run.

    Args:
        path: Its folder.
        root: Where the images are now, if they have moved.
        data: The set itself, for images that were in memory.
        test: The test set outside of it, if there was one.
        backbone: The backbone itself, where no distribution declares it.

    Returns:
        The run; images are read only when they are needed.

    Raises:
        RunError: if the run is missing, unfinished, damaged or of a newer imgcls.
        DataError: if a set is not the one of the run.
    """
    folder = Path(path)
    if not (folder / "run.json").exists():
        what = "an unfinished one" if (folder / "config.yaml").exists() else "none"
        raise RunError(f"'path' must name the folder of a finished run, got {what} at {str(folder)!r}")
    facts = read_json(folder / "run.json")
    if not isinstance(facts, dict) or not facts.keys() >= _NEEDED:
        raise RunError(f"'path' must name the folder of a run, got a damaged 'run.json' in {str(folder)!r}")
    if facts["schema"] > SCHEMA:
        raise RunError(f"run {str(folder)!r} must be of schema {SCHEMA} or older, got {facts['schema']}; update imgcls")
    for name, checksum in facts["checksums"].items():
        if not (folder / name).is_file() or sha256(folder / name) != checksum:
            raise RunError(
                f"file {name!r} of run {str(folder)!r} must be as it was written, got a missing or changed one"
            )
    for name, given, key in (("data", data, "fingerprint"), ("test", test, "test_fingerprint")):
        if given is not None and given.fingerprint != facts.get(key):
            raise DataError(f"{name!r} must be the set of the run, got another fingerprint")
    return Run(
        folder=folder,
        facts=facts,
        data=data,
        test=test,
        root=None if root is None else Path(root),
        backbone=backbone,
    )


def finish_run(folder: Path, *, root: Path | None, objective: Sequence[float], **facts: Any) -> None:
    """Write `run.json`, which makes the run complete.

    Args:
        folder: The run's folder.
        root: Where the images are, or None.
        objective: The best monitored value of each fold.
        **facts: What else a run knows of itself.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if _checked_file(folder, path))
    facts |= {"root": None if root is None else str(root.resolve())}
    facts |= {"objective": [float(value) if np.isfinite(value) else None for value in objective]}
    checksums = {name: sha256(folder / name) for name in files}
    header = {"schema": SCHEMA, "status": "complete", "imgcls": imgcls.__version__}
    write_json(folder / "run.json", {**header, **facts, "checksums": checksums})


# Weights carry a checksum of their own, which is checked when they are loaded.
def _checked_file(folder: Path, path: Path) -> bool:
    foreign = path.relative_to(folder).parts[0] in {"logs", "wandb", "comet"}  # may be synced away, or grow
    return (
        path.is_file() and path.suffix in {".json", ".csv", ".npz", ".yaml"} and not foreign and path.name != "run.json"
    )
