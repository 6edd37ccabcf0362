"""LRP scored against masks, beside chance and a plain gradient. Runs in about half a minute."""

from __future__ import annotations

from imgcls import Trainer, compare_explanations
from imgcls.testing import planted_patches


def main(out: str = "runs/lrp-masks", num: int = 512, epochs: int = 8, limit: int = 32) -> None:
    data, masks = planted_patches(num, size=48)  # where the class lies is known, for each image
    run = Trainer(
        data,
        backbone={"name": "small-cnn", "base": 16, "depth": 3},
        image={"size": 48, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": epochs, "lr": 3e-3}],
        out=out,
    ).fit()
    print("accuracy, and its 95 % interval:", run.value("accuracy"))

    found = run.explain("lrp", limit=limit, masks=masks)  # panels and scores are in the run's folder
    print("share of the logit that arrives at the pixels:", found.conserved)

    names = ["lrp", "input-times-gradient", "random"]
    compared = compare_explanations({name: (run, name) for name in names}, masks, limit=limit)
    # `mass` is the share of the relevance inside; a map without any knowledge has the share of the area there.
    means = compared.means.query("value == '' and metric in ['area', 'mass', 'pointing']")
    print(means[["method", "metric", "mean", "low", "high"]].round(3).to_string(index=False))
    print("all of it:", compared.save(f"{out}/compared"))


if __name__ == "__main__":
    main()
