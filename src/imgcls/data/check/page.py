"""One self-contained HTML page about a set, for the person who is responsible for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.folders import write_text
from imgcls.core.randomness import generator
from imgcls.data.check.pictures import map_picture, pictures
from imgcls.data.check.problems import SEVERITIES
from imgcls.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template

__all__ = ["Content", "write_page"]

#: What is shown at most: rows of a kind, pairs, pairs alike to a network, clusters of groups, odd files, classes with
#: pictures, images of a class, rows of the table of classes.
_ROWS, _PAIRS, _ALIKE, _CLUSTERS, _FILES, _CLASSES, _SAMPLES, _TABLE = 50, 36, 12, 12, 24, 20, 8, 100

#: Groups of a cluster that are shown.
_GROUPS = 6

#: What each kind of finding means and what to do.
_MEANING = {
    "unreadable": "The image, its mask or a view cannot be decoded. Repair it or take it out: training would stop.",
    "not finite": "A pixel is not a number or infinite. Repair the file or take it out: training would stop at it.",
    "no end": "The file may be half written, and the rest of the picture made up by the decoder. Look at it.",
    "exact duplicate across": "The same picture trains and tests, so the test flatters. Keep one of them.",
    "near duplicate across": "Nearly the same picture on two sides, so the test flatters. Give both one group.",
    "embedding across": "A network finds two pictures on two sides alike. Look at them.",
    "group across": "A patient, animal or part is on two sides, so the test flatters. Split by group.",
    "label conflict": "The same picture, or nearly the same, has two labels; one of them may be wrong.",
    "missing group": "Pictures of different groups are nearly the same; the groups may be one.",
    "no groups": "Pictures belong together, but the set does not say so. Give a group and split by it.",
    "extension": "The content is of another format than the name says.",
    "same stem": "Two files differ in their extension only. One may be a mask or a copy.",
    "tiny": "A side is shorter than 8 pixels.",
    "constant": "All pixels are equal: an empty shot or a failed export.",
    "nearly constant": "Next to nothing is to be seen.",
    "dark": "Nearly black, unlike the rest.",
    "bright": "Nearly white, unlike the rest.",
    "size": "The area is far from the usual one.",
    "aspect": "The ratio of width to height is far from the usual one.",
    "channels": "Where only one class is in colour, a model can read the class from that.",
    "bits": "Pixels of different depth; check that one scale holds for all.",
    "duplicate": "The same pixels more than once: they count more often than others.",
    "mixed group": "Not wrong in itself: a patient can be healthy first and ill later.",
    "not compared": "Too little is to be seen on them to say that two are nearly the same.",
    "incomplete": "The set is like a film. Give a group to what was taken together.",
}

#: Kinds whose pictures are shown.
_ODD = ("constant", "nearly constant", "dark", "bright", "tiny", "size", "aspect", "extension", "same stem")


@attrs.frozen(kw_only=True, eq=False)
class Content:
    """What the page shows; the fields are those of `CheckReport`.

    Attributes:
        dataset: The set.
        problems: The findings.
        pairs: The duplicates.
        classes: Counts and statistics by label.
        copies: Groups of equal images.
        missing_groups: Groups that may be one.
        threshold: The correlation of near duplicates, or None.
        num_compared: Images that were compared.
        map: Coordinates of the embeddings, or None.
    """

    dataset: Dataset
    problems: pd.DataFrame
    pairs: pd.DataFrame
    classes: pd.DataFrame
    copies: Sequence[Sequence[str]]
    missing_groups: Sequence[Sequence[str]]
    threshold: float | None
    num_compared: int
    map: NDArray[np.float64] | None


def write_page(path: Path, content: Content) -> None:
    """Write the page; its size is bounded, whatever that of the set.

    Args:
        path: The HTML file.
        content: What it shows.
    """
    dataset, places = content.dataset, {name: place for place, name in enumerate(content.dataset.ids.tolist())}
    hints = content.pairs["kind"] == "embedding"
    proven, hinted = content.pairs[~hints], content.pairs[hints]
    pairs, alike, samples = _worst(proven)[:_PAIRS], _worst(hinted)[:_ALIKE], _samples(dataset)
    clusters, odd = _clusters(dataset, content.missing_groups, proven), _odd(content.problems, places)
    shown = [place for row in (*pairs, *alike) for place in (places[row["a"]], places[row["b"]])]
    shown += [place for _, members in (*samples, *clusters) for place, _ in members] + [place for place, _ in odd]
    write_text(
        path,
        _template().render(
            content=content,
            name="an image set" if dataset.root is None else dataset.root.name,
            verdict=_verdict(content),
            findings=list(_findings(content.problems)),
            pairs=pairs,
            num_pairs=len(proven),
            alike=alike,
            num_alike=len(hinted),
            places=places,
            clusters=clusters,
            odd=odd,
            num_odd=int(content.problems["kind"].isin(_ODD).sum()),
            samples=samples,
            classes=_class_table(content.classes),
            pictures=pictures(dataset, shown),
            map=None if content.map is None else map_picture(dataset, content.map),
        ),
    )


def _template() -> Template:
    from jinja2 import Environment

    text = resources.files("imgcls.data.check").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["parts"] = lambda path: re.split(r"(?<=[/_])", path)
    return environment.from_string(text)


def _verdict(content: Content) -> list[str]:
    counts = content.problems["severity"].value_counts()
    numbers = [f"{counts.get(name, 0)} {name}{'' if counts.get(name, 0) == 1 else 's'}" for name in SEVERITIES]
    kinds = content.pairs["kind"].value_counts()
    groups = content.dataset.groups
    owners = "" if groups is None else f" of {len(np.unique(groups))} groups"
    state = "Nothing found that must be mended"
    if counts.get("warning", 0):
        state = "Nothing found that is wrong for certain; look at the warnings"
    if counts.get("error", 0):
        state = "Numbers from this set would be wrong"
    surplus = sum(map(len, content.copies)) - len(content.copies)
    return [
        f"{state}: {', '.join(numbers)}.",
        f"{len(content.dataset)} images{owners} in {len(content.dataset.classes)} classes.",
        f"Images that repeat the pixels of another one: {surplus}. Nearly equal pairs: {kinds.get('near', 0)}.",
    ]


def _findings(problems: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (severity, kind), rows in problems.groupby(["severity", "kind"], sort=False):
        yield {
            "severity": severity,
            "kind": kind,
            "count": len(rows),
            "meaning": _MEANING.get(str(kind), ""),
            "rows": rows.head(_ROWS).to_dict("records"),
            "more": max(0, len(rows) - _ROWS),
        }


# First what does harm: on two sides, with two labels, in two groups; of those the least similar, which may be wrong.
def _worst(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    judged = pairs.assign(inside=pairs["across"] == "", apart=pairs["same_group"].eq(False))
    rows = judged.sort_values(
        ["inside", "same_label", "apart", "similarity"], ascending=[True, True, False, True], kind="stable"
    )
    return [{str(name): value for name, value in row.items()} for row in rows.head(_PAIRS).to_dict("records")]


def _class_table(classes: pd.DataFrame) -> pd.DataFrame:
    shown = classes.head(_TABLE).assign(share=[f"{share:.1%}" for share in classes["share"].head(_TABLE)])
    shown = shown if shown["unreadable"].any() else shown.drop(columns="unreadable")
    return shown.astype(object).where(shown.notna(), "")


def _samples(dataset: Dataset) -> list[tuple[str, list[tuple[int, str]]]]:
    labels, found = dataset.frame["label"].to_numpy(dtype=np.str_), []
    for name in list(dict.fromkeys([*dataset.classes, *labels.tolist()]))[:_CLASSES]:
        places = np.flatnonzero(labels == name)
        rng = generator(0, "page", str(name))
        chosen = np.sort(rng.choice(places, size=min(_SAMPLES, len(places)), replace=False))
        if len(chosen):
            found.append((f"{name or 'no label'} ({len(places)})", _named(dataset, chosen)))
    return found


# Of each group a picture that is in another one too.
def _clusters(
    dataset: Dataset, clusters: Sequence[Sequence[str]], proven: pd.DataFrame
) -> list[tuple[str, list[tuple[int, str]]]]:
    if dataset.groups is None:
        return []
    tied = set(proven[["a", "b"]][proven["same_group"].eq(False)].to_numpy().ravel())
    of_group = {str(dataset.groups[place]): place for place, name in enumerate(dataset.ids.tolist()) if name in tied}
    found = []
    for names in clusters[:_CLUSTERS]:
        more = f", of which {_GROUPS} are shown" if len(names) > _GROUPS else ""
        members = [(of_group[name], name) for name in names[:_GROUPS]]
        found.append((f"{len(names)} groups{more}", members))
    return found


def _named(dataset: Dataset, positions: Iterable[int]) -> list[tuple[int, str]]:
    return [(int(position), str(dataset.ids[position])) for position in positions]


def _odd(problems: pd.DataFrame, places: dict[str, int]) -> list[tuple[int, str]]:
    rows = problems[problems["kind"].isin(_ODD)].head(_FILES)
    return [(places[str(row.id)], f"{row.kind}: {row.id}, {row.detail}") for row in rows.itertuples()]
