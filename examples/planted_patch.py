"""Which explanations find a striped patch planted in noise? Scored against its masks. Runs in about a minute."""

from __future__ import annotations

from typing import Any

from imgcls import Trainer, compare_explanations
from imgcls.core.errors import UnsupportedModelError
from imgcls.testing import planted_patches

METHODS = ("random", "input-times-gradient", "grad-cam", "layer-cam", "lrp", "rollout", "gradient-rollout")


def main(
    out: str = "runs/planted", model: str = "test_resnet", num: int = 1024, epochs: int = 10, lr: float = 3e-3
) -> dict[str, Any]:
    data, masks = planted_patches(num)
    run = Trainer(
        data,
        backbone={"name": "timm", "model": model, "pretrained": False},
        image={"size": 64, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": epochs, "lr": lr}],
        out=out,
    ).fit()
    scores: dict[str, Any] = {}
    for method in METHODS:
        try:
            found = compare_explanations({method: (run, method)}, masks, limit=48)
        except UnsupportedModelError as error:
            print(f"{method}: {error}")
            continue
        scores[method] = found.means.query("value == ''").set_index("metric")["mean"].round(3).to_dict()
        print(method, {name: scores[method][name] for name in ("area", "mass", "rank", "pointing")})
        found.save(f"{out}/compared/{method}")
    return scores


if __name__ == "__main__":
    main()
