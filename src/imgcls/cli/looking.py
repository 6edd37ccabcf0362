"""Commands that look at a set: faults, augmentation, what is kept on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import imgcls
from imgcls.cli.app import app, cache
from imgcls.cli.reading import CONFIGS, changes_of, open_set
from imgcls.core.errors import ConfigError


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

    Example: imgcls check chest_xray/ group='(person[0-9]+_[a-z]+|(?:NORMAL2-)?IM-[0-9]+)' --html check.html
    """
    opened = open_set(data, changes_of(overrides))
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

    options = read_config(data) if data.suffix.lower() in CONFIGS else {}
    opened = open_set(data, changes_of(overrides))
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
