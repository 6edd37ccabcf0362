"""Commands about what is installed: plugins, backbones, a plugin of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgcls.cli.app import app, backbones


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
