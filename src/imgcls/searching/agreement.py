"""Whether the study of a folder is about the same Trainer and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.core.errors import ConfigError
from imgcls.core.folders import read_json, write_json
from imgcls.data.dataset import Dataset
from imgcls.trainer import Trainer

__all__ = ["agree"]

#: Options that change nothing in what a trial learns.
_FREE = frozenset(
    {
        *("data", "out", "executor", "parallel", "workers", "store", "callbacks", "trackers", "profile"),
        *("checkpoint_every", "snapshots"),
    }
)


def agree(out: Path, trainer: Trainer, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a study whose trials could not be compared with new ones.

    Args:
        out: The folder of the search.
        trainer: The Trainer now.
        settings: What else trials are compared by.

    Raises:
        ConfigError: if something changed since the first trial; with both values.
    """
    test = trainer.test.fingerprint if isinstance(trainer.test, Dataset) else None
    options = {f"trainer.{key}": value for key, value in trainer.to_config().items() if key not in _FREE}
    facts = {"trainer.data": trainer.data.fingerprint, "trainer.test set": test, **options, **settings}
    path = out / "trainer.json"
    if path.exists() and any((out / "study").glob("trials/*")):
        kept = read_json(path)
        for key, value in facts.items():
            if kept.get(key) != value:
                what = f"'{key}' must stay {kept.get(key)!r} as in the study of {str(out)!r}"
                raise ConfigError(f"{what}, got {value!r}; change it back or use a new folder")
    write_json(path, facts)
