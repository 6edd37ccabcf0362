"""Reading the files of a run that may be unfinished or damaged: what goes wrong is noted, and stops nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import numpy as np

from imgcls.core.errors import ImgclsError
from imgcls.core.folders import read_json, sha256
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import with_repeats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ERRORS", "METRICS", "Reader", "logged_warnings"]

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
METRICS = ("split", "fold", "level", "group", "class", "threshold", "metric", "interval", "note")
ERRORS = ("path", "y_true", "y_pred", "suggested", "error_type", "split")


@attrs.frozen(eq=False)
class Reader:
    """Reads files and notes what goes wrong.

    Attributes:
        folder: The run's folder.
        problems: What went wrong, in sentences.
        missing: Files that a finished run has and this one lacks.
    """

    folder: Path
    problems: list[str] = attrs.field(factory=list)
    missing: list[str] = attrs.field(factory=list)

    def told(self) -> tuple[str, ...]:
        """Say what is missing and what went wrong.

        Returns:
            Sentences; of an unfinished run one names all that is missing.
        """
        if "run.json" not in self.missing:
            return (*(f"{name} is missing: it tells {_TELLS[name]}." for name in self.missing), *self.problems)
        # What is written at the end is not there yet.
        return (f"The run is not finished. Missing so far: {', '.join(self.missing)}.", *self.problems)

    def read(self, name: str, how: Callable[[Path], T], *, needed: bool = True) -> T | None:
        """Read a file.

        Args:
            name: Its path in the folder.
            how: What reads it.
            needed: Whether a finished run has it.

        Returns:
            Its content; None where it is missing or damaged.
        """
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
        """Read a file that some runs do not have.

        Args:
            name: Its path in the folder.
            how: What reads it.

        Returns:
            Its content; None where it is missing or damaged.
        """
        return self.read(name, how, needed=False)

    def _note(self, what: str, name: str) -> None:
        told = _TELLS.get(name)
        self.problems.append(f"{what}: it tells {told}." if told else f"{what}.")

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON object.

        Args:
            name: The file.

        Returns:
            The object; empty where it is missing or damaged.
        """
        found = self.read(name, read_json)
        if found is not None and not isinstance(found, dict):
            self._note(f"{name} is no object", name)
            return {}
        return found or {}

    def table(self, name: str, texts: Sequence[str], *, needed: bool = True) -> pd.DataFrame | None:
        """Read a CSV file.

        Args:
            name: The file.
            texts: Columns that are text; the first two must be there, of metrics all.
            needed: Whether a finished run has it.

        Returns:
            The table; None where it is missing or damaged.
        """
        import pandas as pd

        empty = {key: [""] for key in ("value", "low", "high", "threshold") if key not in texts}
        types = dict.fromkeys(texts, str)

        def how(path: Path) -> pd.DataFrame:
            return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=empty)

        found = self.read(name, how, needed=needed)
        if found is not None and not {*(texts if texts is METRICS else texts[:2])} <= {*found.columns}:
            self._note(f"{name} lacks columns", name)
            return None
        return found

    def check(self, facts: Mapping[str, Any]) -> None:
        """Hold all files against their checksums.

        Args:
            facts: What `run.json` says.
        """
        for name, checksum in facts.get("checksums", {}).items():
            path = self.folder / name
            if not path.is_file():
                if name not in _TELLS:  # those are told of when they are read
                    self.problems.append(f"{name} is missing.")
            elif sha256(path) != checksum:
                self.problems.append(f"{name} is not as it was written; what is shown of it may be wrong.")

    def histories(self) -> dict[int, pd.DataFrame]:
        """Read the epochs of all folds that have begun.

        Returns:
            Tables by the number of the fold.
        """
        import pandas as pd

        paths = {_number(path): f"{path.name}/history.csv" for path in self.folder.glob("fold_*/")}
        found = {number: self.optional(paths[number], pd.read_csv) for number in sorted(paths)}
        return {number: table for number, table in found.items() if table is not None and len(table)}

    # Of a calibrated run there is one file, in which each record was calibrated by others.
    def validated(self, repeats: Sequence[int]) -> Predictions | None:
        """Read the validation predictions of all folds that have any.

        Args:
            repeats: The repeat of each fold of the run.

        Returns:
            The predictions; None without any.
        """
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
        """Read what is reached without the model, with the linear probe where it was asked for.

        Returns:
            The table; None without any.
        """
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
