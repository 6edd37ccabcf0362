"""Run the notebooks of the tutorials and keep what they say: python benchmarks/tutorials.py [train explain ...].

Those on real images read the folder that IMGCLS_TEST_DATA names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder, as it stands; an error of a cell is an error here."""
    book = nbformat.read(path, as_version=4)
    own = {**os.environ, "IMGCLS_QUIET": "1", "IMGCLS_CACHE": str(folder / "cache")}
    NotebookClient(book, timeout=1800, resources={"metadata": {"path": str(folder)}}).execute(env=own)
    return book


# Times and the language's version would change with every run; what was printed to stderr is no part of a page.
def _clean(book: nbformat.NotebookNode) -> None:
    book.metadata = {"kernelspec": book.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
    for name in names:
        path = TUTORIALS / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            book = executed(path, Path(folder))
        _clean(book)
        nbformat.write(book, path)
        print(name)


if __name__ == "__main__":
    main()
