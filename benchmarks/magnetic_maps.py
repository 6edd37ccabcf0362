"""Which explanation finds the defect: magnetic tiles, all methods against the masks of the defects.

    python benchmarks/magnetic_maps.py [DATA] [--runs runs/magnetic_maps] [--size 160] [--epochs 6] [--limit 0]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `magnetic_tile` and `weights/mobilenetv2_100.safetensors`.
Three networks tell defects from free tiles, in three folds of whole tiles: mobilenetv2 with ImageNet weights as it is
(maps of 5 x 5 at 160 pixels), the same cut at stride 16 (10 x 10), and a transformer over the 10 x 10 features of the
cut one, whose blocks start from random weights. Every image with a mask is explained for the class
`defect` by the fold that did not see it, by every explainer that is installed; those that refuse are named with their
reason. Runs that are there already are read instead of trained. Writes docs/results/magnetic_maps.json and
docs/images/magnetic_maps.jpg. To try the script: --sample 120 --size 64 --epochs 2 --limit 8 --slow-limit 2.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from imgcls import Dataset, Run, Stage, Trainer, compare_explanations, explainers, load_run
from imgcls.core.errors import ImgclsError
from imgcls.explain.base import Explainer
from imgcls.explain.score_tables import summary
from imgcls.models.module import ModuleBackbone

ROOT = Path(__file__).parent.parent

#: The networks by the name in the table; maps of the later ones are twice as fine.
NETWORKS = ("whole", "cut at stride 16", "transformer")

#: What is shown of each method, and under which name.
SHOWN = {
    "mass": "mass",
    "gain": "gain over area",
    "rank": "rank",
    "pointing": "pointing",
    "average_precision": "average precision",
    "iou@0.5": "IoU at half",
}

#: What is not tried, and why.
LEFT_OUT = {"lrp-zennit": "refuses most networks with residual additions; 'lrp' treats them"}

#: What the picture shows of each network.
PICTURED = {
    "whole": ("cam", "grad-cam", "layer-cam", "lrp"),
    "cut at stride 16": ("cam", "grad-cam", "layer-cam", "lrp"),
    "transformer": ("rollout", "gradient-rollout", "lrp"),
}

#: Methods that ask the model hundreds of times an image, of which fewer images must do.
SLOW = {"score-cam", "occlusion", "integrated-gradients"}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    runs = {name: _run(options, name) for name in NETWORKS}
    methods, refused = _methods(runs)
    found = compare_explanations(methods, limit=options.limit or None, resamples=2000)
    slow = _slow(runs, options)
    result = {
        "rows": _rows(found.means, found.differences) + slow,
        "pixels": _pixels(found.pixels),
        "refused": [{"method": name, "why": why} for name, why in refused.items()],
        "models": [_model(name, run) for name, run in runs.items()],
        "pair": _pair(runs),
        "facts": _facts(found.rows, runs["whole"]),
    }
    for folder in ("results", "images"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (options.out / "results" / "magnetic_maps.json").write_text(text, encoding="utf-8")
    picture(runs).save(options.out / "images" / "magnetic_maps.jpg", quality=85)
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/magnetic_maps"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=6, help="of the whole network")
    parser.add_argument("--limit", type=int, default=0, help="images that are explained; 0 takes all with a mask")
    parser.add_argument("--slow-limit", type=int, default=24, help="images for the slow methods; 0 leaves these out")
    parser.add_argument("--sample", type=int, help="train on so many records only, to try the script")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where results/ and images/ are")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    return options


# --8<-- [start:transformer]
def transformer(weights: Path, size: int) -> nn.Module:
    """Make a vision transformer whose tokens are features of a CNN (Dosovitskiy et al., 2021, calls it a hybrid).

    Args:
        weights: Of the CNN.
        size: Height and width of the images.

    Returns:
        Four blocks of random weights over the features of mobilenetv2 at stride 16.
    """
    cnn = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same")
    cnn.load_state_dict(load_file(weights))
    eyes = nn.Sequential(cnn.conv_stem, cnn.bn1, *cnn.blocks[:5])
    embed = functools.partial(HybridEmbed, backbone=eyes)
    return VisionTransformer(
        img_size=size, patch_size=1, embed_layer=embed, embed_dim=192, depth=4, num_heads=3, num_classes=0
    )


# --8<-- [end:transformer]


def _backbone(options: argparse.Namespace, name: str) -> Any:
    weights = options.data / "weights" / "mobilenetv2_100.safetensors"
    if name == "transformer":
        return ModuleBackbone(module=functools.partial(transformer, weights, options.size))
    cut = {} if name == "whole" else {"cut": "stride16"}
    return {"name": "mobilenetv2_100", "weights": str(weights), "options": {"pad_type": "same"}, **cut}


# Random blocks cannot wait for a head.
def _stages(options: argparse.Namespace, name: str) -> list[Stage]:
    if name == "transformer":
        return [Stage(epochs=2 + options.epochs, train="all", lr=3e-4)]
    return [Stage(epochs=2, train="head", lr=3e-3), Stage(epochs=options.epochs, train="all", lr=3e-4)]


def _run(options: argparse.Namespace, name: str) -> Run:
    folder = options.runs / f"{name.replace(' ', '-')}-{options.size}"
    backbone = _backbone(options, name)
    if (folder / "run.json").exists():
        return load_run(folder, backbone=backbone if name == "transformer" else None)
    index = options.data / "magnetic_tile" / "index.csv"
    tiles = Dataset.from_csv(index, group="group_inferred", mask="mask")
    if options.sample is not None:
        tiles = tiles.sample(options.sample, stratified=True)
    kinds = {kind: "free" if kind == "MT_Free" else "defect" for kind in tiles.classes}
    return Trainer(
        tiles.relabel(kinds, positive="defect"),
        backbone=backbone,
        splitter={"name": "stratified-group-kfold", "k": 3},
        image={"size": options.size},
        stages=_stages(options, name),
        augment="light",
        out=folder,
    ).fit()


def picture(runs: dict[str, Run]) -> Image.Image:
    """Draw maps of some methods side by side.

    Args:
        runs: By the names in `NETWORKS`.

    Returns:
        A row an image, a column a method.
    """
    shown = [(network, method) for network in runs for method in PICTURED[network]]
    methods = {_title(method, network): (runs[network], method) for network, method in shown}
    sheet = compare_explanations(methods, limit=6, resamples=0).sheet(limit=6)
    drawn = Image.open(io.BytesIO(sheet)).convert("RGB")
    drawn.thumbnail((2000, 2000))
    return drawn


# Every installed explainer that treats the network, by a name of its own for each network.
def _methods(runs: dict[str, Run]) -> tuple[dict[str, tuple[Run, Explainer]], dict[str, str]]:
    found: dict[str, tuple[Run, Explainer]] = {}
    refused = dict(LEFT_OUT)
    for network, run in runs.items():
        for name in sorted(set(explainers.names()) - SLOW - set(LEFT_OUT)):
            why = _refusal(run, name)
            if why is None:
                found[_title(name, network)] = (run, explainers.create(name))
            else:
                refused[_title(name, network)] = why
    return found, refused


# Tried on a few images of each fold.
def _refusal(run: Run, name: str) -> str | None:
    try:
        compare_explanations({name: (run, name)}, limit=9, resamples=0)
    except ImgclsError as error:
        return str(error)
    return None


def _title(method: str, network: str) -> str:
    return method if network == "whole" else f"{method}, {network}"


def _slow(runs: dict[str, Run], options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in sorted(SLOW & set(explainers.names())):
        if options.slow_limit:
            found = compare_explanations({name: (runs["whole"], name)}, limit=options.slow_limit)
            rows += _rows(found.means, found.differences)
    return rows


def _rows(means: Any, differences: Any) -> list[dict[str, Any]]:
    rows = []
    overall = means[means["value"] == ""]
    first = overall["method"].iloc[0]
    for name, table in overall.groupby("method", sort=False):
        numbers = table.set_index("metric")
        cells = {title: _interval(numbers.loc[metric], "mean") for metric, title in SHOWN.items()}
        gap = differences[(differences["a"] == first) & (differences["b"] == name) & (differences["metric"] == "mass")]
        paired = "" if gap.empty else _turned(gap.iloc[0])
        count = numbers.loc["mass"]
        about = {"images": int(count["n"]), "without a map": int(count["silent"] + count["invalid"])}
        rows.append({"method": name, **cells, f"mass, less that of {first}": paired, **about})
    return rows


def _interval(row: Any, key: str) -> str:
    return f"{row[key]:.3f} ({row['low']:.3f} to {row['high']:.3f})"


# What the second method has more than the first one.
def _turned(row: Any) -> str:
    return f"{-row['difference']:.3f} ({-row['high']:.3f} to {-row['low']:.3f})"


# The question of DeepVisionXplain: the CAM of a CNN, whole or cut, or the rollout of a transformer?
def _pair(runs: dict[str, Run]) -> list[dict[str, Any]]:
    rows = []
    for network in NETWORKS[:2]:
        asked = {f"cam, {network}": (runs[network], "cam"), "rollout": (runs["transformer"], "rollout")}
        table = compare_explanations(asked, resamples=2000).differences
        for metric, title in SHOWN.items():
            row = table[table["metric"] == metric].iloc[0]
            better = f"{row['better']:.2f}"
            rows.append(
                {
                    "a": row["a"],
                    "b": row["b"],
                    "score": title,
                    "a less b": _interval(row, "difference"),
                    "a is better in": better,
                }
            )
    return rows


def _pixels(table: Any) -> list[dict[str, Any]]:
    return [
        {"method": name, **{row["metric"]: _interval(row, "value") for row in part.to_dict("records")}}
        for name, part in table.groupby("method", sort=False)
    ]


def _model(name: str, run: Run) -> dict[str, Any]:
    cells = {metric: "{:.3f} ({:.3f} to {:.3f})".format(*run.value(metric)) for metric in ("roc_auc", "accuracy")}
    parameters = sum(parameter.numel() for parameter in run.classifier(0).parameters())
    minutes = round(run.facts["seconds"] / 60, 1)
    return {"network": name, "million parameters": round(parameters / 1e6, 2), **cells, "minutes": minutes}


def _facts(rows: Any, run: Run) -> dict[str, Any]:
    one = rows[rows["method"] == rows["method"].iloc[0]]
    area = summary(one, ["area"]).iloc[0]
    return {
        "images with a mask": len(one),
        "tiles": one["group"].nunique(),
        "mean area of a mask": f"{area['mean']:.4f}",
        "size": run.model.image.size[0],
        "machine": f"{torch.get_num_threads()} CPU cores, torch {torch.__version__.split('+')[0]}",
        "written": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
