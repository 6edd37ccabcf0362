"""Is it an eight? Thresholds fitted on validation records, judged on others, applied to new images. Runs in seconds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from imgcls import Trainer
from imgcls.demo import digits


def main(out: str = "runs/thresholds", epochs: int = 4) -> None:
    words = {str(digit): "eight" if digit == 8 else "other" for digit in range(10)}
    data = digits().relabel(words, positive="eight")
    run = Trainer(
        data,
        backbone={"name": "small-cnn", "base": 16, "depth": 2},
        image={"size": 16, "channels": 1},
        splitter={"name": "stratified-group-kfold", "k": 2},
        stages=[{"epochs": epochs, "lr": 3e-3}],
        decision="sensitivity>=0.95",  # the rule that `predict` and exports apply
        out=out,
    ).fit()
    for threshold in run.thresholds:
        print(f"{threshold.rule}, of model {threshold.model}: {threshold.value:.3f}")
    table = run.metrics.query("fold == 'all' and split == 'test' and level == 'image' and threshold != ''")
    print(table[table["metric"].isin(["sensitivity", "specificity"])][["threshold", "metric", "value", "low", "high"]])

    eight = Path(out) / "eight.png"
    Image.fromarray(data[8].image[..., 0]).save(eight)
    print(run.predict(eight), run.predict(eight, threshold="max_f1"), run.predict(eight, threshold=0.9), sep="\n")


if __name__ == "__main__":
    main()
