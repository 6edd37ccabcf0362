"""Cross-validated handwriting: train, look at the numbers, explain, report, predict. Runs in about a minute."""

from pathlib import Path

from PIL import Image

from imgcls import ImageSpec, Stage, Trainer, load_run
from imgcls.demo import digits


def main(out: str = "runs/quickstart", epochs: int = 6) -> None:
    data = digits()
    trainer = Trainer(
        data,
        backbone={"name": "small-cnn", "base": 16, "depth": 3},
        image=ImageSpec(size=16, channels=1),
        splitter={"name": "stratified-group-kfold", "k": 3},
        stages=[Stage(epochs=epochs, lr=3e-3)],
        out=out,
    )
    run = trainer.fit()
    value, low, high = run.value("accuracy")
    print(f"accuracy {value:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    run.explain("grad-cam", limit=6)
    print("report:", run.report())

    digit = Path(out) / "digit.png"
    Image.fromarray(data[0].image[..., 0]).save(digit)
    print(load_run(out).predict([digit]).T)


if __name__ == "__main__":
    main()
