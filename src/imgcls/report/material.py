"""What a run's folder says, for its report and its card: all of it, or what is left of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

from imgcls.core.config import from_yaml
from imgcls.core.errors import ImgclsError, RunError
from imgcls.core.folders import read_json, sha256
from imgcls.evaluation.evaluate import SPREAD
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import load_thresholds, with_repeats
from imgcls.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Material", "logged_warnings"]

T = TypeVar("T")

#: What cannot be shown without a file.
_TELLS = {
    "config.yaml": "how it was trained",
    "environment.json": "versions, seed and machine",
    "model.json": "the classes and the rule that decides",
    "splits.json": "which records trained, validated and tested",
    "manifest.csv": "the records, their labels and groups",
    "metrics.csv": "the metrics",
    "evaluation.json": "what the numbers stand for",
    "thresholds.json": "the thresholds",
    "hard_errors.csv": "the worst errors",
    "label_errors.csv": "labels that are probably wrong",
}

#: Columns that are text, even where they look like numbers or are empty.
_METRICS = ("split", "fold", "level", "group", "class", "threshold", "metric", "interval", "note")
_ERRORS = ("path", "y_true", "y_pred", "suggested", "error_type", "split")


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
    def read(cls, folder: Path | str) -> Material:
        """Read a run, finished or not.

        Args:
            folder: Its folder.

        Returns:
            What is there.

        Raises:
            RunError: if it is no folder of a run.
        """
        where = Path(folder)
        if not any((where / name).exists() for name in ("config.yaml", "run.json", "metrics.csv")):
            raise RunError(f"'folder' must be that of a run, got {str(where)!r}, which has none of its files")
        reader = _Reader(where)
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
            metrics=reader.table("metrics.csv", _METRICS),
            histories=reader.histories(),
            validated=None if refit else reader.validated(repeats),
            tested=reader.optional("predictions_test.npz", Predictions.load),
            thresholds=reader.read("thresholds.json", load_thresholds) or (),
            hard_errors=reader.table("hard_errors.csv", _ERRORS, needed=not refit),
            label_errors=reader.table("label_errors.csv", _ERRORS, needed=not refit),
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


@attrs.frozen(eq=False)
class _Reader:
    """Reads files and notes what goes wrong."""

    folder: Path
    problems: list[str] = attrs.field(factory=list)
    missing: list[str] = attrs.field(factory=list)

    def told(self) -> tuple[str, ...]:
        if "run.json" not in self.missing:
            return (*(f"{name} is missing: it tells {_TELLS[name]}." for name in self.missing), *self.problems)
        # What is written at the end is not there yet.
        return (f"The run is not finished. Missing so far: {', '.join(self.missing)}.", *self.problems)

    def read(self, name: str, how: Callable[[Path], T], *, needed: bool = True) -> T | None:
        path = self.folder / name
        if not path.exists():
            if needed:
                self.missing.append(name)
            return None
        try:
            return how(path)
        except (OSError, ValueError, KeyError, TypeError, ImgclsError) as error:
            self._note(f"{name} cannot be read ({type(error).__name__})", name)
            return None

    def optional(self, name: str, how: Callable[[Path], T]) -> T | None:
        return self.read(name, how, needed=False)

    def _note(self, what: str, name: str) -> None:
        told = _TELLS.get(name)
        self.problems.append(f"{what}: it tells {told}." if told else f"{what}.")

    def json(self, name: str) -> dict[str, Any]:
        found = self.read(name, read_json)
        if found is not None and not isinstance(found, dict):
            self._note(f"{name} is no object", name)
            return {}
        return found or {}

    # The first two columns must be there, of metrics all.
    def table(self, name: str, texts: Sequence[str], *, needed: bool = True) -> pd.DataFrame | None:
        import pandas as pd

        numbers = dict.fromkeys(("value", "low", "high", "threshold"), [""])
        numbers = {key: empty for key, empty in numbers.items() if key not in texts}
        how = functools.partial(pd.read_csv, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=numbers)
        found = self.read(name, how, needed=needed)
        if found is not None and not {*(texts if texts is _METRICS else texts[:2])} <= {*found.columns}:
            self._note(f"{name} lacks columns", name)
            return None
        return found

    def check(self, facts: Mapping[str, Any]) -> None:
        for name, checksum in facts.get("checksums", {}).items():
            path = self.folder / name
            if not path.is_file():
                if name not in _TELLS:  # those are told of when they are read
                    self.problems.append(f"{name} is missing.")
            elif sha256(path) != checksum:
                self.problems.append(f"{name} is not as it was written; what is shown of it may be wrong.")

    def histories(self) -> dict[int, pd.DataFrame]:
        import pandas as pd

        paths = {_number(path): f"{path.name}/history.csv" for path in self.folder.glob("fold_*/")}
        found = {number: self.optional(paths[number], pd.read_csv) for number in sorted(paths)}
        return {number: table for number, table in found.items() if table is not None and len(table)}

    # Of a calibrated run there is one file, in which each record was calibrated by others.
    def validated(self, repeats: Sequence[int]) -> Predictions | None:
        if (self.folder / "predictions_val.npz").exists():
            return self.optional("predictions_val.npz", Predictions.load)
        places = sorted(self.folder.glob("fold_*/"), key=_number)
        parts = [self.optional(f"{path.name}/predictions_val.npz", Predictions.load) for path in places]
        there = [part for part in parts if part is not None]
        if not there:
            return None
        missing = len(repeats) - len(there)
        if missing > 0:
            self.problems.append(f"Validation predictions of {missing} of {len(repeats)} folds are missing.")
        known = max(int(np.max(part.fold)) for part in there) < len(repeats)
        return Predictions.concat(with_repeats(there, repeats) if known else there)

    def baselines(self) -> pd.DataFrame | None:
        import pandas as pd

        names = ("baselines_probe.csv", "baselines.csv")
        name = next((name for name in names if (self.folder / name).exists()), None)
        return None if name is None else self.optional(name, pd.read_csv)


def _number(path: Path) -> int:
    text = path.name.removeprefix("fold_")
    return int(text) if text.isdecimal() else 0


def logged_warnings(folder: Path) -> list[str]:
    """Read what was warned of while the run was made.

    Args:
        folder: The run's folder.

    Returns:
        Each message once, in the order of the files.
    """
    found: dict[str, None] = {}
    for path in sorted(folder.glob("logs/**/warning.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line that was cut off
                continue
            if isinstance(entry, dict) and entry.get("level") == "warning":
                found[str(entry.get("message", ""))] = None
    return list(found)
