"""The command line: it reads arguments, calls the API and prints; it decides nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import imgcls
from imgcls.core.errors import ConfigError, ImgclsError

__all__ = ["main"]

_CONFIGS = {".yaml", ".yml"}

cache = typer.Typer(help="The decoded images that are kept on disk.", no_args_is_help=True)
backbones = typer.Typer(help="The networks there are, their blocks and where they can be cut.", no_args_is_help=True)
app = typer.Typer(
    name="imgcls",
    help="Image classification for small, imbalanced, grouped image sets that must be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"imgcls {imgcls.__version__}")
        raise typer.Exit


app.add_typer(cache, name="cache")
app.add_typer(backbones, name="backbones")


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    if debug:
        os.environ["IMGCLS_DEBUG"] = "1"
    if quiet:
        os.environ["IMGCLS_QUIET"] = "1"


@app.command()
def demo(out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None) -> None:
    """Train, evaluate and explain on handwritten digits, in a few minutes on a CPU.

    Example: imgcls demo
    """
    from imgcls.demo import run_demo

    _finished(run_demo(out))


@app.command()
def plugins() -> None:
    """List the installed plugins: group, name, distribution and state.

    Example: imgcls plugins
    """
    from rich.console import Console
    from rich.table import Table

    from imgcls.core.plugins import all_plugins

    table = Table("group", "name", "distribution", "state", box=None, pad_edge=False)
    for plugin in all_plugins():
        table.add_row(plugin.group, plugin.name, plugin.distribution, f"{plugin.state} {plugin.cause}".strip())
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The name of plugin and distribution, such as 'tiny-net'.")],
    *,
    kind: Annotated[
        str, typer.Option(help="backbone, splitter, sampler, search-backend, explainer or tracker.")
    ] = "backbone",
    out: Annotated[Path | None, typer.Option(help="The folder to make; without it the name.")] = None,
) -> None:
    """Write a distribution with a plugin that works, its tests and what publishing needs.

    Example: imgcls new-plugin tiny-net --kind backbone
    """
    from imgcls.scaffold.new_plugin import new_plugin as write

    folder = write(name, kind=kind, out=out)
    print(f"{folder.resolve()}\nNext: pip install -e '{folder}[test]' && pytest {folder}")


@app.command()
def check(
    data: Annotated[
        Path, typer.Argument(help="A folder of class folders, a CSV or npz file, or a YAML configuration.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader, such as group=patient.")] = None,
    *,
    html: Annotated[Path | None, typer.Option(help="Write a page of what was found.")] = None,
    no_near: Annotated[bool, typer.Option("--no-near", help="Look for exact duplicates only.")] = False,
    embed: Annotated[str | None, typer.Option(help="A backbone whose features are compared as well.")] = None,
    embedding_map: Annotated[str | None, typer.Option("--map", help="pca or tsne: draw the features.")] = None,
) -> None:
    """Decode every image once and list faults: bad files, duplicates, leaks between splits, odd labels.

    Exit code 1 says that there are errors.

    Example: imgcls check chest_xray/ group='(person[0-9]+_[a-z]+)' --html check.html
    """
    opened = _data(data, dict(map(_change, overrides or ())))
    if embedding_map is not None and embed is None:
        raise ConfigError("'--map' must come with '--embed', which says what features to draw")
    features = None if embed is None else imgcls.embed(opened, backbone=embed)
    report = opened.check(near=not no_near, embeddings=features, embedding_map=embedding_map)  # type: ignore[arg-type]
    print(report)
    if html is not None:
        report.save(html)
        print(f"Page: {html.resolve()}")
    if not report.ok:
        raise typer.Exit(1)


@app.command("augment-preview")
def augment_preview(
    data: Annotated[
        Path, typer.Argument(help="A folder of class folders, a CSV or npz file, or a YAML configuration.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader, such as group=patient.")] = None,
    *,
    augment: Annotated[
        str | None, typer.Option(help="A preset, or YAML; without it that of the configuration.")
    ] = None,
    out: Annotated[Path, typer.Option(help="A PNG file.")] = Path("sheet.png"),
    records: Annotated[int, typer.Option(help="How many images, of each class in turn.")] = 6,
    draws: Annotated[int, typer.Option(help="How many draws of each.")] = 8,
    seed: Annotated[int, typer.Option(help="Chooses images and draws.")] = 42,
) -> None:
    """Draw images beside what augmentation makes of them, to be looked at.

    Example: imgcls augment-preview chest_xray/ --augment medium --out sheet.png
    """
    from imgcls.augment.augment import to_augment
    from imgcls.augment.preview import preview
    from imgcls.core.config import build, from_yaml
    from imgcls.core.config_files import read_config
    from imgcls.data.spec import ImageSpec

    options = read_config(data) if data.suffix.lower() in _CONFIGS else {}
    opened = _data(data, dict(map(_change, overrides or ())))
    spec = options.get("augment") if augment is None else from_yaml(augment, source="--augment")
    if spec is None:
        raise ConfigError("'--augment' must be given where no configuration has 'augment'; try '--augment medium'")
    image = build(ImageSpec, options.get("image", {}), path="image")
    preview(opened, to_augment(spec), image=image, records=records, draws=draws, seed=seed).save(out, "PNG")
    print(f"Sheet: {out.resolve()}")


@cache.command("list")
def list_cache() -> None:
    """List what is kept, with its size and when it was used last.

    Example: imgcls cache list
    """
    from rich.console import Console
    from rich.table import Table

    from imgcls.data.cache import entries, store_folder

    found = entries()
    table = Table("key", "MiB", "used last (UTC)", "what", box=None, pad_edge=False)
    for entry in found:
        table.add_row(entry.key[:12], f"{entry.size / 2**20:.1f}", f"{entry.used:%Y-%m-%d %H:%M}", entry.about)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(f"{len(found)} in {store_folder()}, {sum(entry.size for entry in found) / 2**20:.1f} MiB")


@cache.command("prune")
def prune_cache(
    keys: Annotated[list[str] | None, typer.Argument(help="The beginnings of keys.")] = None,
    *,
    older_than: Annotated[float | None, typer.Option(help="Days without use; 0 takes all.")] = None,
) -> None:
    """Delete what is kept; it is decoded again when it is needed.

    Example: imgcls cache prune --older-than 30
    """
    from imgcls.data.cache import prune

    deleted, left = prune(older_than=older_than, keys=keys or ())
    print(f"Deleted {len(deleted)}, {sum(entry.size for entry in deleted) / 2**20:.1f} MiB.")
    if left:
        print(f"Left {len(left)} that a process is building.")


@backbones.command("list")
def list_backbones(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as 'resnet*'.")] = "*",
) -> None:
    """List backbones by name: plugins, models of timm and of torchvision.

    Example: imgcls backbones list 'convnext_*'
    """
    from imgcls.models.catalogue import known_backbones

    found = known_backbones(pattern)
    for name in found:
        print(name)
    print(f"{len(found)} backbones", file=sys.stderr)


@backbones.command("show")
def show_backbone(
    name: Annotated[str, typer.Argument(help="The backbone.")],
    *,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 224,
    channels: Annotated[int, typer.Option(help="1 or 3.")] = 3,
    depth: Annotated[int, typer.Option(help="List modules this many levels deep.")] = 0,
    cut: Annotated[str | None, typer.Option(help="Show what is left behind a cut.")] = None,
) -> None:
    """Show a backbone's blocks, cuts and layers; no weights are downloaded.

    Example: imgcls backbones show resnet18 --size 160
    """
    from imgcls.models.catalogue import show

    show(name, size=size, channels=channels, depth=depth, cut=cut)


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A folder of class folders, or a CSV or npz file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader, such as group=patient.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("imgcls.yaml"),
) -> None:
    """Look at a set and write a configuration for it, with comments that say why.

    Example: imgcls init chest_xray/ --out chest.yaml
    """
    from imgcls.core.folders import write_text
    from imgcls.proposing import propose_config

    if out.exists():
        raise ConfigError(f"'--out' must name a new file, got {str(out)!r}")
    source = {**_reader(data), **dict(map(_change, overrides or ()))}
    write_text(out, propose_config(imgcls.Dataset.from_config(source), source))
    print(f"{out.resolve()}\nRead it, then: imgcls train {out}")


@app.command()
def schema(out: Annotated[Path | None, typer.Option(help="A JSON file; without it it is printed.")] = None) -> None:
    """Write the JSON schema of configurations, for editors that complete and check them.

    With `# yaml-language-server: $schema=schema.json` as its first line a YAML file is checked while it is written.

    Example: imgcls schema --out schema.json
    """
    import json

    from imgcls.core.folders import write_text
    from imgcls.schema import config_schema

    text = json.dumps(config_schema(), indent=1)
    if out is None:
        print(text)
    else:
        write_text(out, text + "\n")
        print(f"Schema: {out.resolve()}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file: 'data' and the Trainer's options.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes such as stages.0.lr=1e-4")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run; without one it is an error.")] = False,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Evaluate the finished run of this configuration again.")
    ] = False,
) -> None:
    """Train what a configuration describes; an unfinished run with the same options goes on.

    Example: imgcls train chest.yaml out=runs/chest stages.0.lr=1e-4
    """
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config
    from imgcls.trainer import Trainer

    changes = dict(map(_change, overrides or ()))
    options = read_config(config)
    for_data = {path: value for path, value in changes.items() if path.split(".")[0] == "data"}
    trainer = Trainer.from_config(replace(options, for_data))
    trainer = replace(trainer, {path: value for path, value in changes.items() if path not in for_data})
    _check_begun(trainer, wanted=resume, finished=evaluate_only)
    run = trainer.fit()
    if evaluate_only:
        print(run.evaluate())
    run.report()
    _finished(run)


@app.command()
def search(
    config: Annotated[str, typer.Argument(help="A YAML file as for 'train' with 'search', or the word 'show'.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes such as search.trials=50; for 'show' the folder of a search.")
    ] = None,
) -> None:
    """Try variants of what a configuration describes, or show what a search found; an unfinished one goes on.

    Example: imgcls search chest.yaml search.trials=30, then imgcls search show runs/search
    """
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config
    from imgcls.searching.showing import shown

    if config == "show":
        if not overrides or len(overrides) > 1:
            raise ConfigError(f"'show' must be followed by the folder of a search, got {overrides or []!r}")
        print(shown(Path(overrides[0])))
        return
    changes = dict(map(_change, overrides or ()))
    searcher = imgcls.Searcher.from_config(replace(read_config(Path(config)), changes))
    searcher.run()
    print(shown(searcher.out))


# What is to go on must be there; training it anew would surprise.
def _check_begun(trainer: imgcls.Trainer, *, wanted: bool, finished: bool) -> None:
    folder = None if trainer.out is None else Path(trainer.out)
    if wanted and (folder is None or not (folder / "config.yaml").exists()):
        raise ConfigError(f"'out' must name a run that has begun for '--resume', got {trainer.out!r}")
    if finished and (folder is None or not (folder / "run.json").exists()):
        raise ConfigError(f"'out' must name a finished run for '--evaluate-only', got {trainer.out!r}")


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
    on_error: Annotated[
        str, typer.Option(help="Files that cannot be read: a 'row' with the reason, or 'raise'.")
    ] = "row",
    root: Annotated[Path | None, typer.Option(help="Where the images of the run are now, if they have moved.")] = None,
) -> None:
    """Predict images with the mean of a run's folds.

    Example: imgcls predict runs/chest new_images/ --sets 0.1 --reject coverage=0.9 --out predictions.csv

    Example: imgcls predict runs/chest new_images/ --guard --neighbours 3 --out predictions.json
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
        _files(images),
        threshold=from_yaml(threshold, source="--threshold") if threshold and "{" in threshold else threshold,
        sets=sets,
        reject=None if reject is None else opened.rejection(**_abstention(reject)),
        on_error=on_error,
        neighbours=neighbours,
        tta=None if tta is None else from_yaml(tta, source="--tta"),
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


