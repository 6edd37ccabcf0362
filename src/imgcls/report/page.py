"""One self-contained HTML page for the person who is responsible for the model."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imgcls.core.folders import write_text
from imgcls.data.dataset import Dataset
from imgcls.report.charts import draw_forest
from imgcls.report.drawing import Drawing
from imgcls.report.explained import Explained, read_explained
from imgcls.report.explorer import explore
from imgcls.report.gallery import FIGURES, main_metric, parts
from imgcls.report.material import Material
from imgcls.report.mistakes import Images, confused, doubtful_labels, worst_errors
from imgcls.report.pictures import Picture
from imgcls.report.records import data_card
from imgcls.report.searches import SearchSummary, search_of
from imgcls.report.summaries import forest
from imgcls.report.tables import baseline_rows, glance, label_rows, rows_of_all, rows_of_classes, rows_of_folds
from imgcls.report.words import Caution, cautions, decided_by, deciding, verdict

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

__all__ = ["environment", "write_page"]

T = TypeVar("T")

#: What is known of a run that was not explained.
_UNEXPLAINED = Explained(warned=(), warnings=(), panels=(), scores={})

#: Explained images that are shown beside the worst errors.
_PANELS = 24


def write_page(
    path: Path,
    material: Material,
    *,
    sets: Sequence[Dataset] = (),
    notes: Sequence[str] = (),
    checked: pd.DataFrame | None = None,
) -> Path:
    """Write the page. Of an unfinished or damaged run it shows what there is, and says what is missing.

    Args:
        path: The HTML file.
        material: The run.
        sets: The sets whose images are at hand; without any the page has no pictures of records.
        notes: What else is to be said of the numbers, in sentences.
        checked: The findings of a check of the set, if there was one.

    Returns:
        The file.
    """
    page, images = _Page(material), Images(sets=sets)
    found = page.part("explained images", lambda: read_explained(material.folder)) or _UNEXPLAINED
    shown = {**_numbers(page, material), **_pictured(page, material, images, found, checked)}
    told = page.part("warnings", lambda: cautions(material, found.warnings, notes)) or []
    broken = [Caution("error", text) for text in material.problems]
    said = {"cautions": [*broken, *page.failed, *told], "left_out": images.album.left_out, "pictured": bool(sets)}
    template = environment().get_template("page.html")
    write_text(path, template.render(name=material.name, material=material, final=material.final, **shown, **said))
    return path


class _Page:
    """Makes the parts of a page; of a damaged run one that cannot be made is named, and the rest is shown."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self.failed: list[Caution] = []

    def part(self, name: str, make: Callable[[], T]) -> T | None:
        if self._material.complete:
            return make()
        try:
            return make()
        except Exception as error:  # files may be damaged in any way
            self.failed.append(Caution("error", f"The part on {name} cannot be shown ({type(error).__name__})."))
            return None

    def figures(self) -> dict[str, Drawing]:
        drawn = {
            name: self.part(name.replace("_", " "), functools.partial(make, self._material))
            for name, make in FIGURES.items()
            if name != "forest"  # of which there are several
        }
        return {name: drawing for name, drawing in drawn.items() if drawing is not None}


def _numbers(page: _Page, material: Material) -> dict[str, Any]:
    return {
        "verdict": page.part("verdict", lambda: verdict(material)) or ["The numbers cannot be shown."],
        "glance": page.part("metrics", lambda: glance(material)) or ([], []),
        "tables": page.part("tables", lambda: _tables(material)) or {},
        "figures": page.figures(),
        "forests": page.part("parts", lambda: _forests(material)) or [],
        "explorer": page.part("thresholds", lambda: explore(material)),
        "thresholds": page.part("decisions", lambda: deciding(material)) or [],
        "decided": decided_by(material),
        "baselines": page.part("baselines", lambda: baseline_rows(material)) or [],
        "confused": page.part("confused classes", lambda: confused(material)) or [],
    }


# Panels that are shown as errors are not shown again.
def _pictured(
    page: _Page, material: Material, images: Images, explained: Explained, checked: pd.DataFrame | None
) -> dict[str, Any]:
    errors = page.part("errors", lambda: worst_errors(material, images, explained)) or []
    search = search_of(material.folder)
    mapped = {picture.source for kind in errors for picture in kind.mapped}
    return {
        "errors": errors,
        "doubts": page.part("labels", lambda: doubtful_labels(material, images)) or (0, []),
        "card": page.part("data", lambda: data_card(material, images, checked)),
        "explained": explained,
        "search": search,
        "plots": _plots(search, images) if search is not None else [],
        "panels": [picture for picture in _panels(explained, images) if picture.source not in mapped],
    }


def _tables(material: Material) -> Mapping[str, Any]:
    return {
        "all": rows_of_all(material),
        "classes": rows_of_classes(material),
        "labels": label_rows(material),
        "folds": rows_of_folds(material, repeats=False),
        "repeats": rows_of_folds(material, repeats=True),
    }


def _forests(material: Material) -> list[Drawing]:
    table, final = parts(material), material.final
    if table is None or final is None:
        return []
    wanted = [(main_metric(final), "")]
    if final.positive is not None and material.decision:
        wanted += [(name, material.decision) for name in ("sensitivity", "specificity")]
    found = [forest(table, metric, threshold=rule) for metric, rule in wanted]
    return [draw_forest(one) for one in found if len(one.names) > 1]


def _plots(search: SearchSummary, images: Images) -> list[Picture]:
    found = [images.album.file(file, text) for text, file in search.plots.items()]
    return [picture for picture in found if picture is not None]


def _panels(explained: Explained, images: Images) -> list[Picture]:
    wanted = [*explained.warned, *explained.panels[:_PANELS]]
    found = [images.album.file(panel.file, panel.caption) for panel in wanted]
    return [picture for picture in found if picture is not None]


def environment() -> Environment:
    """Open the templates of this room.

    Returns:
        What renders them; texts are escaped.
    """
    from jinja2 import Environment, FunctionLoader

    place = resources.files("imgcls.report")
    loader = FunctionLoader(lambda name: place.joinpath(name).read_text(encoding="utf-8"))
    made = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    made.filters["embedded"] = _embedded
    made.filters["number"] = _number
    return made


def _number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.{digits}f}"


# JSON inside of a page must not end its script.
def _embedded(value: Any) -> str:
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
