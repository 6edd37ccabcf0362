"""What a search costs beside the training, and what halving and pruning save.

    python benchmarks/search.py --part overhead
    python benchmarks/search.py --part head DATA [--records 5216] [--trials 50] [--epochs 10]
    python benchmarks/search.py --part saving DATA [--trials 27] [--epochs 9] [--folds 5] [--seed 42]

`overhead` runs trials that cost nothing. `head` searches 50 heads over 5 folds of chest X-rays, beside a single fit
of one fold that computes the features of each batch anew. `saving` compares a whole grid on PneumoniaMNIST with
halving and with pruning by fold. DATA holds `chest_xray`, `pneumoniamnist` and `weights/mobilenetv2_100.safetensors`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

from imgcls import Choice, Dataset, Float, ImageSpec, Searcher, Stage, Trainer, search_backends
from imgcls.execution.base import Executor
from imgcls.execution.local import Local
from imgcls.execution.processes import Processes
from imgcls.search.base import Study
from imgcls.searched import Search
from imgcls.searching.conducting import Conductor
from imgcls.testing.search import free_trial

GROUP = r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)"


def main() -> None:
    options = _options()
    parts: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
        "overhead": _overhead,
        "head": _head,
        "saving": _saving,
    }
    with tempfile.TemporaryDirectory() as folder:
        found = parts[options.part](options, Path(options.runs or folder))
    machine = f"{torch.get_num_threads()} CPU cores, torch {torch.__version__.split('+')[0]}"
    facts = {name: value for name, value in found.items() if name != "rows"}
    result = {options.part: found["rows"], f"{options.part} facts": {**facts, "machine": machine}}
    print(json.dumps(result, indent=1))
    if options.out:
        path = Path(options.out)
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps({**before, **result}, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--part", required=True, choices=["overhead", "head", "saving"])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--records", type=int)
    parser.add_argument("--seed", type=int, default=42, help="of `saving`: folds, weights and order")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", help="Where the runs stay; without it they are deleted.")
    parser.add_argument("--out", help="A JSON file to add the figures to.")
    return parser.parse_args()


# Trials that cost nothing


def _overhead(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    trials = options.trials or 100
    cases: list[tuple[str, str, Executor]] = [
        ("random, in one process", "random", Local()),
        ("random, 4 workers", "random", _processes(folder / "random")),
        ("optuna with SQLite, in one process", "optuna", Local()),
        ("optuna with SQLite, 4 workers", "optuna", _processes(folder / "optuna")),
    ]
    rows = [{"search": name, **_timed(folder / name, backend, executor, trials)} for name, backend, executor in cases]
    return {"trials": trials, "rows": rows}


def _processes(folder: Path) -> Processes:
    return Processes(parallel=4, scratch=folder / "scratch", threads=1, reuse=True)


# From the first trial that is told to the last one, so without the start of processes.
def _timed(folder: Path, backend: str, executor: Executor, trials: int) -> dict[str, float]:
    times: list[float] = []
    study = search_backends.create(backend).open(
        {"x": Float(0.0, 1.0), "y": Float(1e-5, 1e-1, log=True), "kind": Choice("a", "b", "c")},
        directions="maximize",
        folder=folder / "study",
        seed=0,
        trials=trials,
    )
    conductor = Conductor(
        study=_Clocked.over(study, times),  # type: ignore[arg-type]
        shared=types.SimpleNamespace(until=None),  # type: ignore[arg-type]
        monitor="roc_auc",
        objectives=(),
        limits={},
        prune=None,
        retries=0,
        out=folder,
        run=free_trial,
    )
    started = time.perf_counter()
    conductor.conduct(executor)
    return {
        "ms a trial": round(1000 * (times[-1] - times[0]) / (len(times) - 1), 1),
        "seconds until the first": round(times[0] - started, 2),
    }


@attrs.frozen(kw_only=True)
class _Clocked:
    """A study that notes when trials are told."""

    study: Study
    times: list[float]

    @classmethod
    def over(cls, study: Study, times: list[float]) -> _Clocked:
        return cls(study=study, times=times)

    def tell(self, *arguments: Any) -> None:
        self.study.tell(*arguments)
        self.times.append(time.perf_counter())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)


# Heads on features


def _head(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = Dataset.from_folder(options.data / "chest_xray", group=GROUP, positive="PNEUMONIA")
    if options.records:
        data = data.sample(options.records, stratified=True)
    epochs, trials = options.epochs or 10, options.trials or 50
    trainer = Trainer(
        data,
        backbone={
            "name": "timm",
            "model": "mobilenetv2_100",
            "weights": str(options.data / "weights" / "mobilenetv2_100.safetensors"),
            "options": {"pad_type": "same"},
        },
        image=ImageSpec(size=options.size),
        splitter={"name": "stratified-group-kfold", "k": options.folds},
        stages=[Stage(epochs=epochs, train="head", lr=1e-2)],
        precision="bf16",
    )
    one = attrs.evolve(trainer, splitter={"name": "holdout", "val": 1 / options.folds})
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = work()
        seconds[name] = round(time.perf_counter() - started, 1)
        print(name, seconds[name], flush=True)
        return found

    first, searched = "decoding, and features of frozen layers", f"search, {trials} times {options.folds} folds"
    timed(first, lambda: attrs.evolve(trainer, fast_run=True, out=str(folder / "warm")).fit())
    single = "single fit, one fold, no features kept"
    timed(single, lambda: attrs.evolve(one, cache_features=False, out=str(folder / "a")).fit())
    space = {
        "stages.0.lr": Float(1e-4, 1e-1, log=True),
        "stages.0.weight_decay": Float(1e-5, 1e-1, log=True),
        "head.dropout": Float(0.0, 0.5),
        "optimizer": Choice("adamw", "sgd"),
        "balancer.sampler": Choice("uniform", "weighted"),
    }
    search = Searcher(trainer, space=space, trials=trials, out=folder / "search")
    timed(searched, search.run)
    seconds["search, decoding and features"] = round(seconds[first] + seconds[searched], 1)
    rows = [
        {"what": name, "seconds": spent, "times the single fit": round(spent / seconds[single], 2)}
        for name, spent in seconds.items()
    ]
    facts = {"records": len(data), "size": options.size, "trials": trials, "folds": options.folds, "epochs": epochs}
    return {**facts, "rows": rows}


# What halving and pruning save


def _saving(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = Dataset.from_npz(options.data / "pneumoniamnist" / "pneumoniamnist.npz")
    if options.records:
        data = data.sample(options.records, stratified=True)
    epochs = options.epochs or 9
    trainer = Trainer(
        data,
        backbone={"name": "small-cnn", "base": 16, "depth": 2},
        image=ImageSpec(size=28, channels=1),
        splitter={"name": "stratified-kfold", "k": options.folds},
        test="predefined",
        stages=[Stage(epochs=epochs, lr=1e-3)],
        schedule="constant",
        precision="fp32",
        seed=options.seed,
    )
    space = {
        "stages.0.lr": [1e-4, 1e-3, 1e-2],
        "optimizer": ["adamw", "sgd", "adam"],
        "balancer.sampler": ["uniform", "weighted", "oversample"],
    }
    trials = options.trials or 27
    kinds: dict[str, dict[str, Any]] = {
        "grid": {"backend": "grid"},
        "pruning by fold": {"backend": "grid", "prune": "folds"},
        "pruning by fold, for gains of 0.01": {"backend": "grid", "prune": {"min_gain": 0.01}},
        "halving": {"backend": {"name": "halving", "min_epochs": 1}},
    }
    found: dict[str, Any] = {}
    for name, options_of in kinds.items():
        search = Searcher(
            trainer, space=space, trials=trials, out=folder / name.replace(" ", "_").replace(",", ""), **options_of
        ).run()
        found[name] = _outcome(search)
        print(name, found[name], flush=True)
    full = found["grid"]["epochs"]
    rows = [
        {"search": name, "epochs": one.pop("epochs"), "share": round(one.pop("spent") / full, 3), **one}
        for name, one in found.items()
    ]
    facts = {"records": len(data), "trials": trials, "folds": options.folds, "epochs": epochs, "seed": options.seed}
    return {**facts, "rows": rows}


def _outcome(search: Search) -> dict[str, Any]:
    winner = search.winner
    assert winner is not None
    assert winner.outcome is not None
    run = search.best
    value, low, high = run.value(search.searcher.monitor, split="val")
    epochs = int(search.table["epochs"].sum())
    own = search.table.set_index("number").loc[winner.trial.number]
    return {
        "epochs": epochs,
        "spent": epochs,
        "best, mean over folds": f"{winner.outcome.values[0]:.4f} ({own['low']:.4f} to {own['high']:.4f})",
        "best, all folds together": f"{value:.4f} ({low:.4f} to {high:.4f})",
        "parameters": ", ".join(map(str, winner.trial.params.values())),
    }


if __name__ == "__main__":
    main()