def _abstention(text: str) -> dict[str, float]:
    name, _, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if name not in {"risk", "coverage"} or not 0 <= value <= 1:
        raise ConfigError(f"'--reject' must be risk=... or coverage=... with a share from 0 to 1, got {text!r}")
    return {name: value}


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader of --on.")] = None,
    *,
    on: Annotated[Path | None, typer.Option(help="A labelled set; without it the saved predictions.")] = None,
    groups: Annotated[list[str] | None, typer.Option(help="A column for whose values metrics are wanted.")] = None,
    split: Annotated[str | None, typer.Option(help="test or val, of saved predictions.")] = None,
    aggregation: Annotated[str | None, typer.Option(help="mean, max or noisy-or: by group of images too.")] = None,
    prevalence: Annotated[list[float] | None, typer.Option(help="Predictive values at this prevalence.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; without it evaluations/ in the run's folder.")] = None,
) -> None:
    """Evaluate a run again, from its saved predictions or on another labelled set.

    Example: imgcls evaluate runs/chest --groups site --aggregation mean
    """
    from imgcls.run import load_run

    opened = load_run(run)
    data = None if on is None else _data(on, dict(map(_change, overrides or ())))
    if data is None and overrides:
        raise ConfigError(f"options of a reader must come with '--on', got {overrides!r}")
    found = opened.evaluate(
        data, groups=groups or (), split=split, aggregation=aggregation, prevalence=prevalence or ()
    )
    name = "-".join([split or "reported" if on is None else on.stem, *(groups or ())])
    where = found.save(out or opened.folder / "evaluations" / name)
    print(f"{found}\n\nNumbers: {where}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    to: Annotated[str, typer.Option("--format", help="onnx, torch-export or safetensors")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="A new folder; without it one in that of the run.")] = None,
    fold: Annotated[int | None, typer.Option(help="The model of one fold, from 0; without it the mean of all.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="In integers of 8 bits (onnx).")] = False,
    images: Annotated[list[Path] | None, typer.Option(help="Files for the check, instead of those of the set.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Write a run's models for use elsewhere, checked against the run, with thresholds and checksums.

    Example: imgcls export runs/chest --out chest-onnx
    """
    from imgcls.inference.exported import Description
    from imgcls.run import load_run

    checked = None if images is None else _files(images)
    folder = load_run(run, root=root).export(to, out=out, fold=fold, int8=int8, images=checked)
    parity = Description.load(folder).parity
    print(f"Largest difference on {parity['images']} real images: {parity['max_difference']:.1e}\nExport: {folder}")


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="The folder of a finished run or of an export.")],
    *,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
    max_mb: Annotated[float, typer.Option(help="The largest request, in MB.")] = 20,
    max_images: Annotated[int, typer.Option(help="Images of one request.")] = 16,
    explainer: Annotated[str, typer.Option(help="What draws the maps of a run.")] = "grad-cam",
) -> None:
    """Serve a web page and a JSON API: drop an image, see probabilities, decision and map.

    Example: imgcls serve runs/chest --port 8000
    """
    from imgcls.serving.limits import Limits
    from imgcls.serving.server import serve as start

    limits = Limits(megabytes=max_mb, images=max_images, waiting=max(256, max_images))
    start(model, host=host, port=port, limits=limits, explainer=explainer)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    method: Annotated[str, typer.Option(help="An explainer; 'imgcls plugins' lists them. Or YAML.")] = "grad-cam",
    split: Annotated[str, typer.Option(help="test or val")] = "test",
    limit: Annotated[int, typer.Option(help="How many images at most; 0 takes all.")] = 16,
    target: Annotated[str | None, typer.Option(help="The class to explain; without it what was decided.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="The worst errors.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Images with a mask alone.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Draw relevance maps of a run's images, score them where there are masks, and put them into its report.

    Example: imgcls explain runs/chest --errors
    """
    from imgcls.core.config import from_yaml
    from imgcls.run import load_run

    opened = load_run(run, root=root)
    found = opened.explain(
        from_yaml(method, source="--method"),
        split=split,
        limit=limit or None,
        target=target,
        errors=errors,
        masks=masks or None,
    )
    print(f"{len(found)} maps: {opened.folder / 'attributions'}\nReport: {opened.report()}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="The folder of a run; of several runs they are compared.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Look for duplicates across training and test first.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Write the model card anew as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page of several runs.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Write the page of a run, finished or not, or one that compares several runs on the same records.

    Example: imgcls report runs/chest

    Example: imgcls report runs/resnet runs/convnext --out comparison.html
    """
    if len(runs) == 1:
        if out is not None:
            raise ConfigError(f"'--out' must come with several runs, got {str(out)!r}; one has its page in its folder")
        print(f"Report: {_report_of(runs[0], check=check, card=card, root=root).resolve()}")
        return
    if check or card or root is not None:
        raise ConfigError("'--check', '--card' and '--root' must come with one run, got several")
    print(f"Comparison: {_compared(runs, out or Path('comparison.html')).resolve()}")


# What is unfinished or damaged cannot be opened; its page says what is missing and shows the rest.
def _report_of(folder: Path, *, check: bool, card: bool, root: Path | None) -> Path:
    from imgcls.core.errors import RunError
    from imgcls.report.material import Material
    from imgcls.report.page import write_page
    from imgcls.run import load_run

    try:
        run = load_run(folder, root=root)
    except RunError as error:
        if check or card or root is not None:
            raise
        found = write_page(folder / "report.html", Material.read(folder))
        print(f"imgcls: {error}\nThe page shows what there is.", file=sys.stderr)
        return found
    if card:
        print(f"Model card: {run.model_card()}")
    return run.report(check=check)


def _compared(folders: list[Path], out: Path) -> Path:
    from imgcls.comparison import compare_runs
    from imgcls.report.material import Material
    from imgcls.report.versus import write_comparison

    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    found = compare_runs(dict(zip(names, folders, strict=True)))
    materials = {name: Material.read(folder) for name, folder in zip(names, folders, strict=True)}
    return write_comparison(out, found.table, found.pairs, materials)


# What a path holds is told by the path: a folder, a table, an archive or a configuration.
def _data(path: Path, options: dict[str, Any]) -> imgcls.Dataset:
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config

    if path.suffix.lower() in _CONFIGS:
        loaded = read_config(path)
        if not isinstance(loaded.get("data"), dict):
            raise ConfigError(f"{str(path)!r} must hold 'data', with 'from' and the options of that reader")
        return imgcls.Dataset.from_config(replace(loaded["data"], options))
    return imgcls.Dataset.from_config({**_reader(path), **options})


def _reader(path: Path) -> dict[str, Any]:
    kinds = {".csv": ("csv", "path"), ".tsv": ("csv", "path"), ".npz": ("npz", "path")}
    reader, first = kinds.get(path.suffix.lower(), ("folder", "root"))
    return {"from": reader, first: str(path)}


def _change(text: str) -> tuple[str, Any]:
    from imgcls.core.config import from_yaml

    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(f"changes must read key=value, got {text!r}")
    return path, from_yaml(value, source=text)


def _files(paths: list[Path]) -> list[Path]:
    from imgcls.data.images import EXTENSIONS

    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"'images' must name images or folders of them, got none in {str(path)!r}")
        found += inside
    return found


def _finished(run: imgcls.Run) -> None:
    split = "test" if (run.folder / "predictions_test.npz").exists() else "val"
    if split == "val":
        print("No test records: the validation numbers below also chose the checkpoint, so they flatter.")
    for name in ("accuracy", "balanced_accuracy", "roc_auc", "average_precision"):
        value, low, high = run.value(name, split=split)
        print(f"{split} {name.replace('_', ' ')}: {value:.4f} (95 % interval {low:.4f} to {high:.4f})")
    print(f"Run: {run.folder}\nReport: {(run.folder / 'report.html').resolve()}")


def main() -> None:
    """Run the command line; an error on purpose is one paragraph and exit code 1."""
    try:
        app()
    except (ImgclsError, OSError) as error:  # OSError: a disk that is full, a folder that may not be written
        if os.environ.get("IMGCLS_DEBUG"):
            raise
        print(f"imgcls: {error}", file=sys.stderr)
        sys.exit(1)
