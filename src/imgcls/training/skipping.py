"""Records that were left out since they cannot be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from imgcls.core.folders import write_text
from imgcls.core.progress import say
from imgcls.training.planning import Recipe

__all__ = ["skipped", "write_skipped"]


def write_skipped(path: Path, recipe: Recipe) -> None:
    """List the records that were left out since they cannot be read, and say so.

    Args:
        path: The CSV file.
        recipe: What all folds share.
    """
    import pandas as pd

    write_text(path, pd.DataFrame(_skipped(recipe)).to_csv(index=False))
    counts = ", ".join(f"{count} of {name}" for name, count in skipped(recipe).items())
    say(f"Left out since they cannot be read: {counts}; listed in {path.name}. Their split is judged without them.")


def skipped(recipe: Recipe) -> dict[str, int]:
    """Count the records that were left out since they cannot be read.

    Args:
        recipe: What all folds share.

    Returns:
        How many, by the split that the set says.
    """
    counts = Counter(row["split"] or "set" for row in _skipped(recipe))
    return dict(sorted(counts.items()))


def _skipped(recipe: Recipe) -> list[dict[str, str]]:
    sets = [(recipe.dataset, recipe.bad, "")]
    sets += [] if recipe.test is None else [(recipe.test[0], recipe.test[1].bad, "test")]
    return [
        {
            "id": str(data.ids[position]),
            "label": str(data.frame["label"].iloc[position]),
            "split": split or ("" if data.splits is None else str(data.splits[position])),
            "reason": reason,
        }
        for data, bad, split in sets
        for position, reason in sorted(bad.items())
    ]
