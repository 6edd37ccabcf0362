"""Executed notebooks as pages: Markdown cells, code, and what the code said."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["page"]


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Write a notebook as Markdown.

    Args:
        path: The notebook, with its outputs.

    Returns:
        The Markdown, and pictures by the names that it calls them.
    """
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\((\w+)\.ipynb\)", r"(\1.md)", text))
        else:
            parts += [f"```python\n{text}\n```", *_outputs(cell["outputs"], path.stem, pictures)]
    return "\n\n".join(parts) + "\n", pictures


def _outputs(outputs: list[dict[str, Any]], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{stem}-{len(pictures)}.png"
            pictures[name] = base64.b64decode("".join(data["image/png"]))
            yield f"![What the code above draws]({name})"
        elif text := "".join(output.get("text", data.get("text/plain", []))).rstrip():
            yield f"```text\n{text}\n```"
