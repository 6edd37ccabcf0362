"""The command line and its options; a command reads arguments, calls the API and prints, and decides nothing."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import imgcls
from imgcls.core.errors import ImgclsError

__all__ = ["app", "backbones", "cache", "main"]

cache = typer.Typer(help="The decoded images that are kept on disk.", no_args_is_help=True)
backbones = typer.Typer(help="The networks there are, their blocks and where they can be cut.", no_args_is_help=True)
app = typer.Typer(
    name="imgcls",
    help="Image classification for small, imbalanced, grouped image sets that must be trusted.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",  # rich's own takes [a-z] of a regular expression for a style, and drops it
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


def main() -> None:
    """Run the command line; an error on purpose is one paragraph and exit code 1."""
    try:
        app()
    except (ImgclsError, OSError) as error:  # OSError: a disk that is full, a folder that may not be written
        if os.environ.get("IMGCLS_DEBUG"):
            raise
        print(f"imgcls: {error}", file=sys.stderr)
        sys.exit(1)
