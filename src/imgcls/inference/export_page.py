"""The page beside an exported model that says what it is and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.core.folders import write_text
from imgcls.inference.exported import FORMATS, GUARD, Description

__all__ = ["write_readme"]

_USE = {
    "onnx": """```python
import imgcls

model = imgcls.load_exported(".")  # onnxruntime, without torch
model.predict(["image.png"])
```

In any other onnxruntime: `session.run(["probs"], {"pixels": pixels})`; `embeddings` is what `guard.npz` compares.""",
    "torch-export": """```python
import torch

model = torch.export.load("model.pt2").module()  # torch alone
probs, each, embeddings = model(pixels)
```

`imgcls.load_exported(".")` reads image files as well.""",
    "safetensors": """```python
import imgcls

model = imgcls.load_exported(".")  # needs the distribution that declares the backbone
model.predict(["image.png"])
```

`network` in `export.json` says what the weights belong to; the names of each model's weights begin with its number.""",
}


def write_readme(folder: Path, about: Description, card: str | None) -> None:
    """Write the page, and the model card of the run where there is one.

    Args:
        folder: The folder of the export.
        about: What the export says of itself.
        card: The model card.
    """
    parts = [f"# {about.origin.get('name', 'A model')} as {about.format}", _what(about), _USE[about.format]]
    parts += ["## Input and output", _signature(about), "## Decision", _decision(about)]
    parts += [*_caution(about, guarded=(folder / GUARD).exists()), "## Checks", _checks(about)]
    if card is not None:
        write_text(folder / "model_card.md", card)
        parts.append("What the model is for, and its numbers: `model_card.md`.")
    write_text(folder / "README.md", "\n\n".join(parts) + "\n")


def _what(about: Description) -> str:
    models = "One model" if len(about.folds) == 1 else f"The mean of {len(about.folds)} models, one a fold"
    return f"{models}, classes {', '.join(f'`{name}`' for name in about.classes)}. The weights are in " + (
        f"`{FORMATS[about.format]}`" + (", in integers of 8 bits." if about.int8 else ".")
    )


def _signature(about: Description) -> str:
    count = len(about.classes)
    calibrated = ", calibrated" if about.calibrations else ""
    lines = [
        *(_any_size(about) if about.resize else _one_size(about)),
        f"- `probs`: (B, {count}), float32, in the order of the classes{calibrated}.",
        f"- `each`: (B, {len(about.folds)}, {count}), those of each model.",
        f"- `embeddings`: (B, {len(about.folds)}, D), what goes into the head of each model.",
    ]
    return "\n".join(lines)


def _one_size(about: Description) -> list[str]:
    spec, (high, wide) = about.image, about.image.size
    return [
        f"- `pixels`: (B, {high}, {wide}, {spec.channels}), {spec.dtype.name}, {_colours(about)}; any B.",
        "  Normalisation is inside. Files are decoded upright and brought to this size by `imgcls.data.images.read`,",
        f"  which needs no torch: fit `{spec.fit}`, {spec.interpolation}, with antialiasing when shrinking.",
    ]


def _any_size(about: Description) -> list[str]:
    spec, (high, wide) = about.image, about.image.size
    return [
        f"- `pixels`: (B, H, W, {spec.channels}), {spec.dtype.name}, {_colours(about)}; any B, H and W, upright.",
        f"  Normalisation and resizing to {high} x {wide} are inside: fit `{spec.fit}`, {spec.interpolation}, as",
        "  Pillow does it.",
    ]


def _colours(about: Description) -> str:
    return "grey" if about.image.channels == 1 else "red, green, blue"


def _decision(about: Description) -> str:
    if not about.decision:
        return "Each class from 0.5." if about.multilabel else "The most probable class."
    cuts = [one for one in about.thresholds if one.rule == about.decision]
    lines = [f"- {one.class_name or about.positive}: {one.value:.6g}" for one in cuts]
    whose = "on what it says of validation records" if about.int8 else "on validation records"
    return "\n".join([f"The rule `{about.decision}`, fitted {whose}:", "", *lines])


def _caution(about: Description, *, guarded: bool) -> list[str]:
    lines = []
    if guarded:
        lines.append(
            "- `unlike`: the image is farther from the training data than 99 % of the validation records; `distance` "
            "is in units of that limit."
        )
    if about.sets is not None:
        lines.append(
            f"- `set`: the true class is missing in it in {about.sets.alpha:.0%} of records at most, about; "
            f"fitted on {about.sets.num_records} validation records.".replace("%", " %")
        )
    if about.reject is not None:
        lines.append(
            f"- `rejected`: the decision is not sure enough. On validation records {about.reject.coverage:.1%} are "
            f"decided, and {about.reject.risk:.1%} of these wrong.".replace("%", " %")
        )
    return ["## How far to trust a decision", "\n".join(lines)] if lines else []


def _checks(about: Description) -> str:
    before = ", before quantisation" if about.int8 else ""
    lines = [
        f"- Largest difference to the probabilities of the run on {about.parity['images']} real images{before}: "
        f"{about.parity['max_difference']:.1e}.",
        "- `sha256sum --check SHA256SUMS` says whether a file was changed; `imgcls.load_exported` refuses such ones.",
    ]
    if "max_difference_resized" in about.parity:
        lines.insert(
            1, f"- The same with decoded images of their own sizes: {about.parity['max_difference_resized']:.1e}."
        )
    if "max_distance_difference" in about.parity:
        lines.insert(
            1, f"- Largest difference to its distances{before}: {about.parity['max_distance_difference']:.1e}."
        )
    return "\n".join([*lines, *(_cost(about) if about.int8 else [])])


def _cost(about: Description) -> list[str]:
    cost = about.cost
    calibrated = " The calibration was fitted before; `ece` below says what is left." if about.calibrations else ""
    return [
        "- Thresholds, and what is said of trust, are fitted to the answers of the network in 8 bits to validation",
        f"  records.{calibrated}",
        f"- Integers of 8 bits changed {cost['changed_decisions']:.2%} of {cost['records']} decisions on records that",
        f"  the models did not train on, and probabilities by {cost['mean_difference']:.4f} on average,",
        f"  {cost['max_difference']:.4f} at most. `quantisation.csv` has all metrics before and after:",
        "",
        "| records | metric | before | in 8 bits |",
        "| --- | --- | --- | --- |",
        *map(_row, cost["metrics"]),
    ]


def _row(found: Mapping[str, Any]) -> str:
    name = found["metric"].replace("_", " ") + (f" at {found['threshold']}" if found["threshold"] else "")
    return f"| {found['split']} | {name} | {_value(found, 'before')} | {_value(found, 'int8')} |"


def _value(found: Mapping[str, Any], when: str) -> str:
    value, low, high = (found[f"{part}_{when}"] for part in ("value", "low", "high"))
    if value is None:
        return "not defined"
    return f"{value:.4f}" + ("" if low is None else f" (95 % interval {low:.4f} to {high:.4f})")
