"""What a finished run offers: numbers, predictions, thresholds, and its models on new images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import imgcls
from imgcls.core.errors import ConfigError, DataError, ImgclsError, RunError, nearest
from imgcls.core.folders import read_json, sha256, write_json
from imgcls.data.dataset import Dataset
from imgcls.evaluation.calibration import calibrate
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.summary import Evaluation, reevaluate
from imgcls.explain.base import Attributions, Explainer, explainers
from imgcls.inference.attribution_folder import explain_run
from imgcls.inference.explaining import Request
from imgcls.inference.scoring import score
from imgcls.inference.sealing import SUMS
from imgcls.inference.using import Using
from imgcls.models.base import Backbone
from imgcls.report.card import write_card
from imgcls.report.drawing import Drawing
from imgcls.report.gallery import draw, drawings
from imgcls.report.material import Material
from imgcls.report.page import write_page

__all__ = ["Run", "finish_run", "load_run"]

#: Raised when the layout of the folder changes.
SCHEMA = 1

#: What `run.json` has in every version.
_NEEDED = {"schema", "checksums", "fingerprint", "num_folds", "root", "positive_given"}


@attrs.frozen(kw_only=True, eq=False)
class Run(Using):
    """A finished run, which is a folder on disk.

    Attributes:
        folder: The folder.
        facts: What `run.json` says.
        data: The set it was trained on, where it is at hand.
        test: The test set outside of it, where there is one.
    """

    def evaluate(
        self, data: Dataset | None = None, *, groups: str | Sequence[str] = (), split: str | None = None, **choices: Any
    ) -> Evaluation:
        """Evaluate predictions again: by the values of columns, by group of images, of another labelled set.

        Thresholds are those of the run, none is fitted on what is evaluated.

        Args:
            data: Another set with the classes of the run, predicted by the mean of the folds; None takes the saved
                predictions.
            groups: Columns, such as "site", for each of whose values metrics are wanted.
            split: Of saved predictions, `test` or `val`; None takes those that the run reports.
            **choices: What `evaluation.summary.reevaluate` takes besides: `aggregation="mean"`, `prevalence=[0.01]`,
                `method="bca"`, `resamples=1000`, `seed=0`; None given, the seed is that of the run.

        Returns:
            The numbers: `table`, `worst`, `facts`; `save(folder)` writes `metrics.csv` and `evaluation.json`.

        Raises:
            ConfigError: if an option or a column is unknown, or `split` is given with another set.
            DataError: if the other set has labels that the run does not know.
        """
        if data is not None and split is not None:
            raise ConfigError(f"'split' must be left out with another set, got {split!r}")
        wanted = split or ("val" if self.used_for_selection else "test")
        found = self.predictions(wanted) if data is None else self._told_of(data)
        validated = None if self._refitted or choices.get("aggregation") is None else self.predictions("val")
        chosen = {"decision": self.model.decision, "validated": validated, "seed": self.seed, **choices}
        evaluation = reevaluate(found, self.thresholds, groups=groups, **chosen)
        return evaluation if data is None else self.opened(evaluation, found)

    def _told_of(self, data: Dataset) -> Predictions:
        if unknown := set(data.classes) - set(self.model.classes):
            remedy = nearest(min(unknown), self.model.classes)
            raise DataError(f"'data' must have labels that the run knows, got {sorted(unknown)!r}; {remedy}")
        own = attrs.evolve(data, classes=self.model.classes, positive=self.model.positive)
        numbers = range(self.facts["num_folds"])
        every = [np.arange(len(own)) for _ in numbers]
        parts = score(own, every, self.model, [self.classifier(number) for number in numbers], split="other")
        told = [calibrate(part, self.calibrations) for part in parts] if self.calibrations else parts
        return Predictions.mean_of_folds(told)

    def refit(self, *, out: str | Path | None = None) -> Run:
        """Train one model on all records but those of a fixed test set, for people who deploy one model.

        It trains for the median of the epochs after which the models of the folds were best. Its
        threshold is that of the mean of the folds, fitted on predictions of records that no model had
        trained on. Its numbers are those of the folds, and its report says so.

        Args:
            out: The folder; None takes `refit` in that of this run.

        Returns:
            The run of the one model.

        Raises:
            RunError: if the run cannot be trained again from its configuration.
        """
        from imgcls.refitting import refit  # above this room: it trains

        return refit(self, out=out)

    def explain(
        self,
        method: str | dict[str, Any] | Explainer = "grad-cam",
        *,
        split: str = "test",
        limit: int | None = 16,
        errors: bool = False,
        target: str | None = None,
        masks: bool | Mapping[str, Any] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> Attributions:
        """Explain predictions by the models that made them, score the maps, and draw panels.

        All goes to `attributions/<method>-<split>` in the run's folder: `maps.npz`, panels with
        `index.csv`, with masks `scores.csv` (by image), `score_means.csv` (by class and group) and
        `score_pixels.csv`, and `shortcuts.csv`, whose warnings the report shows.

        Args:
            method: An explainer's name, spec, or an explainer.
            split: `val` or `test`.
            limit: How many records at most; None takes all.
            errors: Whether to take the worst errors instead of an even sample.
            target: The class to explain; None takes the one that was decided, and of several labels the most
                probable one.
            masks: None scores the maps where the set has masks, True takes records with a mask
                alone, False scores none. Masks by id may be given instead: (h, w), whether or from
                0 to 1 how much each pixel lies inside; of another size than the image they are
                resized by area.
            box: Where a sound decision may rest, as (top, left, bottom, right) in shares of the
                image; it takes the place of the masks in the check for shortcuts.

        Returns:
            The attributions, in the order of the index.

        Raises:
            RunError: if there is nothing to explain, such as no errors.
            UnsupportedModelError: if the method cannot treat the model; with the reason.
        """
        request = Request(limit=limit, errors=errors, target=target, masks=masks, box=box)
        return explain_run(self.subject(split), explainers.create(method), request)

    def report(self, *, check: bool = False) -> Path:
        """Write the HTML page of the run, with what was explained so far.

        Args:
            check: Whether to compare the pixels of all images of the set first, for duplicates across training and
                test, which takes as long as decoding them.

        Returns:
            The file, `report.html` in the run's folder.
        """
        checked = self.data.check(folds=self.folds).problems if check else None
        opened = self.test_openings
        return write_page(
            self.folder / "report.html",
            Material.read(self.folder),
            sets=self._at_hand(),
            notes=[] if opened is None else [str(opened)],
            checked=checked,
        )

    # Without its images a report has no pictures of records, and all the rest.
    def _at_hand(self) -> list[Dataset]:
        found: list[Dataset] = []
        with contextlib.suppress(ImgclsError, OSError):
            found.append(self.data)
        with contextlib.suppress(ImgclsError, OSError):
            found.append(self.tested())
        return found[:1] if len(found) > 1 and found[0] is found[1] else found

    def model_card(self) -> Path:
        """Write the model card: Markdown with the front matter of the Hugging Face Hub.

        What the run knows is filled in; what only its author knows is marked `[to be written]`. A run writes its card
        when it is finished; writing it again replaces the file.

        Returns:
            The file, `model_card.md` in the run's folder.
        """
        return write_card(self.folder / "model_card.md", Material.read(self.folder))

    def figure(self, name: str) -> Drawing:
        """Draw one figure of what the run reports.

        Args:
            name: `roc`, `precision_recall`, `reliability`, `confusion`, `scores`, `thresholds`, `risk_coverage`,
                `forest` or `learning`.

        Returns:
            The figure: `data` are its numbers, `figure` is the matplotlib figure, `save(path)` writes it.

        Raises:
            ConfigError: if there is no figure of that name.
            RunError: if the run has nothing that it could show.
        """
        return draw(Material.read(self.folder), name)

    def figures(self, folder: str | Path | None = None) -> list[Path]:
        """Write all figures that the run has something for, as SVG.

        Args:
            folder: Where to; None takes `figures` in the run's folder.

        Returns:
            The files.
        """
        where = self.folder / "figures" if folder is None else Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        return [one.save(where / f"{one.name}.svg") for one in drawings(Material.read(self.folder))]


def load_run(
    path: str | Path,
    *,
    root: str | Path | None = None,
    data: Dataset | None = None,
    test: Dataset | None = None,
    backbone: Backbone | None = None,
) -> Run:
    """Open a finished run.

    Args:
        path: Its folder.
        root: Where the images are now, if they have moved.
        data: The set itself, for images that were in memory.
        test: The test set outside of it, if there was one.
        backbone: The backbone itself, where no distribution declares it.

    Returns:
        The run; images are read only when they are needed.

    Raises:
        RunError: if the run is missing, unfinished, damaged or of a newer imgcls.
        DataError: if a set is not the one of the run.
    """
    folder = Path(path)
    if not (folder / "run.json").exists():
        if (folder / SUMS).exists():
            raise RunError(
                f"'path' must name the folder of a finished run, got an export at {str(folder)!r}; "
                "'imgcls.load_exported' opens it"
            )
        what = "an unfinished one" if (folder / "config.yaml").exists() else "none"
        raise RunError(f"'path' must name the folder of a finished run, got {what} at {str(folder)!r}")
    facts = read_json(folder / "run.json")
    if not isinstance(facts, dict) or not facts.keys() >= _NEEDED:
        raise RunError(f"'path' must name the folder of a run, got a damaged 'run.json' in {str(folder)!r}")
    if facts["schema"] > SCHEMA:
        raise RunError(f"run {str(folder)!r} must be of schema {SCHEMA} or older, got {facts['schema']}; update imgcls")
    for name, checksum in facts["checksums"].items():
        if not (folder / name).is_file() or sha256(folder / name) != checksum:
            raise RunError(
                f"file {name!r} of run {str(folder)!r} must be as it was written, got a missing or changed one"
            )
    for name, given, key in (("data", data, "fingerprint"), ("test", test, "test_fingerprint")):
        if given is not None and given.fingerprint != facts.get(key):
            raise DataError(f"{name!r} must be the set of the run, got another fingerprint")
    return Run(
        folder=folder,
        facts=facts,
        data=data,
        test=test,
        root=None if root is None else Path(root),
        backbone=backbone,
    )


def finish_run(folder: Path, *, root: Path | None, objective: Sequence[float], **facts: Any) -> None:
    """Write `run.json`, which makes the run complete.

    Args:
        folder: The run's folder.
        root: Where the images are, or None.
        objective: The best monitored value of each fold.
        **facts: What else a run knows of itself.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if _checked_file(folder, path))
    facts |= {"root": None if root is None else str(root.resolve())}
    facts |= {"objective": [float(value) if np.isfinite(value) else None for value in objective]}
    checksums = {name: sha256(folder / name) for name in files}
    header = {"schema": SCHEMA, "status": "complete", "imgcls": imgcls.__version__}
    content = {**header, **facts, "checksums": checksums}
    write_card(folder / "model_card.md", Material.read(folder, content))
    write_json(folder / "run.json", content)


# Weights carry a checksum of their own, which is checked when they are loaded.
def _checked_file(folder: Path, path: Path) -> bool:
    foreign = path.relative_to(folder).parts[0] in {"logs", "wandb", "comet"}  # may be synced away, or grow
    return (
        path.is_file() and path.suffix in {".json", ".csv", ".npz", ".yaml"} and not foreign and path.name != "run.json"
    )
