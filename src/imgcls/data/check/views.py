"""Masks and other pictures of the records that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

from imgcls.core.errors import ImgclsError
from imgcls.data.check.problems import Problem
from imgcls.data.check.scan import Scan, each
from imgcls.data.columns import MASK
from imgcls.data.dataset import Dataset

__all__ = ["view_problems"]


def view_problems(dataset: Dataset, seen: Scan) -> list[Problem]:
    """Decode every view and every mask once and note what fails.

    Args:
        dataset: The set.
        seen: What was seen of its images; where one cannot be read, its mask cannot be judged.

    Returns:
        The findings.
    """
    readable = seen.files["readable"]
    found = [problem for view in dataset.views for problem in _problems(dataset, view, range(len(dataset)))]
    return found + (_problems(dataset, MASK, readable[readable].index) if MASK in dataset.frame else [])


def _problems(dataset: Dataset, view: str, positions: Iterable[int]) -> list[Problem]:
    what = "mask" if view == MASK else f"view {view!r}"

    def problem(position: int) -> Problem | None:
        try:
            dataset.original_mask(position) if view == MASK else dataset.original(position, view=view)
        except ImgclsError as error:
            name = str(dataset.ids[position])
            return Problem(severity="error", kind="unreadable", id=name, detail=f"{what}: {error}")
        return None

    found = each(list(positions), problem, f"Looking at {what}")
    return [problem for problem in found if problem is not None]
