"""A search over backbone, learning rate, optimizer with its momentum and sampler, on chest X-rays with frozen layers.

    python benchmarks/chest_search.py [DATA] [--trials 40] [--size 160] [--runs runs/chest_search]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `chest_xray` and `weights/mobilenetv2_100.safetensors`. The
backbones are parts of one network, which end at a stride of 8, 16 or 32, and the whole of it; each computes the
features of the 5216 training images once, which all trials share. The search goes on where it was interrupted. Writes
docs/results/chest_search.json and the plots to docs/images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from imgcls import Choice, Dataset, Float, Searcher, Stage, Trainer
from imgcls.search.trials import Entry
from imgcls.searched import Search

DOCS = Path(__file__).parent.parent / "docs"
GROUP = r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)"
CUTS = ("stride8", "stride16", "stride32", None)
SHOWN = 8


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    started = time.time()
    searcher = _searcher(options)
    search = searcher.run()
    minutes = (time.time() - started) / 60
    facts = json.loads((searcher.out / "search.json").read_text(encoding="utf-8"))
    result = {
        "rows": _rows(search),
        "importance": _importance(facts["importance"]),
        "states": search.table["state"].value_counts().to_dict(),
        "optimism": None if search.optimism is None else str(search.optimism),
        "test": dict(zip(("value", "low", "high"), search.best.value(searcher.monitor), strict=True)),
        "minutes": round(minutes, 1),
        "recipe": f"{options.size} x {options.size}, {options.epochs} epochs of the head, three folds",
        "machine": f"{torch.get_num_threads()} CPU cores, torch {torch.__version__.split('+')[0]}",
    }
    (DOCS / "results" / "chest_search.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (DOCS / "images").mkdir(exist_ok=True)
    for path in sorted((searcher.out / "plots").glob("*.png")):
        shutil.copyfile(path, DOCS / "images" / f"chest_search_{path.name}")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--runs", type=Path, default=Path("runs/chest_search"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--records", type=int, help="so many alone, to try the script")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    options.data = Path(options.data)
    return options


def _searcher(options: argparse.Namespace) -> Searcher:
    data = Dataset.from_folder(options.data / "chest_xray", group=GROUP, positive="PNEUMONIA")
    if options.records:
        data = data.sample(options.records, stratified=True)
    weights = str(options.data / "weights" / "mobilenetv2_100.safetensors")
    nets = [
        {"name": "mobilenetv2_100", "weights": weights, "options": {"pad_type": "same"}, "cut": cut} for cut in CUTS
    ]
    trainer = Trainer(
        data,
        backbone=nets[-1],
        image={"size": options.size},
        splitter={"name": "stratified-group-kfold", "k": 3},
        stages=[Stage(epochs=options.epochs, train="head", lr=3e-3)],
        precision="fp32",
    )
    space = {
        "backbone": Choice(*nets),
        "stages.0.lr": Float(1e-4, 1e-1, log=True),
        "optimizer": Choice("adamw", "sgd"),
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer": "sgd"}),
        "balancer.sampler": Choice("uniform", "weighted"),
    }
    return Searcher(trainer, space=space, backend="optuna", trials=options.trials, prune="folds", out=options.runs)


def _rows(search: Search) -> list[dict[str, Any]]:
    done = [entry for entry in search.entries if entry.outcome is not None and entry.outcome.state == "complete"]
    done.sort(key=lambda entry: -entry.outcome.values[0] if entry.outcome else 0.0)
    return [_row(entry) for entry in done[:SHOWN]]


def _row(entry: Entry) -> dict[str, Any]:
    assert entry.outcome is not None
    params = {**entry.outcome.facts.get("own", {}), **entry.trial.params}
    momentum = params.get("optimizer.momentum")
    return {
        "trial": entry.trial.number,
        "average precision": f"{entry.outcome.values[0]:.4f}",
        "network up to": params["backbone"].get("cut") or "its end",
        "learning rate": f"{params['stages.0.lr']:.1e}",
        "optimizer": params["optimizer"],
        "momentum": "" if momentum is None else f"{momentum:.2f}",
        "sampler": params["balancer.sampler"],
    }


def _importance(found: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    paths = list(dict.fromkeys(path for shares in found.values() for path in shares))
    return [
        {"parameter": path, **{method: f"{shares.get(path, 0.0):.2f}" for method, shares in found.items()}}
        for path in paths
    ]


if __name__ == "__main__":
    main()
