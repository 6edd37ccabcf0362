"""From probabilities to decisions and a table; without torch, so that an exported model uses it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, nearest
from imgcls.data import images
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.decisions import largest
from imgcls.evaluation.predictions import joined_names
from imgcls.evaluation.rejecting import distance
from imgcls.evaluation.thresholds import Threshold, parse_rule

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Decider", "Probs", "predict_files"]

Floats = NDArray[np.float64]

#: From pixels (B, H, W, C) to probabilities (B, K).
Probs = Callable[[NDArray[Any]], Floats]


@final
@attrs.frozen(kw_only=True)
class Decider:
    """How probabilities become decisions.

    Attributes:
        classes: The K classes in order.
        positive: The positive class of two, or None.
        multilabel: Whether a record may have several labels.
        decision: The rule that decides; empty takes the most probable class.
        thresholds: Those of the model that gives the probabilities.
    """

    classes: tuple[str, ...]
    positive: str | None
    multilabel: bool
    decision: str
    thresholds: tuple[Threshold, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules with fitted thresholds, each once."""
        return tuple(dict.fromkeys(found.rule for found in self.thresholds))

    def cuts(self, threshold: str | float | None = None) -> Floats | None:
        """Look up thresholds.

        Args:
            threshold: A rule or a number; None takes the rule that decides.

        Returns:
            One threshold for two classes, one for each of several, None where the most probable class is taken.

        Raises:
            ConfigError: if no such threshold was fitted.
        """
        wanted = self.decision if threshold is None else threshold
        if wanted == "":
            return None
        rule = parse_rule(wanted, name="threshold")
        if self.positive is None and not self.multilabel and rule.kind == "fixed":
            raise ConfigError(f"'threshold' must be left out for more than two classes, got {threshold!r}; name a rule")
        names = self.classes if self.positive is None else ("",)
        if rule.kind == "fixed":
            return np.full(len(names), rule.value)
        fitted = {(found.rule, found.class_name): found.value for found in self.thresholds}
        if any((rule.name, name) not in fitted for name in names):
            remedy = nearest(rule.name, self.rules)
            raise ConfigError(f"'threshold' must be fitted in the run, got {rule.name!r}; {remedy}")
        return np.array([fitted[rule.name, name] for name in names])

    def decide(self, probs: Floats, cuts: Floats | None) -> list[str]:
        """Decide.

        Args:
            probs: (N, K).
            cuts: As `cuts` gives them.

        Returns:
            (N,) the names of the classes; of several labels those that reach their threshold, with `|` between.
        """
        if cuts is not None and self.multilabel:
            return list(map(str, joined_names((probs >= cuts).astype(np.int64), self.classes)))
        if cuts is None or self.positive is None:
            chosen = probs.argmax(axis=1) if cuts is None else largest(probs, cuts)
            return [self.classes[at] for at in chosen]
        positive = self.classes.index(self.positive)
        return [self.classes[positive if score >= cuts[0] else 1 - positive] for score in probs[:, positive]]

    def confidence(self, probs: Floats) -> Floats:
        """Say how sure the decisions of the rule that decides are, as `evaluation.rejecting.confidence` does.

        Args:
            probs: (N, K).

        Returns:
            (N,) from 0 to 1.
        """
        cuts = self.cuts()
        if self.positive is None:
            chosen = probs.argmax(axis=1) if cuts is None else largest(probs, cuts)
            sure: Floats = probs[np.arange(len(probs)), chosen]
            return sure
        return distance(probs[:, self.classes.index(self.positive)], np.asarray(cuts))


def predict_files(
    paths: str | Path | Sequence[str | Path],
    probs: Probs,
    *,
    image: ImageSpec,
    decider: Decider,
    threshold: str | float | None,
    batch_size: int,
) -> pd.DataFrame:
    """Predict image files.

    Args:
        paths: The files, or one.
        probs: The model.
        image: The form of the images that it takes.
        decider: What decides.
        threshold: As for `Decider.cuts`.
        batch_size: Images at a time.

    Returns:
        A row an image: `path`, `prob_<class>` of each class, `decision`.
    """
    import pandas as pd

    cuts = decider.cuts(threshold)
    files = [Path(paths)] if isinstance(paths, str | Path) else list(map(Path, paths))
    batches = (files[start : start + batch_size] for start in range(0, len(files), batch_size))
    parts = [probs(np.stack([images.read(file, image) for file in batch])) for batch in batches]
    found = np.concatenate(parts) if parts else np.empty((0, len(decider.classes)))
    columns = {f"prob_{name}": found[:, index] for index, name in enumerate(decider.classes)}
    return pd.DataFrame({"path": list(map(str, files)), **columns, "decision": decider.decide(found, cuts)})
