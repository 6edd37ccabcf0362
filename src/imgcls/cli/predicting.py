"""Commands that put a run to use: prediction, export, speed, serving."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgcls.cli.app import app
from imgcls.cli.reading import image_files
from imgcls.core.errors import ConfigError


@app.command()
def predict(  # noqa: PLR0913 (each is an option of its own)
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    *,
    out: Annotated[Path | None, typer.Option(help="A .csv or .json file; without it a table is printed.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv, json, lines (0/1, and .proba beside it) or indices (JSON list)."),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="A fitted rule or a number; of several classes '{a: 0.3, b: 0.6}'.")
    ] = None,
    sets: Annotated[
        float | None, typer.Option(help="Add prediction sets that miss the true class so often, such as 0.1.")
    ] = None,
    reject: Annotated[
        str | None, typer.Option(help="When to abstain: risk=0.02 (of wrong decisions) or coverage=0.9 (at least).")
    ] = None,
    guard: Annotated[
        bool, typer.Option("--guard", help="Fit what tells images unlike the training data; it is kept in the run.")
    ] = False,
    neighbours: Annotated[int, typer.Option(help="Name so many of the nearest training images.")] = 0,
    tta: Annotated[
        str | None, typer.Option(help="Average over views: flip-lr, flip-ud, flips or '{augment: light, draws: 8}'.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="A folder for a picture of each image with what its decision rests on.")
    ] = None,
    explainer: Annotated[
        str | None, typer.Option(help="The method of the maps, its name or YAML; without it grad-cam.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="Files that cannot be read: a 'row' with the reason, or 'raise'.")
    ] = "row",
    root: Annotated[Path | None, typer.Option(help="Where the images of the run are now, if they have moved.")] = None,
) -> None:
    """Predict images with the mean of a run's folds.

    Example: imgcls predict runs/chest new_images/ --sets 0.1 --reject coverage=0.9 --out predictions.csv

    Example: imgcls predict runs/chest new_images/ --guard --neighbours 3 --out predictions.json

    Example: imgcls predict runs/chest new_images/ --maps maps --explainer lrp --out predictions.csv
    """
    from imgcls.core.config import from_yaml
    from imgcls.inference.formats import write_predictions
    from imgcls.run import load_run

    if form is not None and out is None:
        raise ConfigError(f"'--format' must come with '--out', got {form!r}")
    opened = load_run(run, root=root)
    if guard:
        opened.guard()
    table = opened.predict(
        image_files(images),
        threshold=from_yaml(threshold, source="--threshold") if threshold and "{" in threshold else threshold,
        sets=sets,
        reject=None if reject is None else opened.rejection(**_abstention(reject)),
        on_error=on_error,
        neighbours=neighbours,
        tta=None if tta is None else from_yaml(tta, source="--tta"),
        maps=maps,
        explainer=None if explainer is None else from_yaml(explainer, source="--explainer"),
    )
    unread = int((table["error"] != "").sum()) if on_error == "row" else 0
    if out is None:
        print(table.to_string(index=False))
    else:
        write_predictions(out, table, opened.predictor.decider, form=form)
        print(f"{len(table) - unread} predictions: {out}")
    if unread:
        print(f"{unread} of {len(table)} files could not be read; the column 'error' says why", file=sys.stderr)
    if unread == len(table):
        raise typer.Exit(1)


@app.command()
def export(  # noqa: PLR0913 (each is an option of its own)
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    to: Annotated[str, typer.Option("--format", help="onnx, torch-export or safetensors")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="A new folder; without it one in that of the run.")] = None,
    fold: Annotated[int | None, typer.Option(help="The model of one fold, from 0; without it the mean of all.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="In integers of 8 bits (onnx).")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="Resizing inside: the file takes any size.")] = False,
    sets: Annotated[float | None, typer.Option(help="With prediction sets that miss the true class so often.")] = None,
    reject: Annotated[str | None, typer.Option(help="When to abstain: risk=0.02 or coverage=0.9.")] = None,
    guard: Annotated[bool, typer.Option("--guard", help="With what tells images unlike the training data.")] = False,
    images: Annotated[list[Path] | None, typer.Option(help="Files for the check, instead of those of the set.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Write a run's models for use elsewhere, checked against the run, with thresholds and checksums.

    Example: imgcls export runs/chest --out chest-onnx

    Example: imgcls export runs/chest --guard --sets 0.1 --reject coverage=0.9
    """
    from imgcls.inference.exported import Description
    from imgcls.run import load_run

    checked = None if images is None else image_files(images)
    opened = load_run(run, root=root)
    if guard:
        opened.guard()
    abstention = None if reject is None else _abstention(reject)
    folder = opened.export(
        to, out=out, fold=fold, int8=int8, resize=resize, images=checked, sets=sets, reject=abstention
    )
    parity = Description.load(folder).parity
    print(f"Largest difference on {parity['images']} real images: {parity['max_difference']:.1e}\nExport: {folder}")


@app.command()
def benchmark(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders of them; without any some of the run's set.")
    ] = None,
    *,
    batch: Annotated[list[int], typer.Option(help="Images at a time; may be given several times.")] = [1, 8, 32],  # noqa: B006 (read only)
    rounds: Annotated[int, typer.Option(help="How many batches are timed.")] = 50,
    device: Annotated[str, typer.Option(help="Where the network alone runs: auto or a torch device.")] = "auto",
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Measure how fast a run predicts on this machine: images per second, latency, memory.

    Example: imgcls benchmark runs/chest --batch 1 --batch 32
    """
    from imgcls.run import load_run

    opened = load_run(run, root=root)
    print(opened.benchmark(image_files(images or []), batch_sizes=batch, rounds=rounds, device=device))
    print(f"Numbers: {opened.folder / 'benchmark.json'}")


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="The folder of a finished run or of an export.")],
    *,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
    max_mb: Annotated[float, typer.Option(help="The largest request, in MB.")] = 20,
    max_images: Annotated[int, typer.Option(help="Images of one request.")] = 16,
    explainer: Annotated[str, typer.Option(help="What draws the maps of a run.")] = "grad-cam",
    sets: Annotated[float | None, typer.Option(help="Of a run: sets that miss the true class so often.")] = None,
    reject: Annotated[str | None, typer.Option(help="Of a run: when to abstain: risk=0.02 or coverage=0.9.")] = None,
) -> None:
    """Serve a web page and a JSON API: drop an image, see probabilities, decision and map.

    Example: imgcls serve runs/chest --port 8000

    Example: imgcls serve runs/chest --sets 0.1 --reject coverage=0.9
    """
    from imgcls.inference.caution import Promises
    from imgcls.serving.limits import Limits
    from imgcls.serving.server import serve as start

    limits = Limits(megabytes=max_mb, images=max_images, waiting=max(256, max_images))
    promises = Promises(sets=sets, reject=None if reject is None else _abstention(reject))
    start(model, host=host, port=port, limits=limits, explainer=explainer, promises=promises)


def _abstention(text: str) -> dict[str, float]:
    name, _, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if name not in {"risk", "coverage"} or not 0 <= value <= 1:
        raise ConfigError(f"'--reject' must be risk=... or coverage=... with a share from 0 to 1, got {text!r}")
    return {name: value}
