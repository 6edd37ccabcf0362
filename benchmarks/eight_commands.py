"""Go from a folder of chest X-rays to a report, predictions and an export, and write down what the commands say.

    python benchmarks/eight_commands.py DATA/chest_xray DATA/weights/mobilenetv2_100.safetensors [--every 1]

`--every 10` takes every tenth image of each folder, so that it runs in minutes; the transcript of all of them is what
docs/eight_commands.md shows.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TRANSCRIPT = Path(__file__).parent.parent / "docs" / "results" / "eight_commands.txt"

#: Lines of progress, which a terminal overwrites.
PROGRESS = re.compile(r"^[\w ./-]+: \d+/\d+\b.*\n?", re.MULTILINE)

GROUP = r"group='(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)'"
COMMANDS = (
    f"imgcls check chest_xray {GROUP} --html check.html",
    f"imgcls init chest_xray {GROUP} positive=PNEUMONIA --out chest.yaml",
    "imgcls train chest.yaml out=runs/chest image.size=128 stages='[{epochs: 2, lr: 3e-4, schedule: cosine}]' \\\n  "
    "backbone='{name: mobilenetv2_100, weights: weights.safetensors, options: {pad_type: same}}'",
    "imgcls evaluate runs/chest",
    "imgcls explain runs/chest --errors",
    "imgcls report runs/chest",
    "imgcls predict runs/chest new_images --out predictions.csv",
    "imgcls export runs/chest --out chest-onnx",
)


def copied(source: Path, target: Path, *, every: int) -> None:
    """Take some images of each class folder, and a few of the test images as new ones."""
    for folder in sorted(path.parent for path in source.glob("*/*/*") if path.suffix == ".jpeg"):
        place = target / "chest_xray" / folder.relative_to(source)
        if place.exists():
            continue
        place.mkdir(parents=True)
        for path in sorted(folder.glob("*.jpeg"))[::every]:
            shutil.copy(path, place)
    new = target / "new_images"
    new.mkdir()
    for path in sorted((source / "test").glob("*/*.jpeg"))[5::150]:
        shutil.copy(path, new)


def said(command: str, place: Path) -> str:
    """Run a command as a user would, in a folder; its output without colours, progress and the folder's name."""
    own = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "110",
        "NO_COLOR": "1",
    }
    own["IMGCLS_CACHE"] = str(place / "cache")
    done = subprocess.run(["/bin/bash", "-c", command], cwd=place, env=own, capture_output=True, text=True, check=False)
    output = PROGRESS.sub("", re.sub(rf"{re.escape(str(place))}/?", "", done.stdout + done.stderr))
    if done.returncode not in {0, 1} or (done.returncode == 1 and " check " not in command):
        raise SystemExit(f"{command}: exit code {done.returncode}\n{output}")
    return output.strip() + ("\n(exit code 1: there are errors)" if done.returncode else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TRANSCRIPT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        copied(given.data, place, every=given.every)
        shutil.copy(given.weights, place / "weights.safetensors")
        parts = [f"$ {command}\n{said(command, place)}\n" for command in COMMANDS]
    given.out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
