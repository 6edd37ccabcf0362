"""The models of a run as an MLflow model: a table of paths in, a table of predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from imgcls.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PathModel"]


@final
@attrs.frozen(kw_only=True)
class PathModel:
    """Predicts the image files that a table names.

    Attributes:
        predictor: The models.
    """

    predictor: Predictor

    def predict(self, table: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002 (MLflow gives it)
        """Predict.

        Args:
            table: A column `path`; the files are read where this runs.
            params: Nothing.

        Returns:
            What `Run.predict` gives: `path`, `prob_<class>` of each class, `decision`.
        """
        return self.predictor.predict(table["path"].tolist())


# MLflow calls it by this name.
def _load_pyfunc(data_path: str) -> PathModel:
    folder = Path(data_path)
    return PathModel(predictor=Predictor.load(folder, num_folds=len(list(folder.glob("fold_*")))))
