"""What is made when the site is built: tables from JSON files of real runs, contact sheets, notebooks, commands."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from mkdocs.structure.files import File, Files
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from imgcls.augment.augment import to_augment
from imgcls.augment.presets import PRESETS
from imgcls.augment.preview import contact_sheet
from imgcls.cli import app

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs runs this file by its path

from notebooks import page

RESULTS = Path(__file__).parent / "results"
TUTORIALS = Path(__file__).parent / "tutorials"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `<!-- table: NAME -->` by the rows of `results/NAME.json`, and `NAME.PART` by others of its lists.

    Under a table of `rows` stands the machine that they were measured on, where the file says it.
    `<!-- commands -->` becomes the reference of the command line.

    Args:
        markdown: The page.
        **_: What mkdocs says of the page.

    Returns:
        The page with its tables.
    """
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_commands(typer.main.get_command(app), "imgcls")))
    return re.sub(r"<!-- table: (\w+)\.?(\w*) -->", lambda match: _table(match[1], match[2] or "rows"), markdown)


def on_files(files: Files, *, config: Any, **_: Any) -> Files:
    """Add the contact sheets of the page on augmentation, `augmentation/PRESET.png`, and the notebooks as pages.

    Args:
        files: The files of the site.
        config: The configuration of the site.
        **_: What else mkdocs says.

    Returns:
        The files with the sheets and pages.
    """
    images = _photographs()
    for name in PRESETS:
        content = io.BytesIO()
        contact_sheet(images, to_augment(name), titles=["china", "flower", "digit"], draws=7).save(content, "PNG")
        files.append(File.generated(config, f"augmentation/{name}.png", content=content.getvalue()))
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        markdown, pictures = page(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=markdown))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=picture))
    return files


# The two photographs inside scikit-learn, and one of its handwritten digits, as colour images of one size.
def _photographs() -> NDArray[np.uint8]:
    digit = np.repeat((load_digits().images[15] * (255 / 16)).astype(np.uint8)[..., None], 3, axis=2)
    pictures = [load_sample_image("china.jpg")[20:420, 60:460], load_sample_image("flower.jpg")[10:410, 120:520], digit]
    return np.stack([np.asarray(Image.fromarray(picture).resize((224, 224))) for picture in pictures])


def _table(name: str, part: str) -> str:
    results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    rows = results[part]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + (_machine(results) if part == "rows" else "")


# Where it was measured, under the first table of the results; parts of them may have been measured elsewhere.
def _machine(results: dict[str, Any]) -> str:
    parts = [results, *(value for value in results.values() if isinstance(value, dict))]
    machines = dict.fromkeys(part["machine"] for part in parts if "machine" in part)
    return f"\n\n*Measured on {'; '.join(machines)}.*" if machines else ""


# A section for each command, from what `--help` shows.
def _commands(command: Any, name: str) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is not None:
        for each in inner.values():
            yield from _commands(each, f"{name} {each.name}")
        return
    told, _, example = (command.help or "").partition("Example: ")
    rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
    yield f"## {name}\n\n{told.strip()}\n"
    yield from (["| argument or option | default | what |", "| --- | --- | --- |", *rows, ""] if rows else [])
    yield f"```console\n{example.strip()}\n```\n" if example else ""


def _option(parameter: Any) -> str:
    word = " ".join(parameter.opts) if parameter.opts[0].startswith("-") else parameter.name.upper()
    default = "" if parameter.default in (None, False, ()) or callable(parameter.default) else f"`{parameter.default}`"
    told = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| `{word}` | {'needed' if parameter.required else default} | {told} |"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
