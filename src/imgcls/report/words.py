"""What a run comes to, in sentences: the verdict, and what gives cause to doubt it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from imgcls.evaluation.baselines import warnings_of
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.material import Material
from imgcls.report.reading import logged_warnings

__all__ = ["PARTS", "Caution", "cautions", "decided_by", "deciding", "sentence", "shared_groups", "verdict"]

#: How splits are called in sentences.
PARTS = {"test": "test", "val": "validation"}

#: How far the share of a class in validation may be from that in the set without a word.
_UNLIKE = 0.1

#: From which calibration error on probabilities are no chances.
_UNRELIABLE = 0.1

#: Messages of the log that are shown at most, and ids that are named.
_LOGGED, _NAMED = 12, 3


@attrs.frozen
class Caution:
    """Something that gives cause to doubt the numbers.

    Attributes:
        grade: "error" where numbers are wrong or missing, "warning" where they may mislead, "note" for the rest.
        text: The sentence.
    """

    grade: Literal["error", "warning", "note"]
    text: str


def sentence(text: str) -> str:
    """Make a sentence of a phrase.

    Args:
        text: The phrase, not empty.

    Returns:
        The same with a capital letter and a full stop.
    """
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def verdict(material: Material) -> list[str]:
    """Say what the run reached, for whom, and by which decision.

    Args:
        material: The run.

    Returns:
        Sentences; one that says what is missing where there are no numbers.
    """
    final = material.final
    if final is None or material.reported is None or material.reported.empty:
        if material.facts:
            return ["The numbers of this run are missing or cannot be read."]
        done, total = len(material.histories), len(material.splits.get("folds", ()))
        return [f"There are no numbers yet: {done} of {total or 'an unknown number of'} folds have begun to train."]
    models, _, caution = str(material.evaluation.get("models", "by models that are not told")).partition("; ")
    lines = [f"On {_units(final)}, {models}: {_headline(material, final)}."]
    lines += _decided(material, final)
    if caution:
        lines.append(sentence(caution))
    if final.split == "val" and material.evaluation.get("selection"):
        lines.append(sentence(str(material.evaluation["selection"])))
    lines += _unlike(material)
    if material.facts.get("positive_given") is False and final.positive is not None:
        lines.append(f"The positive class {final.positive} was taken because it is the rarer one.")
    if skipped := material.facts.get("skipped"):
        counts = ", ".join(f"{count} of {name}" for name, count in skipped.items())
        lines.append(f"Unreadable images were left out of training and judgement: {counts} (skipped.csv).")
    return lines


def _headline(material: Material, final: Predictions) -> str:
    if final.multilabel:
        return f"mean over classes, {_words(material, 'average_precision')}"
    if final.positive is None:
        return _words(material, "accuracy")
    area = "area under the ROC curve" + _words(material, "roc_auc").removeprefix("roc auc")
    return f"{area}; {_words(material, 'average_precision')}"


def _decided(material: Material, final: Predictions) -> Iterator[str]:
    rule = material.decision
    if final.multilabel:
        right, f1 = (_words(material, name, rule) for name in ("exact_match", "f1_macro"))
        yield f"Decided by {decided_by(material)}: {f1}; records with all labels right, {right}."
        if blind := [t.class_name for t in deciding(material) if not t.num_positives]:
            yield f"No validation record has {', '.join(blind)}, so 0.5 decides there."
    elif final.positive is None and rule:
        right, f1 = (_words(material, name, rule) for name in ("balanced_accuracy", "f1_macro"))
        yield f"Decided by {decided_by(material)}: {right}; {f1}."
    elif final.positive is not None and rule:
        found, spared = (_words(material, name, rule) for name in ("sensitivity", "specificity"))
        yield f"At the threshold of the rule {rule} for {final.positive}{_value(material)}: {found}; {spared}."
        yield from _plainly(material, final)


def _value(material: Material) -> str:
    of_mean = [t for t in deciding(material) if t.model == "mean"]
    return f" ({of_mean[0].value:.3f}, fitted on validation records)" if of_mean else ""


# The same as counts of a hundred, which most people read more easily than rates (Gigerenzer et al. 2007).
def _plainly(material: Material, final: Predictions) -> Iterator[str]:
    rows = [material.value(name, threshold=material.decision) for name in ("sensitivity", "specificity")]
    if any(row is None or math.isnan(float(row["low"])) for row in rows):
        return
    found, spared = ([100 * float((row or {})[key]) for key in ("value", "low", "high")] for row in rows)
    yield (
        f"In plain numbers: of 100 records with {final.positive} it finds {found[0]:.0f} ({found[1]:.0f} to "
        f"{found[2]:.0f}); of 100 without it raises a false alarm in {100 - spared[0]:.0f} ({100 - spared[2]:.0f} to "
        f"{100 - spared[1]:.0f})."
    )


def decided_by(material: Material) -> str:
    """Say what decides.

    Args:
        material: The run.

    Returns:
        A phrase.
    """
    final = material.final
    several = final is None or final.positive is None
    if material.decision:
        whose = ", each class by a threshold of its own" if several else ""
        return f"the rule {material.decision}{whose}"
    return "each class from 0.5" if final is not None and final.multilabel else "the most probable class"


def deciding(material: Material) -> list[Threshold]:
    """Pick the thresholds that are shown: of several classes only those that decide.

    Args:
        material: The run.

    Returns:
        The thresholds.
    """
    if material.final is not None and material.final.positive is not None:
        rules = {material.decision} if material.decision else {t.rule for t in material.thresholds}
        return [t for t in material.thresholds if t.rule in rules]
    return [t for t in material.thresholds if t.rule == material.decision and t.model == "mean"]


# What validation records say of thresholds and precision holds for the set only if classes are as frequent in both.
def _unlike(material: Material) -> list[str]:
    rows = material.splits.get("balance", ())
    off = max((float(row["largest_deviation"]) for row in rows if row["split"] == "val"), default=0.0)
    if off <= _UNLIKE:
        return []
    found = f"The share of a class differs by up to {off:.2f} between validation records and the set"
    if material.evaluation.get("population"):
        return [f"{found}; validation metrics and thresholds count each class as often as there is outside of test."]
    return [f"{found}: precision, average precision, accuracy and thresholds from them are not those of the set."]


def _units(final: Predictions) -> str:
    images = f"{len(set(final.ids.tolist()))} {PARTS[final.split]} images"
    return images if final.groups is None else f"{images} of {len(set(final.groups.tolist()))} groups"


def _words(material: Material, metric: str, rule: str = "") -> str:
    name, row = metric.replace("_", " "), material.value(metric, threshold=rule)
    if row is None:
        return f"{name}: not told"
    value, low, high = (float(row[key]) for key in ("value", "low", "high"))
    if math.isnan(value):
        return f"{name}: not defined ({row['note']})"
    if math.isnan(low):
        return f"{name} {value:.3f} ({row['note']})"
    return f"{name} {value:.3f} (95 % interval {low:.3f} to {high:.3f})"


def cautions(material: Material, shortcuts: Sequence[str] = (), notes: Sequence[str] = ()) -> list[Caution]:
    """List what gives cause to doubt the numbers, the gravest first.

    Args:
        material: The run.
        shortcuts: Warnings from explained images.
        notes: Other sentences, such as how often the test records were opened.

    Returns:
        The cautions.
    """
    found: list[Caution] = []
    if material.options.get("fast_run"):
        found.append(Caution("error", "This was a fast run, to see that everything works: its numbers mean nothing."))
    found += [Caution("error", text) for text in _leaks(material)]
    found += [Caution("warning", text) for text in _collapsed(material)]
    found += [Caution("warning", sentence(text)) for text in shortcuts]
    told = [] if material.baselines is None else warnings_of(material.baselines)
    found += [Caution("warning", sentence(text)) for text in told]
    if material.evaluation.get("split") == "val":
        found.append(
            Caution("warning", "There are no test records: the numbers are of records that chose the checkpoint.")
        )
    found += [Caution("warning", text) for text in _shifted(material)]
    found += [Caution("warning", text) for text in _unreliable(material)]
    # Warnings of baselines are told above, as they are now.
    others = [text for text in logged_warnings(material.folder) if "area under the ROC curve" not in text]
    found += [Caution("warning", sentence(text)) for text in others[:_LOGGED] if text]
    found += [Caution("warning" if "flatters" in text else "note", sentence(text)) for text in notes]
    found += [Caution("note", sentence(text)) for text in material.evaluation.get("warnings", ())]
    return found


def _leaks(material: Material) -> Iterator[str]:
    shared = shared_groups(material)
    for side, names in shared.items():
        some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        yield f"{len(names)} groups are in train and in {PARTS[side]} of one fold ({some}), so numbers flatter."


def shared_groups(material: Material) -> dict[str, list[str]]:
    """Find groups that a fold trains on and is judged on.

    Args:
        material: The run.

    Returns:
        Names of groups by part, "val" or "test"; nothing where all is well, or nothing is known.
    """
    table = material.manifest
    if table is None or "group" not in table:
        return {}
    owner = dict(zip(table["id"], table["group"], strict=True))
    found: dict[str, set[str]] = {"val": set(), "test": set()}
    for fold in material.splits.get("folds", ()):
        parts: Mapping[str, Any] = fold
        trained = {owner.get(name, "") for name in parts.get("train", ())} - {""}
        for side in found:
            found[side] |= trained & {owner.get(name, "") for name in parts.get(side, ())}
    return {side: sorted(names) for side, names in found.items() if names}


# A threshold knows only the records that it was fitted on.
def _shifted(material: Material) -> Iterator[str]:
    table = material.of_images
    if material.tested is None or material.tested.positive is None or table is None or not material.decision:
        return
    fitted = table[(table["split"] == "val") & (table["fold"] == "all") & (table["threshold"] == material.decision)]
    for name in ("sensitivity", "specificity"):
        row, rows = material.value(name, threshold=material.decision), fitted[fitted["metric"] == name]
        if row is None or rows.empty:
            continue
        val = rows.to_dict("records")[0]
        if row["high"] < val["low"] or row["low"] > val["high"]:
            yield (
                f"At the threshold {name} is {val['value']:.3f} on validation records and {row['value']:.3f} on test "
                "records, and the intervals do not meet: test records differ from those that it was fitted on. Where "
                "the model is going to be used, fit it again."
            )


# With an error of 0.1 and more a probability is no chance that one could tell a person.
def _unreliable(material: Material) -> Iterator[str]:
    row = material.value("ece")
    if row is not None and row["low"] > _UNRELIABLE:
        yield (
            f"Probabilities and what comes true differ by {row['value']:.2f} on average: do not read them as chances. "
            "Trainer(calibration=...) mends that where records are like those of validation."
        )


def _collapsed(material: Material) -> Iterator[str]:
    final = material.final
    if final is None or final.multilabel:
        return
    rule = material.decision if any(t.rule == material.decision for t in material.thresholds) else ""
    said = np.unique(decisions(final, material.thresholds, rule))
    if len(said) == 1:
        yield f"Every record is decided {final.classes[int(said[0])]}: the predictions have collapsed to one class."
