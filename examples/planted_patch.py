"""Which explanations find a striped patch planted in noise? Scored against its masks. Runs in about a minute."""

from __future__ import annotations

from pathlib import Path

from imgcls import Trainer, compare_explanations
from imgcls.core.errors import UnsupportedModelError
from imgcls.testing.planted import planted_patches

METHODS = ("random", "input-times-gradient", "grad-cam", "layer-cam", "lrp", "rollout", "gradient-rollout")


def main(out: str = "runs/planted", model: str = "test_resnet", num: int = 1024, epochs: int = 10) -> None:
    data, masks = planted_patches(num)
    run = Trainer(
        data,
        backbone={"name": "timm", "model": model, "pretrained": False},
        image={"size": 64, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": epochs, "lr": 3e-3}],
        precision="fp32",
        out=out,
    ).fit()
    value, low, high = run.value("accuracy")
    print(f"accuracy {value:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    for method in METHODS:
        try:
            found = compare_explanations({method: (run, method)}, masks, limit=48)
        except UnsupportedModelError as error:
            print(f"{method}: {error}")
            continue
        means = found.means.query("value == ''").set_index("metric")["mean"].round(3)
        print(method, means[["area", "mass", "rank", "pointing", "average_precision"]].to_dict())
        found.save(Path(out) / "compared" / method)


if __name__ == "__main__":
    main()
