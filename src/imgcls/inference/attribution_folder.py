"""What explaining a run leaves on disk: maps, panels, scores against masks, a check for shortcuts."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.dumping import spec_of
from imgcls.core.folders import write_text
from imgcls.core.progress import warn
from imgcls.evaluation.thresholds import values_for
from imgcls.explain.base import Attributions, Explainer
from imgcls.explain.mask_scores import MaskScores
from imgcls.explain.panels import is_signed, panel, panel_name
from imgcls.explain.score_tables import pooled, summary
from imgcls.explain.sheets import class_sheet
from imgcls.explain.shortcuts import ShortcutCheck, Shortcuts
from imgcls.inference.explaining import Request, Subject, attributions_of, explained_class, selected
from imgcls.inference.masks import find_masks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["explain_run", "method_name", "score_rows"]

Ints = NDArray[np.int64]


def method_name(explainer: Explainer) -> str:
    """Name an explainer.

    Args:
        explainer: The explainer.

    Returns:
        Its registered name, else that of its class.
    """
    return str(spec_of(explainer).get("name", type(explainer).__name__))


def explain_run(subject: Subject, explainer: Explainer, request: Request) -> Attributions:
    """Explain records of a run, score the maps, look for shortcuts and draw panels.

    All of it goes to `attributions/<method>-<split>` in the run's folder: `maps.npz`, panels with
    `index.csv`, with masks `scores.csv` (by image), `score_means.csv` and `score_pixels.csv`, and
    `shortcuts.csv`. What was there before is replaced.

    Args:
        subject: The records.
        explainer: The method.
        request: Which of them, and for which class.

    Returns:
        The attributions, in the order of the index.

    Raises:
        RunError: if there is nothing to explain.
        ConfigError: if an option is wrong.
    """
    check = ShortcutCheck(box=request.box)
    masks = find_masks(subject.data, subject.saved.image, request.masks)
    picked = selected(subject, request, masks)
    target = explained_class(picked, target=request.target)
    name = method_name(explainer)
    found = attributions_of(picked, explainer, target, label=f"explain {name}")
    folder = subject.folder / "attributions" / _folder_name(name, picked, request)
    shutil.rmtree(folder, ignore_errors=True)
    inside = None if masks is None else masks.stack(picked.positions)
    drawing = _Drawing(folder=folder, subject=picked, found=found, masks=inside, method=name)
    drawing.draw()
    found.save(folder / "maps.npz")
    if inside is not None and inside.any():
        _write_scores(folder, score_rows(picked, found, inside))
    drawing.check(check)
    return found


def _folder_name(name: str, subject: Subject, request: Request) -> str:
    parts = [name, subject.predictions.split]
    parts += ["errors"] if request.errors else []
    parts += ["masks"] if request.masks not in (None, False) else []
    parts += [] if request.target is None else [quote(request.target, safe="")]
    return "-".join(parts)


def score_rows(
    subject: Subject, found: Attributions, masks: NDArray[np.float64], scores: MaskScores | None = None
) -> pd.DataFrame:
    """Score maps against masks.

    Args:
        subject: N records.
        found: Their maps.
        masks: (N, H, W) from 0 to 1.
        scores: What is measured.

    Returns:
        A row a record: `id`, `class`, where known `group`, `decision`, `target`, `prob`, the scores
        of `MaskScores`, and what else the set knows of the records.
    """
    import pandas as pd

    predictions, names = subject.predictions, np.asarray(subject.predictions.classes)
    silent = np.zeros(len(found), dtype=np.bool_) if predictions.multilabel else subject.decided != found.target
    rows = (scores or MaskScores()).rows(found, masks, silent=silent)
    about: dict[str, Any] = {"id": predictions.ids, "class": predictions.names(predictions.labels)}
    if predictions.groups is not None:
        about["group"] = predictions.groups
    about |= {"decision": predictions.names(subject.decided), "target": names[found.target]}
    about |= {"prob": predictions.probs[np.arange(len(found)), found.target]}
    others = {key: values for key, values in predictions.columns.items() if key not in {*about, *rows.columns}}
    return pd.concat([pd.DataFrame(about), rows, pd.DataFrame(others, index=rows.index)], axis=1)


def _write_scores(folder: Path, rows: pd.DataFrame) -> None:
    import pandas as pd

    names = ["area", *MaskScores().names]
    means = [summary(rows, names, by="class")]
    if "group" in rows:
        by_group = summary(rows, names, by="group")
        means.append(by_group[by_group["value"] != ""])
    tables = {"scores": rows, "score_means": pd.concat(means), "score_pixels": pooled(rows)}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False))


@attrs.frozen(kw_only=True, eq=False)
class _Drawing:
    """The records of one folder, and what was found of them."""

    folder: Path
    subject: Subject
    found: Attributions
    masks: NDArray[np.float64] | None
    method: str

    # A panel of each record; errors of two classes go to FP and FN.
    def draw(self) -> None:
        import pandas as pd

        predictions = self.subject.predictions
        truths, decided = (predictions.names(codes).tolist() for codes in (predictions.labels, self.subject.decided))
        rows = []
        for number, name in enumerate(predictions.ids.tolist()):
            truth, predicted, explained = truths[number], decided[number], int(self.found.target[number])
            prob, target = float(predictions.probs[number, explained]), predictions.classes[explained]
            seen, shown = truth or "none", predicted or "none"
            file = panel_name(number, image=name, truth=seen, predicted=shown, method=self.method)
            where = f"{_kind(predictions.positive, truth, predicted)}/{file}"
            said = {"label": truth, "decision": predicted, "target": target, "prob": prob}
            rows.append({"file": where, "id": name, **said, "method": self.method})
            shown += "" if predicted == target else f", map of {target}"
            self._write(where, self._panel(number, truth=seen, predicted=shown, prob=prob))
        write_text(self.folder / "index.csv", pd.DataFrame(rows).to_csv(index=False))

    def _panel(self, number: int, **said: Any) -> bytes:
        mask = self.masks[number] if self.masks is not None and self.masks[number].any() else None
        title = f"{self.subject.predictions.ids[number]}\n{self._notes[number]}"
        return panel(self._image(number), self.found.maps[number], title=title, mask=mask, signed=self._signed, **said)

    # Panels of one method have one kind of scale.
    @functools.cached_property
    def _signed(self) -> bool:
        return is_signed(self.found.maps)

    # Deep pixels are shown by their high byte.
    def _image(self, number: int) -> NDArray[np.uint8]:
        pixels = self.subject.pixels(int(self.subject.positions[number]))
        return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)

    # What the threshold made of the probability, where one decides.
    @functools.cached_property
    def _notes(self) -> list[str]:
        predictions, rule = self.subject.predictions, self.subject.saved.decision
        if not rule or predictions.positive is None:
            return [""] * len(predictions)
        cuts = values_for(predictions, self.subject.thresholds, rule)
        pairs = zip(predictions.scores.tolist(), np.broadcast_to(cuts, len(predictions)).tolist(), strict=True)
        name = predictions.positive
        return [
            f"p({name}) = {score:.3f} {'reaches' if score >= cut else 'is below'} {cut:.3f} ({rule})"
            for score, cut in pairs
        ]

    def check(self, check: ShortcutCheck) -> None:
        predictions, images = self.subject.predictions, self._images()
        plausible = self.masks if check.box is None else None
        shortcuts = check.check(self.found, images, predictions.classes, masks=plausible, groups=predictions.groups)
        files = self._class_sheets(shortcuts, images)
        table = shortcuts.table.assign(file=shortcuts.table["class"].map(files).where(shortcuts.table["warns"], ""))
        words = dict(zip(table.index[table["warns"]], shortcuts.warnings, strict=True))
        table = table.assign(warning=[words.get(at, "") for at in table.index], method=self.method)
        write_text(self.folder / "shortcuts.csv", table.to_csv(index=False))
        for text in shortcuts.warnings:
            warn(f"{self.method}: {text}")

    def _images(self) -> NDArray[np.uint8]:
        return np.stack([self._image(number) for number in range(len(self.found))])

    def _class_sheets(self, shortcuts: Shortcuts, images: NDArray[np.uint8]) -> dict[str, str]:
        files = {}
        table = shortcuts.table[shortcuts.table["warns"]]
        for name in table["class"].unique().tolist():
            chosen = (shortcuts.rows["class"] == name).to_numpy() & self.found.valid
            line = f"mean of {chosen.sum()} maps of {name}"
            files[name] = f"shortcut_{quote(name, safe='')}.png"
            self._write(files[name], class_sheet(images[chosen], self.found.maps[chosen], lines=[line]))
        return files

    def _write(self, where: str, content: bytes) -> None:
        file = self.folder / where
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _kind(positive: str | None, truth: str, predicted: str) -> str:
    if truth == predicted or positive is None:
        return "right" if truth == predicted else "wrong"
    return "FP" if predicted == positive else "FN"
