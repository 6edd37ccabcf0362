"""What a run's folder says, for its report and its card: all of it, or what is left of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imgcls.core.config import from_yaml
from imgcls.core.errors import ImgclsError, RunError
from imgcls.evaluation.evaluate import SPREAD
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import load_thresholds
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.reading import ERRORS, METRICS, Reader

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Material"]


@attrs.frozen(kw_only=True, eq=False)
class Material:
    """A run as it is on disk; what is missing or damaged is None or empty, and named in `problems`.

    Attributes:
        folder: The run's folder.
        facts: `run.json`.
        config: `config.yaml`, as text.
        environment: `environment.json`.
        model: `model.json`.
        splits: `splits.json`.
        evaluation: `evaluation.json`.
        manifest: The records.
        metrics: Every metric, as `Run.metrics` has them.
        histories: The epochs of each fold that has any, by its number.
        validated: The validation predictions of all folds.
        tested: The test predictions.
        thresholds: All thresholds.
        hard_errors: As `Run.hard_errors`.
        label_errors: As `Run.label_errors`.
        baselines: What is reached without the model.
        problems: What is missing or damaged, in sentences.
    """

    folder: Path
    facts: Mapping[str, Any]
    config: str
    environment: Mapping[str, Any]
    model: Mapping[str, Any]
    splits: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    manifest: pd.DataFrame | None
    metrics: pd.DataFrame | None
    histories: Mapping[int, pd.DataFrame]
    validated: Predictions | None
    tested: Predictions | None
    thresholds: tuple[Threshold, ...]
    hard_errors: pd.DataFrame | None
    label_errors: pd.DataFrame | None
    baselines: pd.DataFrame | None
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path | str, facts: Mapping[str, Any] | None = None) -> Material:
        """Read a run, finished or not.

        Args:
            folder: Its folder.
            facts: What `run.json` is going to say, of a run that is about to be finished; None reads it.

        Returns:
            What is there.

        Raises:
            RunError: if it is no folder of a run.
        """
        where = Path(folder)
        if not any((where / name).exists() for name in ("config.yaml", "run.json", "metrics.csv")):
            raise RunError(f"'folder' must be that of a run, got {str(where)!r}, which has none of its files")
        reader = Reader(where)
        if facts is None:
            facts = reader.json("run.json")
            reader.check(facts)
        splits = reader.json("splits.json")
        repeats = [int(number) for number in splits.get("repeats", [0] * len(splits.get("folds", ())))]
        refit = "refit_of" in facts
        return cls(
            folder=where,
            facts=facts,
            config=reader.read("config.yaml", lambda path: path.read_text(encoding="utf-8")) or "",
            environment=reader.json("environment.json"),
            model=reader.json("model.json"),
            splits=splits,
            evaluation=reader.json("evaluation.json"),
            manifest=reader.table("manifest.csv", ("id", "label", "group")),
            metrics=reader.table("metrics.csv", METRICS),
            histories=reader.histories(),
            validated=None if refit else reader.validated(repeats),
            tested=reader.optional("predictions_test.npz", Predictions.load),
            thresholds=reader.read("thresholds.json", load_thresholds) or (),
            hard_errors=reader.table("hard_errors.csv", ERRORS, needed=not refit),
            label_errors=reader.table("label_errors.csv", ERRORS, needed=not refit),
            baselines=reader.baselines(),
            problems=reader.told(),
        )

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def complete(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not self.problems

    @property
    def final(self) -> Predictions | None:
        """The predictions that are reported: of test records, else of validation records."""
        return self.validated if self.tested is None else self.tested

    @property
    def decision(self) -> str:
        """The rule that decides; empty takes the most probable class."""
        return str(self.model.get("decision", ""))

    @functools.cached_property
    def options(self) -> Mapping[str, Any]:
        """The configuration; empty where it cannot be read."""
        try:
            found = from_yaml(self.config)
        except ImgclsError:
            return {}
        return found if isinstance(found, dict) else {}

    @functools.cached_property
    def of_images(self) -> pd.DataFrame | None:
        """The rows of metrics that are of images and no spread over folds."""
        table = self.metrics
        return None if table is None else table[(table["level"] == "image") & (table["fold"] != SPREAD)]

    @functools.cached_property
    def reported(self) -> pd.DataFrame | None:
        """The rows of metrics that are reported: of all folds, or of their mean where the test set is fixed."""
        if self.of_images is None or self.final is None:
            return None
        table = self.of_images[self.of_images["split"] == self.final.split]
        table = table[table["group"] == ""]
        return table[table["fold"] == ("mean" if "mean" in set(table["fold"]) else "all")]

    def value(self, metric: str, *, threshold: str = "", of: str = "") -> Mapping[str, Any] | None:
        """Look up a number that is reported.

        Args:
            metric: Its name.
            threshold: The rule.
            of: The class; empty for all.

        Returns:
            The row, or None where there is none.
        """
        if self.reported is None:
            return None
        table = self.reported
        wanted = (table["metric"] == metric) & (table["threshold"] == threshold) & (table["class"] == of)
        rows = table[wanted].to_dict("records")
        return {str(key): value for key, value in rows[0].items()} if rows else None
