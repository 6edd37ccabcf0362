"""The model card: Markdown that goes with a model wherever it goes (Mitchell et al. 2019).

The front matter is that of the Hugging Face Hub (https://huggingface.co/docs/hub/model-cards), so that it shows
license, task and results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.core.config import to_yaml
from imgcls.core.folders import write_text
from imgcls.report.material import Material
from imgcls.report.names import nice
from imgcls.report.page import environment
from imgcls.report.tables import glance
from imgcls.report.words import cautions, decided_by, deciding, shared_groups, verdict

__all__ = ["write_card"]

#: Metrics of the front matter: ours, the name that the Hub knows, and whether a threshold decides.
_HUB = (
    ("accuracy", "accuracy", True),
    ("f1", "f1", True),
    ("f1_macro", "f1", True),
    ("roc_auc", "roc_auc", False),
    ("average_precision", "average_precision", False),
)


def write_card(path: Path, material: Material) -> Path:
    """Write the card. What only the author knows is marked `[to be written]`.

    Args:
        path: The Markdown file.
        material: The run.

    Returns:
        The file.
    """
    heads, rows = glance(material)
    shown = {
        "front": to_yaml(_front(material)).strip(),
        "material": material,
        "final": material.final,
        "backbone": _backbone(material.model.get("backbone", {})),
        "verdict": verdict(material),
        "heads": heads,
        "rows": rows,
        "thresholds": deciding(material),
        "decided": decided_by(material),
        "cautions": cautions(material),
        "classes": _classes(material),
        "grouped": material.manifest is not None and "group" in material.manifest and not shared_groups(material),
    }
    template = environment().overlay(autoescape=False).get_template("card.md")
    write_text(path, template.render(**shown).strip() + "\n")
    return path


def _front(material: Material) -> dict[str, Any]:
    results = [found for line in _HUB if (found := _result(material, *line))]
    front: dict[str, Any] = {
        "license": "other",
        "license_name": "[to be written]",
        "library_name": "imgcls",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "imgcls"],
    }
    if not results:
        return front
    final = material.final
    data = {"name": "[to be written]", "type": "image-folder", "split": "" if final is None else final.split}
    task = {"type": "image-classification", "name": "Image classification"}
    return {
        **front,
        "model-index": [{"name": material.name, "results": [{"task": task, "dataset": data, "metrics": results}]}],
    }


def _result(material: Material, name: str, hub: str, decided: bool) -> dict[str, Any] | None:
    rule = material.decision if decided else ""
    row = material.value(name, threshold=rule)
    if row is None or math.isnan(float(row["value"])):
        return None
    words = nice(name) + (f", decided by {rule}" if rule else "")
    if not math.isnan(float(row["low"])):
        words += f" (95 % interval {row['low']:.3f} to {row['high']:.3f})"
    return {"type": hub, "value": round(float(row["value"]), 4), "name": words}


def _backbone(spec: Mapping[str, Any]) -> str:
    name = spec.get("model") or spec.get("name") or "a network that was given in Python"
    return f"{name}, cut at {spec['cut']}" if spec.get("cut") else str(name)


# Records of each class; the parts of the first fold together are the set.
def _classes(material: Material) -> list[tuple[str, int]]:
    totals = material.splits.get("balance", ())
    first = [row for row in totals if row.get("fold") == 0]
    names = list(first[0]["classes"]) if first else []
    return [(name, sum(int(row["classes"][name]) for row in first)) for name in names]
