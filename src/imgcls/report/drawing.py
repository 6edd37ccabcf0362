"""Figures as inline SVG that is read on light and on dark pages."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from imgcls.core import options
from imgcls.core.folders import write_text

__all__ = ["COLORS", "INK", "MANY", "Drawing", "legend", "named", "panels", "short"]

#: Of more classes a legend names only the first ones, and a confusion matrix shows no zeros.
MANY = 12

#: Names longer than this many characters are cut in figures, where they would leave no room for the data.
_LONGEST = 28

#: Words and axes: in the SVG they take the colour of the page's text.
INK = "#010203"

#: Lines that are told apart on white and on black alike (contrast of at least 3 to 1 with both).
COLORS = ("#2f81c7", "#d2601a", "#23976b", "#a45fd0", "#c9468a", "#8f7d1c", "#c94f4f", "#3a93a0")

#: What a figure in a file of its own looks like, where no page gives colours.
_ALONE = (
    "<style>svg{color:#1b1f24;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e6edf3;background:#0d1117}}</style>"
)


@attrs.frozen(kw_only=True, eq=False)
class Drawing:
    """A figure and the numbers behind it.

    Attributes:
        name: What it is asked for by.
        title: What it shows.
        text: The same in words, for those who do not see it.
        data: The numbers, a frozen value with arrays.
        figure: The matplotlib figure.
    """

    name: str
    title: str
    text: str
    data: Any
    figure: Any = attrs.field(repr=False)

    @property
    def svg(self) -> str:
        """An SVG element for a page, whose text colour it takes."""
        return _svg(self.figure, self.name, f"{self.title}. {self.text}".strip())

    def _repr_svg_(self) -> str:
        return self.svg.replace(">", f">{_ALONE}", 1)

    def save(self, path: Path | str) -> Path:
        """Write the figure.

        Args:
            path: A file that ends in `.svg`, `.png` or `.pdf`.

        Returns:
            The file.

        Raises:
            ConfigError: if it ends in something else.
        """
        where = Path(path)
        if where.suffix == ".svg":
            write_text(where, self._repr_svg_())
        elif where.suffix in {".png", ".pdf"}:
            self.figure.savefig(where, dpi=150)
        else:
            raise options.rejected("path", "end in .svg, .png or .pdf", str(path))
        return where


def panels(width: float, height: float, *, columns: int = 1) -> tuple[Any, Any]:
    """Begin a figure.

    Args:
        width: In inches.
        height: In inches.
        columns: How many panels stand side by side.

    Returns:
        The figure and its axes, an array where there are several.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in figure.axes:
        axis.tick_params(colors=INK, labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        for spine in axis.spines.values():
            spine.set_color(INK)
    return figure, axes


def named(axis: Any, **said: Any) -> None:
    """Set titles, labels and limits in the colour of words.

    Args:
        axis: The axes.
        **said: As matplotlib's `Axes.set` takes them.
    """
    axis.set(**said)
    axis.title.set(color=INK, fontsize=10)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set(color=INK, fontsize=9)


def short(name: str) -> str:
    """Cut a name that would leave no room.

    Args:
        name: A name.

    Returns:
        At most 28 characters of it.
    """
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def legend(owner: Any, drawn: Sequence[Any], names: Sequence[str], **place: Any) -> None:
    """Name lines; of many classes the first ones.

    Args:
        owner: Axes, or a figure.
        drawn: The lines.
        names: Their names, which may hold any sign.
        **place: As matplotlib's `legend` takes it.
    """
    if not names:
        return
    title = f"first {MANY} of {len(names)} classes" if len(names) > MANY else None
    made = owner.legend(
        drawn[:MANY], ["name"] * len(names[:MANY]), fontsize=9, frameon=False, title=title, title_fontsize=9, **place
    )
    made.get_title().set_color(INK)
    # Texts are set afterwards: a legend leaves out names that begin with an underscore.
    for text, name in zip(made.get_texts(), names, strict=False):
        text.set(text=short(name), parse_math=False, color=INK)


def _svg(figure: Any, name: str, words: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # Fixed names inside make the same figure the same text; words stay text.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(
        r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.S
    )  # it names addresses, and tells nothing
    prefix = re.sub(r"[^a-z0-9]+", "-", name.lower())
    # Ids must be unique on a page with several figures.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    label = words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
