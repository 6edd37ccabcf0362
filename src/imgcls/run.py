"""What a finished run offers: numbers, predictions, thresholds, and its models on new images."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

import imgcls
from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError, DataError, ImgclsError, RunError, nearest
from imgcls.core.folders import read_json, sha256, write_json
from imgcls.data import images as files
from imgcls.data.columns import MASK, VIEW
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.data.labels import SEPARATOR
from imgcls.evaluation.calibration import calibrate
from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.evaluate import SPREAD
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import Rejection
from imgcls.evaluation.results import load_thresholds, with_repeats
from imgcls.evaluation.summary import Evaluation, reevaluate
from imgcls.evaluation.thresholds import Threshold
from imgcls.explain.base import Attributions, Explainer, explainers
from imgcls.inference.attribution_folder import explain_run
from imgcls.inference.deciding import Cut
from imgcls.inference.embeddings import fit_guard
from imgcls.inference.explaining import Request, Subject
from imgcls.inference.exporting import Order, export, of_fold, single
from imgcls.inference.guarding import Guard
from imgcls.inference.judging import Judging
from imgcls.inference.predictor import Predictor
from imgcls.inference.reading import Paths, filled
from imgcls.inference.saved import SavedModel
from imgcls.inference.scoring import score
from imgcls.models.base import Backbone, Classifier
from imgcls.report.card import write_card
from imgcls.report.drawing import Drawing
from imgcls.report.gallery import draw, drawings
from imgcls.report.material import Material
from imgcls.report.page import write_page

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "finish_run", "load_run"]

#: On so many images of its set an export is checked.
_CHECKED = 32

#: Raised when the layout of the folder changes.
SCHEMA = 1

#: What tells images unlike the training data, once it was asked for.
_GUARD = "guard.npz"

#: What `run.json` has in every version.
_NEEDED = {"schema", "checksums", "fingerprint", "num_folds", "root", "positive_given"}


@attrs.frozen(kw_only=True, eq=False)
class Run(Judging):
    """A finished run, which is a folder on disk.

    Attributes:
        folder: The folder.
        facts: What `run.json` says.
        data: The set it was trained on, where it is at hand.
        test: The test set outside of it, where there is one.
    """

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

    def evaluate(
        self, data: Dataset | None = None, *, groups: str | Sequence[str] = (), split: str | None = None, **choices: Any
    ) -> Evaluation:
        """Evaluate predictions again: by the values of columns, by group of images, of another labelled set.

        Thresholds are those of the run, none is fitted on what is evaluated.

        Args:
            data: Another set with the classes of the run, predicted by the mean of the folds; None takes the saved
                predictions.
            groups: Columns, such as "site", for each of whose values metrics are wanted.
            split: Of saved predictions, `test` or `val`; None takes those that the run reports.
            **choices: What `evaluation.summary.reevaluate` takes besides: `aggregation="mean"`, `prevalence=[0.01]`,
                `method="bca"`, `resamples=1000`, `seed=0`.

        Returns:
            The numbers: `table`, `worst`, `facts`; `save(folder)` writes `metrics.csv` and `evaluation.json`.

        Raises:
            ConfigError: if an option or a column is unknown, or `split` is given with another set.
            DataError: if the other set has labels that the run does not know.
        """
        if data is not None and split is not None:
            raise ConfigError(f"'split' must be left out with another set, got {split!r}")
        wanted = split or ("val" if self.used_for_selection else "test")
        found = self.predictions(wanted) if data is None else self._told_of(data)
        validated = None if self._refitted or choices.get("aggregation") is None else self.predictions("val")
        chosen = {"decision": self.model.decision, "validated": validated, **choices}
        evaluation = reevaluate(found, self.thresholds, groups=groups, **chosen)
        return evaluation if data is None else self.opened(evaluation, found)

    def _told_of(self, data: Dataset) -> Predictions:
        if unknown := set(data.classes) - set(self.model.classes):
            remedy = nearest(min(unknown), self.model.classes)
            raise DataError(f"'data' must have labels that the run knows, got {sorted(unknown)!r}; {remedy}")
        own = attrs.evolve(data, classes=self.model.classes, positive=self.model.positive)
        numbers = range(self.facts["num_folds"])
        every = [np.arange(len(own)) for _ in numbers]
        parts = score(own, every, self.model, [self.classifier(number) for number in numbers], split="other")
        told = [calibrate(part, self.calibrations) for part in parts] if self.calibrations else parts
        return Predictions.mean_of_folds(told)

    @property
    def predictor(self) -> Predictor:
        """The models of all folds as one, with the guard where it was fitted; threads may share it."""
        guard = self.guard() if (self.folder / _GUARD).exists() else None
        return self._ensemble if guard is None else attrs.evolve(self._ensemble, guard=guard)

    @functools.cached_property
    def _ensemble(self) -> Predictor:
        return Predictor.load(self.folder, num_folds=self.facts["num_folds"], backbone=self._backbone)

    def guard(self) -> Guard:
        """Fit what tells images unlike the training data, unless that was done: then it is read.

        That takes about as long as predicting all records once. It is kept in `guard.npz`; from then on predictions
        have the columns `distance` and `unlike`. Of the validation records of each fold 99 % are within its limit.

        Returns:
            The guard.

        Raises:
            RunError: if the images of the run are not at hand, or for a refit, which has no validation records.
        """
        return self._guard

    @functools.cached_property
    def _guard(self) -> Guard:
        path = self.folder / _GUARD
        if path.exists():
            return Guard.load(path)
        if self._refitted:
            raise RunError(
                "'guard' must be asked of the run of the folds, got a refit, which has no validation records"
            )
        on_bad = "skip" if self.facts.get("skipped") else "raise"
        models = [self.classifier(number) for number in range(self.facts["num_folds"])]  # they go to the device
        fit_guard(self.data, self.folds, self.model, models, on_bad=on_bad).save(path)
        return Guard.load(path)

    def predict(
        self,
        paths: Paths,
        *,
        threshold: Cut | None = None,
        sets: float | Conformal | None = None,
        reject: Rejection | None = None,
        on_error: str = "raise",
        neighbours: int = 0,
        tta: str | Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Predict image files with the mean of the folds.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; for several classes a rule, or a number for each by
                name; None takes the run's rule.
            sets: Adds prediction sets that miss the true class so often, such as 0.1, or those of `conformal`.
            reject: Says where the model abstains, from `rejection`.
            on_error: What is done about files that cannot be read: `raise`, or `row`, a row with the reason in a column
                `error` and an empty decision.
            neighbours: How many of the nearest training images are named; the guard is fitted if it was not.
            tta: Test-time augmentation, such as `"flip-lr"` or `{"augment": "light", "draws": 8}`.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`, of several folds `spread`; where a guard
            was fitted `distance` and `unlike`, and with `neighbours` `neighbour_1`, `neighbour_1_class` and so on; with
            `sets` a column `set`, classes with `|` between, and with `reject` a column `rejected`.

        Raises:
            ConfigError: if `reject` was fitted to another threshold.
        """
        if reject is not None and threshold is not None:
            raise ConfigError(
                f"'threshold' must be left out with 'reject', which goes with the run's, got {threshold!r}"
            )
        if neighbours > 0:
            self.guard()
        predictor = self.predictor
        table = predictor.predict(paths, threshold=threshold, on_error=on_error, neighbours=neighbours, tta=tta)
        probs = table[[f"prob_{name}" for name in self.model.classes]].to_numpy()
        read = ~np.isnan(probs).any(axis=1)
        if sets is not None:
            chosen = sets if isinstance(sets, Conformal) else self.conformal(sets)
            table["set"] = filled(chosen.names(probs[read]), read)
        if reject is not None:
            table["rejected"] = filled(reject.rejects(predictor.confidence(probs[read])).tolist(), read)
        return table

    def export(
        self,
        format: str = "onnx",  # noqa: A002 (as it is called everywhere)
        *,
        out: str | Path | None = None,
        fold: int | None = None,
        int8: bool = False,
        images: Sequence[str | Path] | None = None,
        records: int = 1000,
    ) -> Path:
        """Write the models for use elsewhere: weights, preprocessing, calibration, thresholds, checksums.

        The exported model is run on real images at once, and an error if a probability is not within 1e-4 of what this
        run says. `imgcls.load_exported` opens the folder.

        Args:
            format: `"onnx"`, which `load_exported` runs without torch; `"torch-export"`, a program for torch alone; or
                `"safetensors"`, weights and a description.
            out: A new or empty folder; None takes one in `exports` in that of the run.
            fold: The fold whose model is exported, with its own thresholds; None takes the mean of all.
            int8: Whether the network is to compute in integers of 8 bits (`"onnx"` alone). Their ranges come from
                validation records; what that costs in every metric stands in `quantisation.csv`.
            images: Image files for the check; None takes some of the set that the run was trained on.
            records: On how many validation records, and test records, the cost of `int8` is measured at most.

        Returns:
            The folder.

        Raises:
            UnsupportedModelError: if the network cannot be written in the format, or says something else there.
            RunError: if no images are at hand, or the folder is in use.
        """
        if fold is not None and fold not in range(self.facts["num_folds"]):
            raise ConfigError(f"'fold' must be one of {self.facts['num_folds']} folds, got {fold!r}; they begin at 0")
        card = self.folder / "model_card.md"
        order = Order(
            predictor=self.predictor if fold is None else single(self.predictor, fold, self.thresholds),
            folds=range(self.facts["num_folds"]) if fold is None else (fold,),
            format=format,
            pixels=self._some_pixels(images),
            origin={"name": self.folder.name, "imgcls": imgcls.__version__, "fingerprint": self.facts["fingerprint"]},
            card=card.read_text(encoding="utf-8") if card.exists() else None,
            trials=[of_fold(self.subject(split), fold, limit=records) for split in self._held_out] if int8 else (),
        )
        name = "-".join([format, *([] if fold is None else [f"fold{fold}"]), *(["int8"] if int8 else [])])
        folder = self.folder / "exports" / name if out is None else Path(out)
        export(folder, order)
        return folder

    @property
    def _held_out(self) -> list[str]:
        return ["val"] if self.used_for_selection else ["val", "test"]

    # Those of the set are evenly spaced, so that all classes and places are among them.
    def _some_pixels(self, paths: Sequence[str | Path] | None) -> NDArray[Any]:
        if paths is not None:
            return np.stack([files.read(Path(path), self.model.image) for path in paths])
        places = np.unique(np.linspace(0, len(self.data) - 1, _CHECKED).astype(np.int64))
        return np.stack([self.data.pixels(place, self.model.image) for place in places.tolist()])

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
        limit: int | None = 16,
        errors: bool = False,
        target: str | None = None,
        masks: bool | Mapping[str, Any] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> Attributions:
        """Explain predictions by the models that made them, score the maps, and draw panels.

        All goes to `attributions/<method>-<split>` in the run's folder: `maps.npz`, panels with
        `index.csv`, with masks `scores.csv` (by image), `score_means.csv` (by class and group) and
        `score_pixels.csv`, and `shortcuts.csv`, whose warnings the report shows.

        Args:
            method: An explainer's name, spec, or an explainer.
            split: `val` or `test`.
            limit: How many records at most; None takes all.
            errors: Whether to take the worst errors instead of an even sample.
            target: The class to explain; None takes the one that was decided, and of several labels the most
                probable one.
            masks: None scores the maps where the set has masks, True takes records with a mask
                alone, False scores none. Masks by id may be given instead: (h, w), whether or from
                0 to 1 how much each pixel lies inside; of another size than the image they are
                resized by area.
            box: Where a sound decision may rest, as (top, left, bottom, right) in shares of the
                image; it takes the place of the masks in the check for shortcuts.

        Returns:
            The attributions, in the order of the index.

        Raises:
            RunError: if there is nothing to explain, such as no errors.
            UnsupportedModelError: if the method cannot treat the model; with the reason.
        """
        request = Request(limit=limit, errors=errors, target=target, masks=masks, box=box)
        return explain_run(self.subject(split), explainers.create(method), request)

    def subject(self, split: str = "test") -> Subject:
        """Gather what is explained: predictions, images and the models that belong together.

        Args:
            split: `val` or `test`.

        Returns:
            All records of the split.

        Raises:
            RunError: if the models did not make the predictions, or images are not at hand.
        """
        if self._refitted:
            raise RunError(
                "'explain' must be asked of the run of the folds, whose models made the predictions, got a refit"
            )
        return Subject(
            folder=self.folder,
            predictions=self.predictions(split),
            data=self.tested() if split == "test" else self.data,
            saved=self.model,
            thresholds=self.thresholds,
            models=self.classifier,
            num_folds=self.facts["num_folds"],
        )

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

    def report(self, *, check: bool = False) -> Path:
        """Write the HTML page of the run, with what was explained so far.

        Args:
            check: Whether to compare the pixels of all images of the set first, for duplicates across training and
                test, which takes as long as decoding them.

        Returns:
            The file, `report.html` in the run's folder.
        """
        checked = self.data.check(folds=self.folds).problems if check else None
        opened = self.test_openings
        return write_page(
            self.folder / "report.html",
            Material.read(self.folder),
            sets=self._at_hand(),
            notes=[] if opened is None else [str(opened)],
            checked=checked,
        )

    # Without its images a report has no pictures of records, and all the rest.
    def _at_hand(self) -> list[Dataset]:
        found: list[Dataset] = []
        with contextlib.suppress(ImgclsError, OSError):
            found.append(self.data)
        with contextlib.suppress(ImgclsError, OSError):
            found.append(self.tested())
        return found[:1] if len(found) > 1 and found[0] is found[1] else found

    def model_card(self) -> Path:
        """Write the model card: Markdown with the front matter of the Hugging Face Hub.

        What the run knows is filled in; what only its author knows is marked `[to be written]`. A run writes its card
        when it is finished; writing it again replaces the file.

        Returns:
            The file, `model_card.md` in the run's folder.
        """
        return write_card(self.folder / "model_card.md", Material.read(self.folder))

    def figure(self, name: str) -> Drawing:
        """Draw one figure of what the run reports.

        Args:
            name: `roc`, `precision_recall`, `reliability`, `confusion`, `scores`, `thresholds`, `risk_coverage`,
                `forest` or `learning`.

        Returns:
            The figure: `data` are its numbers, `figure` is the matplotlib figure, `save(path)` writes it.

        Raises:
            ConfigError: if there is no figure of that name.
            RunError: if the run has nothing that it could show.
        """
        return draw(Material.read(self.folder), name)

    def figures(self, folder: str | Path | None = None) -> list[Path]:
        """Write all figures that the run has something for, as SVG.

        Args:
            folder: Where to; None takes `figures` in the run's folder.

        Returns:
            The files.
        """
        where = self.folder / "figures" if folder is None else Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        return [one.save(where / f"{one.name}.svg") for one in drawings(Material.read(self.folder))]

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
    content = {**header, **facts, "checksums": checksums}
    write_card(folder / "model_card.md", Material.read(folder, content))
    write_json(folder / "run.json", content)


# Weights carry a checksum of their own, which is checked when they are loaded.
def _checked_file(folder: Path, path: Path) -> bool:
    foreign = path.relative_to(folder).parts[0] in {"logs", "wandb", "comet"}  # may be synced away, or grow
    return (
        path.is_file() and path.suffix in {".json", ".csv", ".npz", ".yaml"} and not foreign and path.name != "run.json"
    )
