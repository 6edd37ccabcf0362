"""As many folds as groups."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.progress import say
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import Splitter
from imgcls.splitting.rotation import REPORTS, VAL_SHARE, refuse_unused, rotate
from imgcls.splitting.units import Units, refuse_few, refuse_ungrouped

__all__ = ["LeaveOneGroupOut"]


@final
@attrs.frozen(kw_only=True)
class LeaveOneGroupOut(Splitter):
    """Each group is held out once, such as each of a few sites or devices.

    Validation is a part of the other groups, with classes in proportion as far as groups allow.

    Attributes:
        val: The share of the records outside of test that validates.
        report: Whether the group that is held out is `test` or `val`, as in `KFolds`.
    """

    val: float = attrs.field(default=VAL_SHARE, validator=options.fraction())
    report: str = attrs.field(default="test", validator=options.choice(*REPORTS))

    def __attrs_post_init__(self) -> None:
        refuse_unused(self.val, self.report)

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold, and say how many folds there are.

        Args:
            dataset: The set.
            seed: The seed of what validates.
            test: Whether the group that is held out may test; else it validates.

        Returns:
            Codes (groups, N).
        """
        refuse_ungrouped(dataset, instead="stratified-kfold")
        units = Units.over(dataset, grouped=True)
        tests = test and self.report == "test"
        refuse_few(units, parts=3 if tests else 2, remedy="use another splitter", stratified=False)
        refuse_few(units, parts=2, remedy="use another splitter, or merge classes")
        say(f"leave-one-group-out: {len(units)} folds, one for each group")
        counts = units.columns(stratified=True)
        return rotate(np.arange(len(units)), units, counts, val=self.val if tests else None, seed=seed)
