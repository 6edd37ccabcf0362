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


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file: 'data' and the Trainer's options.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes such as stages.0.lr=1e-4")] = None,
) -> None:
    """Train what a configuration describes.

    Example: imgcls train chest.yaml out=runs/chest stages.0.lr=1e-4
    """
    from imgcls.core.config import from_yaml, replace
    from imgcls.trainer import Trainer

    changes = dict(map(_change, overrides or ()))
    options = from_yaml(_text(config), source=str(config))
    if not isinstance(options, dict):
        raise ConfigError(f"{str(config)!r} must hold options by name, got {type(options).__name__}")
    for_data = {path: value for path, value in changes.items() if path.split(".")[0] == "data"}
    trainer = Trainer.from_config(replace(options, for_data))
    run = replace(trainer, {path: value for path, value in changes.items() if path not in for_data}).fit()
    run.report()
    _finished(run)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="A CSV file; without it a table is printed.")] = None,
    threshold: Annotated[str | None, typer.Option(help="A fitted rule or a number, for two classes.")] = None,
) -> None:
    """Predict images with the mean of a run's folds.

    Example: imgcls predict runs/chest new_images/ --out predictions.csv
    """
    from imgcls.run import load_run

    table = load_run(run).predict(_files(images), threshold=threshold)
    if out is None:
        print(table.to_string(index=False))
    else:
        table.to_csv(out, index=False)
        print(f"{len(table)} predictions: {out}")


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    method: Annotated[str, typer.Option(help="An explainer; 'imgcls plugins' lists them.")] = "grad-cam",
    split: Annotated[str, typer.Option(help="test or val")] = "test",
    limit: Annotated[int, typer.Option(help="How many images at most.")] = 16,
    errors: Annotated[bool, typer.Option("--errors", help="The worst errors.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Draw relevance maps of a run's images and put them into its report.

    Example: imgcls explain runs/chest --errors
    """
    from imgcls.run import load_run

    opened = load_run(run, root=root)
    found = opened.explain(method, split=split, limit=limit, errors=errors)
    print(f"{len(found)} maps: {opened.folder / 'attributions'}\nReport: {opened.report()}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'config' must name a YAML file, got {str(path)!r}; {error}") from None


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
