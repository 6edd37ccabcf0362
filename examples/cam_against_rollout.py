"""Class activation maps of a CNN against attention rollout of a transformer, on the same images. Runs in a minute."""

from __future__ import annotations

from imgcls import Run, Trainer, compare_explanations
from imgcls.testing import planted_patches


def main(out: str = "runs/cam-rollout", num: int = 768, epochs: int = 10, limit: int = 48) -> None:
    data, masks = planted_patches(num, size=48)

    def trained(name: str, backbone: object) -> Run:
        run = Trainer(
            data,
            backbone=backbone,
            image={"size": 48, "channels": 1},
            splitter="holdout",  # with the same seed the same division, so both tested the same images
            stages=[{"epochs": epochs, "lr": 3e-3}],
            out=f"{out}/{name}",
        ).fit()
        print(f"{name}: accuracy, and its 95 % interval:", run.value("accuracy"))
        return run

    cnn = trained("cnn", {"name": "small-cnn", "base": 16, "depth": 3})
    size = {"img_size": 48, "patch_size": 8, "depth": 4}
    vit = trained("vit", {"name": "timm", "model": "test_vit", "pretrained": False, "options": size})
    methods = {"cnn cam": (cnn, "cam"), "vit rollout": (vit, "rollout"), "chance": (cnn, "random")}
    found = compare_explanations(methods, masks, limit=limit)
    chosen = "metric in ['mass', 'pointing', 'average_precision']"  # there are more
    means = found.means.query(f"value == '' and {chosen}")
    print(means[["method", "metric", "mean", "low", "high"]].round(3).to_string(index=False))
    print(found.differences.query(chosen).round(3).to_string(index=False))  # paired, image by image
    print("all of it:", found.save(f"{out}/compared"))


if __name__ == "__main__":
    main()
