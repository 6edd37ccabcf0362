"""How many planted copies of real images the check finds, and what it calls a copy that is none.

    python benchmarks/near_duplicates.py DATA [--images 1000]

DATA holds the folders `chest_xray` and `magnetic_tile` (with `index.csv`). The chest X-rays are copied to a temporary
folder, with changed copies of random ones beside them: resized, compressed again, mirrored, of another brightness,
cropped, rotated. The tiles were shot up to six times each: it is counted how many pairs of shots a random and a grouped
split have on two sides. Writes docs/results/near_duplicates.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
from PIL import Image

from imgcls.core.randomness import generator
from imgcls.data.check.checking import check
from imgcls.data.check.duplicates import LEAST, RADIUS
from imgcls.data.check.hamming import close_pairs
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.splitting.base import splitters

RESULT = Path(__file__).parent.parent / "docs" / "results" / "near_duplicates.json"
GROUP = r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)"

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    os.environ["IMGCLS_QUIET"] = "1"
    result = planted(options.data / "chest_xray", options.images)
    result["magnetic_tile"] = tiles(options.data / "magnetic_tile" / "index.csv")
    result["search"] = search(100_000)
    result["settings"] = {"hamming_radius": RADIUS, "least_correlation": LEAST}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}"
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def resized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    scale = rng.uniform(0.5, 1.5)
    return image.resize((round(image.width * scale), round(image.height * scale)))


def same(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


def mirrored(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def brightened(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    values = (np.asarray(image) / 255) ** rng.uniform(0.6, 1.6) * rng.uniform(0.7, 1.3) + rng.uniform(-0.15, 0.15)
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0.01, 0.05, 4) * image.width
    return image.crop((round(left), round(top), round(image.width - right), round(image.height - bottom)))


def rotated(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(2, 6) * rng.choice([-1, 1]), Image.Resampling.BICUBIC)


#: What is done to a copy, and the JPEG qualities it is written with.
CHANGES: dict[str, tuple[str, Change, tuple[int, int]]] = {
    "resized": ("0.5 to 1.5 times", resized, (90, 90)),
    "compressed": ("JPEG quality 40 to 80", same, (40, 80)),
    "mirrored": ("left to right", mirrored, (90, 90)),
    "brightened": ("gain 0.7 to 1.3, offset -0.15 to 0.15, gamma 0.6 to 1.6", brightened, (90, 90)),
    "cropped": ("1 to 5 % off each side", cropped, (90, 90)),
    "rotated": ("2 to 6 degrees", rotated, (90, 90)),
}


def planted(root: Path, images: int) -> dict[str, Any]:
    original = Dataset.from_folder(root, group=GROUP)
    chosen = np.sort(generator(0, "planted").choice(len(original), size=images, replace=False))
    started, used = time.perf_counter(), time.process_time()
    before = check(original)
    seconds = {"wall": round(time.perf_counter() - started, 1), "cpu": round(time.process_time() - used, 1)}
    with tempfile.TemporaryDirectory() as folder:
        records = plant(Path(folder), original, chosen)
        pairs = check(Dataset.from_frame(records, root=folder)).pairs
    truth = dict(zip(records["image"], records["origin"], strict=True))
    kinds = dict(zip(records["image"], records["kind"], strict=True))
    pairs = pairs.assign(true=pairs["a"].map(truth) == pairs["b"].map(truth))
    known = known_origins(before.pairs)
    pairs["old"] = [frozenset((truth[a], truth[b])) in known for a, b in zip(pairs["a"], pairs["b"], strict=True)]
    return {
        "rows": [row(name, pairs, kinds, images) for name in CHANGES],
        "precision": precision(pairs),
        "unplanted_chest_xray": summary(before, original, seconds),
    }


def plant(folder: Path, original: Dataset, chosen: np.ndarray[Any, Any]) -> pd.DataFrame:
    rows = [{"image": name, "label": "x", "origin": name, "kind": ""} for name in original.ids.tolist()]
    for position, name in enumerate(original.ids.tolist()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link would lead out of the folder, which readers refuse.
        target.write_bytes(original.path(position).read_bytes())
    for position in chosen.tolist():
        for kind, (_, change, qualities) in CHANGES.items():
            name = str(original.ids[position])
            copy = f"{kind}/{position}.jpg"
            (folder / kind).mkdir(exist_ok=True)
            rng = generator(0, kind, position)
            image = change(Image.open(io.BytesIO(original.path(position).read_bytes())), rng)
            image.save(folder / copy, quality=int(rng.integers(qualities[0], qualities[1] + 1)))
            rows.append({"image": copy, "label": "x", "origin": name, "kind": kind})
    return pd.DataFrame(rows)


# Copies of two originals that were duplicates before anything was planted are duplicates too.
def known_origins(pairs: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in zip(pairs["a"], pairs["b"], strict=True)}


def row(name: str, pairs: pd.DataFrame, kinds: dict[str, str], images: int) -> dict[str, Any]:
    ends = pd.DataFrame({"a": pairs["a"].map(kinds), "b": pairs["b"].map(kinds)})
    hits = pairs[pairs["true"] & (ends.isin([name, ""]).all(axis=1)) & (ends["a"] != ends["b"])]
    return {
        "copies": name,
        "how": CHANGES[name][0],
        "planted": images,
        "found": len(hits),
        "recall": len(hits) / images,
        "called mirrored": int(hits["flipped"].sum()),
    }


def precision(pairs: pd.DataFrame) -> dict[str, Any]:
    judged = pairs[~pairs["old"]]
    right = int(judged["true"].sum())
    return {
        "pairs": len(judged),
        "right": right,
        "precision": round(right / len(judged), 5),
        "pairs_of_duplicates_in_the_unplanted_set": int(pairs["old"].sum()),
    }


def summary(report: Any, data: Dataset, seconds: dict[str, float]) -> dict[str, Any]:
    pairs = report.pairs
    near = pairs[pairs["kind"] == "near"]
    return {
        "images": len(data),
        "surplus_duplicates": report.num_surplus,
        "near_pairs": len(near),
        "near_pairs_of_one_patient": int(near["same_group"].sum()),
        "threshold": round(report.threshold, 3),
        "seconds": seconds,
    }


def tiles(index: Path) -> dict[str, Any]:
    data = Dataset.from_csv(index, group="group_inferred")
    report = check(data)
    sizes = data.frame["group"].value_counts().to_numpy()
    same_tile = report.pairs["same_group"].astype(bool)
    joined = {name: cluster[0] for cluster in report.missing_groups for name in cluster}
    united = attrs.evolve(data, frame=data.frame.assign(group=data.frame["group"].replace(joined)))
    plain = attrs.evolve(data, frame=data.frame.drop(columns="group"))
    counts = {
        "random": [across(plain, report.pairs, seed) for seed in range(10)],
        "grouped": [across(data, report.pairs, seed) for seed in range(10)],
        "grouped_after_joining_missing_groups": [across(united, report.pairs, seed) for seed in range(10)],
    }
    return {
        "images": len(data),
        "near_pairs_of_one_group": int(same_tile.sum()),
        "pairs_of_one_group": int((sizes * (sizes - 1) // 2).sum()),
        "near_pairs_of_two_groups": int((~same_tile).sum()),
        "missing_groups": [list(cluster) for cluster in report.missing_groups],
        "pairs_across_holdout_sides_of_10_seeds": counts,
        "random_to_grouped": round(sum(counts["random"]) / sum(counts["grouped"]), 1),
    }


def across(data: Dataset, pairs: pd.DataFrame, seed: int) -> int:
    fold: Fold = splitters.create("holdout").split(data, seed=seed)[0]
    side = {data.ids[place]: part for part in ("train", "val", "test") for place in fold.part(part)}
    return int((pairs["a"].map(side) != pairs["b"].map(side)).sum())


def search(number: int) -> dict[str, Any]:
    hashes = np.random.default_rng(0).integers(0, 2**64, number, dtype=np.uint64)
    started, used = time.perf_counter(), time.process_time()
    found = sum(len(i) for i, _ in close_pairs(hashes, hashes, RADIUS))
    seconds = {"wall": round(time.perf_counter() - started, 1), "cpu": round(time.process_time() - used, 1)}
    return {"hashes": number, "pairs_found": found, "seconds": seconds}


if __name__ == "__main__":
    main()
