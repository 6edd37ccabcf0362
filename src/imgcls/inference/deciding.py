"""From probabilities to decisions; without torch, so that an exported model uses it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import ConfigError, nearest
from imgcls.evaluation.decisions import largest
from imgcls.evaluation.predictions import joined_names
from imgcls.evaluation.rejecting import distance
from imgcls.evaluation.thresholds import Threshold, parse_rule

__all__ = ["Cut", "Decider", "Probs"]

Floats = NDArray[np.float64]

#: A threshold as it may be asked for: the rule of a fitted one, a number, or a number for each of several classes.
Cut = str | float | Mapping[str, float]

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

    def cuts(self, threshold: Cut | None = None) -> Floats | None:
        """Look up thresholds.

        Args:
            threshold: A rule or a number, for several classes a number for each; None takes the rule that decides.

        Returns:
            One threshold for two classes, one for each of several, None where the most probable class is taken.

        Raises:
            ConfigError: if no such threshold was fitted.
        """
        wanted = self.decision if threshold is None else threshold
        if isinstance(wanted, Mapping):
            return self._by_class(wanted)
        if wanted == "":
            return None
        rule = parse_rule(wanted, name="threshold")
        if self.positive is None and not self.multilabel and rule.kind == "fixed":
            raise ConfigError(
                f"'threshold' must be left out for more than two classes, got {threshold!r}; name a rule, or give a "
                "number for each class"
            )
        names = self.classes if self.positive is None else ("",)
        if rule.kind == "fixed":
            return np.full(len(names), rule.value)
        fitted = {(found.rule, found.class_name): found.value for found in self.thresholds}
        if any((rule.name, name) not in fitted for name in names):
            remedy = nearest(rule.name, self.rules)
            raise ConfigError(f"'threshold' must be fitted in the run, got {rule.name!r}; {remedy}")
        return np.array([fitted[rule.name, name] for name in names])

    def _by_class(self, given: Mapping[str, float]) -> Floats:
        if self.positive is not None:
            raise options.rejected("threshold", f"be one number, of {self.positive!r}, for two classes", dict(given))
        if given.keys() != set(self.classes):
            raise options.rejected("threshold", f"have a number for each of {list(self.classes)}", dict(given))
        rules = [parse_rule(given[name], name=f"threshold.{name}") for name in self.classes]
        if any(rule.kind != "fixed" for rule in rules):
            raise options.rejected("threshold", "have a number for each class", dict(given))
        return np.array([rule.value for rule in rules], dtype=np.float64)

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
        return [self.classes[at] for at in self._chosen(probs, cuts)]

    # Of one label a record.
    def _chosen(self, probs: Floats, cuts: Floats | None) -> NDArray[np.int64]:
        if cuts is None or self.positive is None:
            return largest(probs, np.ones(len(self.classes)) if cuts is None else cuts)
        positive = self.classes.index(self.positive)
        chosen: NDArray[np.int64] = np.where(probs[:, positive] >= cuts[0], positive, 1 - positive)
        return chosen

    def spread(self, each: Floats, cuts: Floats | None) -> Floats:
        """Say how far models are apart.

        Args:
            each: The probabilities of M models, (M, N, K).
            cuts: As `cuts` gives them.

        Returns:
            (N,) the standard deviation of the models' probabilities of the decided class; of several labels the largest
            of all labels.
        """
        deviation: Floats = each.std(axis=0)
        chosen = self._chosen(each.mean(axis=0), cuts) if not self.multilabel else deviation.argmax(axis=1)
        found: Floats = deviation[np.arange(len(deviation)), chosen]
        return found

    def confidence(self, probs: Floats) -> Floats:
        """Say how sure the decisions of the rule that decides are, as `evaluation.rejecting.confidence` does.

        Args:
            probs: (N, K).

        Returns:
            (N,) from 0 to 1.
        """
        cuts = self.cuts()
        if self.positive is None:
            sure: Floats = probs[np.arange(len(probs)), self._chosen(probs, cuts)]
            return sure
        return distance(probs[:, self.classes.index(self.positive)], np.asarray(cuts))
