"""What a run says of its own predictions: how far to trust them, and where they are wrong."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from numpy.typing import NDArray

from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError
from imgcls.core.folders import write_text
from imgcls.core.progress import warn
from imgcls.data.dataset import Dataset
from imgcls.evaluation.baselines import Known
from imgcls.evaluation.conformal import Conformal, fit_conformal
from imgcls.evaluation.openings import Openings, digest_of, note_opening, openings
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import Rejection, RiskCoverage, fit_rejection, risk_coverage
from imgcls.evaluation.summary import Evaluation
from imgcls.inference.comparing import compare_with_baselines, known_of
from imgcls.inference.recorded import Recorded
from imgcls.runtime.embedding import embed
from imgcls.runtime.sources import open_source

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Judging"]


@attrs.frozen(kw_only=True, eq=False)
class Judging(Recorded):
    """What of a `Run` is about the worth of its predictions."""

    @functools.cached_property
    def hard_errors(self) -> pd.DataFrame:
        """The errors that the models were surest of: idx, error_type, threshold, path, y_true, y_score, y_pred."""
        return self._table("hard_errors.csv")

    @functools.cached_property
    def label_errors(self) -> pd.DataFrame:
        """Labels that are probably wrong, the most doubtful first, as `evaluation.label_errors` finds them."""
        return self._table("label_errors.csv")

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        texts = dict.fromkeys(("path", "y_true", "y_pred", "suggested", "error_type", "split"), str)
        return pd.read_csv(self.folder / name, dtype=texts, keep_default_na=False, na_values={"threshold": [""]})

    @property
    def test_openings(self) -> Openings | None:
        """How often the test records of the run were opened, by all runs of its folder; None without test records."""
        noted = self.facts.get("test_openings")
        if noted is None:
            return None
        now = openings(self._project, noted["fingerprint"])
        return now if now.count >= noted["count"] else Openings(**noted)  # the run may have been moved

    # The folder of the runs; a refitted model may be in that of its run.
    @property
    def _project(self) -> Path:
        parent = self.folder.resolve().parent
        return parent.parent if (parent / "run.json").exists() else parent

    def opened(self, evaluation: Evaluation, predictions: Predictions) -> Evaluation:
        """Note in the test ledger that the records of another set were judged.

        Args:
            evaluation: The numbers of it.
            predictions: What they are of.

        Returns:
            The same with `test_openings` in its facts, and a warning where several configurations were tried on the
            records; a run that judges them again counts once.
        """
        folder, begun = self.folder.resolve(), (self.folder / "environment.json").stat().st_mtime_ns
        options = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
        try:
            found = note_opening(
                self._project,
                predictions,
                configuration=digest_of(options),
                run=folder.name,
                key=f"{folder} {begun}",
            )
        except OSError as error:
            warn(f"The opening of the test records could not be noted in {self._project}: {error}")
            return evaluation
        warnings = [*evaluation.facts["warnings"], *([str(found)] if found.configurations > 1 else [])]
        facts = {**evaluation.facts, "warnings": warnings, "test_openings": attrs.asdict(found)}
        return attrs.evolve(evaluation, facts=facts)

    def baselines(self, *, probe: bool | NDArray[Any] = False) -> pd.DataFrame:
        """Compare the models with what is reached without them.

        Args:
            probe: Whether to add a linear model of the features of the backbone as it was before the training, which
                takes about as long as predicting all records; or these or other features of the records (N, F).

        Returns:
            A row for each baseline and metric, as `evaluation.baselines` returns them. It is kept in `baselines.csv`,
            and with the linear model in `baselines_probe.csv`, which the report shows.
        """
        import pandas as pd

        asked = not isinstance(probe, bool) or probe
        path = self.folder / ("baselines_probe.csv" if asked else "baselines.csv")
        if not path.exists() or not isinstance(probe, bool):
            write_text(path, self._compared(probe).to_csv(index=False))
        return pd.read_csv(path)

    def _compared(self, probe: bool | NDArray[Any]) -> pd.DataFrame:
        tested = None
        if (other := self.tested()) is not self.data:
            if not isinstance(probe, bool):
                raise ConfigError("'probe' must be True or False where the test set is another one, got features")
            tested = self._known(other, probe)
        final = self.predictions("val" if self.used_for_selection else "test")
        known = self._known(self.data, probe)
        return compare_with_baselines(final, self.folds, known=known, tested=tested, seed=self.seed)

    def _known(self, data: Dataset, probe: bool | NDArray[Any]) -> Known:
        source = open_source(data, self.model.image, on_bad="skip" if self.facts.get("skipped") else "raise")
        features = None if isinstance(probe, bool) else probe
        if probe is True:
            features = embed(data, backbone=self.given_backbone or self.model.backbone, image=self.model.image)
        return known_of(data, source, features=features)

    def conformal(self, alpha: float = 0.1, *, method: str = "lac", per_class: bool = False) -> Conformal:
        """Fit prediction sets: so many classes that the true one is among them as often as promised.

        They are fitted to validation records, each predicted by a model that did not train on it; where these have
        groups, the promise is for records of new groups. Validation also chose the checkpoints, and the mean of several
        folds is another model, so the promise is approximate: `coverage` of the test predictions says what became of
        it.

        Args:
            alpha: How often the true class may be missing.
            method: `"lac"`, the smallest sets on average, or `"aps"`, larger ones where the model is unsure.
            per_class: Whether the promise is to hold for the records of each class.

        Returns:
            The sets: `sets(probs)`, `names(probs)`, `coverage(predictions)`.
        """
        return fit_conformal(self.validated_once(), alpha=alpha, method=method, per_class=per_class)

    def rejection(self, *, risk: float | None = None, coverage: float | None = None) -> Rejection:
        """Find how sure a decision must be, on validation records.

        Args:
            risk: The share of wrong decisions that is allowed among those taken.
            coverage: The share of decisions that are to be taken at least; one of the two is given.

        Returns:
            When the model abstains; `predict(..., reject=...)` applies it.
        """
        return fit_rejection(self.validated_once(), self.thresholds, self.model.decision, risk=risk, coverage=coverage)

    def risk_coverage(self, split: str = "test") -> RiskCoverage:
        """Compute the risk of the surest decisions, over their share.

        Args:
            split: `val` or `test`.

        Returns:
            The curve with intervals, and the area under it.
        """
        return risk_coverage(self.predictions(split), self.thresholds, self.model.decision)

    def validated_once(self) -> Predictions:
        """Read what the models said of validation records, each record once, as the mean of the folds is asked.

        Returns:
            The mean of what the models said that did not train on a record.
        """
        return self.predictions("val").mean_of_repeats()
