"""Search learning rate, optimizer and width; judge the winner on test records. Runs in half a minute."""

from __future__ import annotations

from imgcls import Choice, Float, Searcher, Trainer
from imgcls.demo import digits


def main(out: str = "runs/search", trials: int = 6, epochs: int = 3, backend: str = "random") -> None:
    trainer = Trainer(
        digits(),
        backbone={"name": "small-cnn", "base": 8, "depth": 2},
        image={"size": 16, "channels": 1},
        splitter={"name": "stratified-group-kfold", "k": 2},
        stages=[{"epochs": epochs, "lr": 1e-2}],
    )
    space = {
        "stages.0.lr": Float(1e-4, 1e-1, log=True),
        "optimizer": Choice("adamw", "sgd"),
        "optimizer.momentum": Float(0.5, 0.95, when={"optimizer": "sgd"}),  # only where it matters
        "backbone.base": [8, 16],
    }
    # backend="optuna" learns from earlier trials (pip install 'imgcls[optuna]'); the same call goes on after a kill
    search = Searcher(trainer, space=space, backend=backend, trials=trials, out=out).run()
    print(search.table.to_string(index=False))
    print("value of the best:", search.optimism)
    print("of the best trial on test, accuracy and its 95 % interval:", search.best.value("accuracy"))
    print("configuration:", search.best_trainer().stages)


if __name__ == "__main__":
    main()
