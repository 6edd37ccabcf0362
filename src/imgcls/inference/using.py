"""A run put to use: its models on new images, exported, and how fast they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

import imgcls
from imgcls.core.errors import ConfigError, DataError, RunError
from imgcls.core.spacing import evenly
from imgcls.data import images as files
from imgcls.data.dataset import Dataset
from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import Rejection
from imgcls.explain.base import Explainer
from imgcls.inference.after_quantising import Refit
from imgcls.inference.benchmarking import Benchmark, benchmark
from imgcls.inference.caution import Promises
from imgcls.inference.deciding import Cut
from imgcls.inference.embeddings import embed_files, embed_records, fit_guard
from imgcls.inference.explaining import Subject
from imgcls.inference.exporting import Order, export, of_fold, single
from imgcls.inference.guarding import Guard
from imgcls.inference.judging import Judging
from imgcls.inference.predictor import Predictor
from imgcls.inference.reading import Paths

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Using"]

#: On so many images of its set an export is checked.
_CHECKED = 32

#: And so many of their own sizes where it resizes.
_RESIZED = 8

#: What tells images unlike the training data, once it was asked for.
_GUARD = "guard.npz"


@attrs.frozen(kw_only=True, eq=False)
class Using(Judging):
    """What of a `Run` is about new images."""

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
        models = [self.classifier(number) for number in range(self.facts["num_folds"])]  # they go to the device
        fit_guard(self.data, self.folds, self.model, models, on_bad=self._on_bad).save(path)
        return Guard.load(path)

    # Images of its own set that could not be read in the training cannot be read now.
    @property
    def _on_bad(self) -> str:
        return "skip" if self.facts.get("skipped") else "raise"

    def embed(self, images: Dataset | Paths | None = None, *, fold: int = 0) -> NDArray[np.float32]:
        """Compute the features of the run's own network, as they go into its head.

        All images go through the model of one fold: features of two models have nothing in common, so rows of several
        could not be compared. That model trained on some records of the run's set; those that it did not train on are
        `run.folds[fold].val` and `run.folds[fold].test`. `imgcls.embed` gives the features of any backbone.

        Args:
            images: Another set, image files, or one file; None takes the set that the run was trained on.
            fold: The fold whose model is asked.

        Returns:
            Features (N, D) in the order of the records or files, in full precision and without a unit. Where the run
            skipped unreadable images of its set their rows are NaN.

        Raises:
            ConfigError: if there is no such fold, or no file is named.
            DecodeError: if an image cannot be read.
            RunError: if the images of the run are not at hand.
        """
        self._check_fold(fold)
        model = self.classifier(fold)
        if images is None or isinstance(images, Dataset):
            data, on_bad = (self.data, self._on_bad) if images is None else (images, "raise")
            return embed_records(data, self.model, model, on_bad=on_bad)
        paths = [images] if isinstance(images, str | Path) else images
        return embed_files([Path(path) for path in paths], self.model, model)

    def _check_fold(self, fold: int) -> None:
        if fold not in range(self.facts["num_folds"]):
            raise ConfigError(f"'fold' must be one of {self.facts['num_folds']} folds, got {fold!r}; they begin at 0")

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
        maps: str | Path | None = None,
        explainer: str | Mapping[str, Any] | Explainer | None = None,
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
            maps: A folder, into which relevance maps of what was decided are drawn, as by `Predictor.predict`.
            explainer: The method of the maps: its name, spec, or an explainer; None takes `"grad-cam"`.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`, of several folds `spread`; where a guard
            was fitted `distance` and `unlike`, and with `neighbours` `neighbour_1`, `neighbour_1_class` and so on; with
            `sets` a column `set`, classes with `|` between, with `reject` a column `rejected`, and with `maps` a column
            `map`, the file.

        Raises:
            ConfigError: if `reject` was fitted to another threshold, or `explainer` comes without `maps`.
            UnsupportedModelError: if the explainer cannot treat the network; with the reason.
        """
        if neighbours > 0:
            self.guard()
        return self.predictor.predict(
            paths,
            threshold=threshold,
            sets=sets if sets is None or isinstance(sets, Conformal) else self.conformal(sets),
            reject=reject,
            on_error=on_error,
            neighbours=neighbours,
            tta=tta,
            maps=maps,
            explainer=explainer,
        )

    def export(
        self,
        format: str = "onnx",  # noqa: A002 (as it is called everywhere)
        *,
        out: str | Path | None = None,
        fold: int | None = None,
        int8: bool = False,
        resize: bool = False,
        images: Sequence[str | Path] | None = None,
        records: int = 1000,
        sets: float | Mapping[str, Any] | Conformal | None = None,
        reject: Mapping[str, float] | Rejection | None = None,
    ) -> Path:
        """Write the models for use elsewhere: weights, preprocessing, calibration, thresholds, checksums.

        Where a guard was fitted it is exported, without what it knows of each training record. The exported model is
        run on real images at once, and an error if a probability is not within 1e-4 of what this run says.
        `imgcls.load_exported` opens the folder.

        Args:
            format: `"onnx"`, which `load_exported` runs without torch; `"torch-export"`, a program for torch alone; or
                `"safetensors"`, weights and a description.
            out: A new or empty folder; None takes one in `exports` in that of the run.
            fold: The fold whose model is exported, with its own thresholds; None takes the mean of all.
            int8: Whether the network is to compute in integers of 8 bits (`"onnx"` alone). Their ranges come from
                validation records, to which thresholds, sets, abstention and the limit of the guard are fitted anew;
                what that costs in every metric stands in `quantisation.csv`.
            resize: Whether the file is to take images of any size and to resize them itself, as Pillow does it; not for
                `"safetensors"`, images of more than 8 bits and `int8`.
            images: Image files for the check; None takes some of the set that the run was trained on.
            records: On how many validation records, and test records, the cost of `int8` is measured at most.
            sets: How often the true class may be missing from prediction sets, such as 0.1, or what `conformal` takes,
                such as `{"alpha": 0.1, "method": "aps"}`; or what it returns.
            reject: When the model abstains, as for `rejection`, such as `{"coverage": 0.9}`; or what it returns.

        Returns:
            The folder.

        Raises:
            UnsupportedModelError: if the network cannot be written in the format, or says something else there.
            ConfigError: if the format cannot have `int8` or `resize`, or the images are too deep for the latter.
            MissingExtraError: if a package of the format is not installed.
            RunError: if no images are at hand, or the folder is in use.
        """
        if fold is not None:
            self._check_fold(fold)
        card, promises = self.folder / "model_card.md", Promises(sets=sets, reject=reject)
        order = Order(
            predictor=self.predictor if fold is None else single(self.predictor, fold, self.thresholds),
            folds=range(self.facts["num_folds"]) if fold is None else (fold,),
            format=format,
            pixels=self._some_pixels(images),
            originals=self._some_originals(images) if resize else (),
            origin={"name": self.folder.name, "imgcls": imgcls.__version__, "fingerprint": self.facts["fingerprint"]},
            card=card.read_text(encoding="utf-8") if card.exists() else None,
            caution=promises.fit(lambda: self._validated_by(fold), self.thresholds, self.model.decision),
            refit=self._refit(fold, records, promises) if int8 else None,
        )
        words = [format, "" if fold is None else f"fold{fold}", "int8" if int8 else "", "resize" if resize else ""]
        name = "-".join(filter(None, words))
        folder = self.folder / "exports" / name if out is None else Path(out)
        export(folder, order)
        return folder

    # Each validation record once.
    def _validated_by(self, fold: int | None) -> Predictions:
        if fold is None:
            return self.validated_once()
        found = self.predictions("val")
        return found.take(found.fold == fold)

    def _refit(self, fold: int | None, records: int, promises: Promises) -> Refit:
        splits, folds = ["val"] if self.used_for_selection else ["val", "test"], self.folds
        return Refit(
            trials=[of_fold(self.subject(split), fold, limit=records) for split in splits],
            prior=None if folds.prior is None else [folds.prior[name] for name in self.model.classes],
            crossed=folds.report == "val",
            promises=promises,
        )

    def _some_pixels(self, paths: Sequence[str | Path] | None) -> NDArray[Any]:
        if paths is not None:
            return np.stack([files.read(Path(path), self.model.image) for path in paths])
        return np.stack([self.data.pixels(place, self.model.image) for place in self._some_records()])

    # Few, since they may be large; as grey or colour as the model takes them.
    def _some_originals(self, paths: Sequence[str | Path] | None) -> tuple[NDArray[Any], ...]:
        if paths is not None:
            found = [files.original(Path(path)) for path in paths[:_RESIZED]]
        else:
            found = [self.data.original(place) for place in self._some_records()[:: _CHECKED // _RESIZED]]
        plain = attrs.evolve(self.model.image, fit="stretch", fill="constant")
        return tuple(files.decode(one, attrs.evolve(plain, size=one.shape[:2])) for one in found)

    # Evenly spaced, so that all classes and places are among them.
    def _some_records(self) -> list[int]:
        return evenly(len(self.data), _CHECKED).tolist()

    def benchmark(self, images: Sequence[str | Path] = (), **choices: Any) -> Benchmark:
        """Measure how fast the run predicts on this machine, and with how much memory.

        Args:
            images: Image files; without any some of the set that the run was trained on, where they are at hand.
            **choices: As for `inference.benchmarking.benchmark`: `batch_sizes`, `rounds`, `device`.

        Returns:
            Images per second, percentiles of latency and memory; also in `benchmark.json` in the run's folder.
        """
        files = [Path(path) for path in images] or self._some_files()
        found = benchmark(self.predictor, files=files, **choices)
        found.save(self.folder / "benchmark.json")
        return found

    def _some_files(self) -> list[Path]:
        try:
            found = [self.data.path(place) for place in self._some_records()]
        except (DataError, RunError):  # images in memory, or moved
            return []
        return [path for path in found if path.exists()]
