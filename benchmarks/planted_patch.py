"""Which explanations find a planted patch: the example examples/planted_patch.py for a CNN and a ViT.

    python benchmarks/planted_patch.py [--runs runs/planted]

A ViT without pretraining needs more images until it attends to the patch. Writes docs/results/planted_patch.json; takes
some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

#: How each network is trained.
MODELS: dict[str, dict[str, Any]] = {
    "test_resnet": {"num": 1024, "epochs": 10, "lr": 3e-3},
    "test_vit": {"num": 6000, "epochs": 20, "lr": 1e-3},
}

#: What is shown of each method, and under which name.
SHOWN = {"mass": "mass", "rank": "rank", "pointing": "pointing", "average_precision": "average precision"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/planted"))
    options = parser.parse_args()
    rows = [row for model in MODELS for row in measured(model, options.runs / model)]
    path = ROOT / "docs" / "results" / "planted_patch.json"
    path.write_text(json.dumps({"rows": rows, "models": MODELS}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))


def measured(model: str, out: Path) -> list[dict[str, str]]:
    """Train a network and score its maps.

    Args:
        model: One of `MODELS`.
        out: The folder of the run.

    Returns:
        A row a method.
    """
    example = runpy.run_path(str(ROOT / "examples" / "planted_patch.py"))
    scores = example["main"](str(out), model, **MODELS[model])
    return [
        {"network": model, "method": method} | {title: f"{found[name]:.3f}" for name, title in SHOWN.items()}
        for method, found in scores.items()
    ]


if __name__ == "__main__":
    main()
