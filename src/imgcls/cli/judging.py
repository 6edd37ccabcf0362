"""Commands that judge a run: evaluation, explanation, reports, comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import imgcls
from imgcls.cli.app import app
from imgcls.cli.reading import changes_of, open_set
from imgcls.core.errors import ConfigError


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader of --on.")] = None,
    *,
    on: Annotated[Path | None, typer.Option(help="A labelled set; without it the saved predictions.")] = None,
    groups: Annotated[list[str] | None, typer.Option(help="A column for whose values metrics are wanted.")] = None,
    split: Annotated[str | None, typer.Option(help="test or val, of saved predictions.")] = None,
    aggregation: Annotated[str | None, typer.Option(help="mean, max or noisy-or: by group of images too.")] = None,
    prevalence: Annotated[list[float] | None, typer.Option(help="Predictive values at this prevalence.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; without it evaluations/ in the run's folder.")] = None,
) -> None:
    """Evaluate a run again, from its saved predictions or on another labelled set.

    Example: imgcls evaluate runs/chest --groups site --aggregation mean
    """
    from imgcls.run import load_run

    opened = load_run(run)
    data = None if on is None else open_set(on, changes_of(overrides))
    if data is None and overrides:
        raise ConfigError(f"options of a reader must come with '--on', got {overrides!r}")
    found = opened.evaluate(
        data, groups=groups or (), split=split, aggregation=aggregation, prevalence=prevalence or ()
    )
    name = "-".join([split or "reported" if on is None else on.stem, *(groups or ())])
    where = found.save(out or opened.folder / "evaluations" / name)
    print(f"{found}\n\nNumbers: {where}")


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    method: Annotated[str, typer.Option(help="An explainer; 'imgcls plugins' lists them. Or YAML.")] = "grad-cam",
    split: Annotated[str, typer.Option(help="test or val")] = "test",
    limit: Annotated[int, typer.Option(help="How many images at most; 0 takes all.")] = 16,
    target: Annotated[str | None, typer.Option(help="The class to explain; without it what was decided.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="The worst errors.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Images with a mask alone.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Draw relevance maps of a run's images, score them where there are masks, and put them into its report.

    Example: imgcls explain runs/chest --errors
    """
    from imgcls.core.config import from_yaml
    from imgcls.run import load_run

    opened = load_run(run, root=root)
    found = opened.explain(
        from_yaml(method, source="--method"),
        split=split,
        limit=limit or None,
        target=target,
        errors=errors,
        masks=masks or None,
    )
    print(f"{len(found)} maps: {opened.folder / 'attributions'}\nReport: {opened.report()}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="The folder of a run; of several runs they are compared.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Look for duplicates across training and test first.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Write the model card anew as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page of several runs.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the images are now, if they have moved.")] = None,
) -> None:
    """Write the page of a run, finished or not, or one that compares several runs on the same records.

    Example: imgcls report runs/chest

    Example: imgcls report runs/resnet runs/convnext --out comparison.html
    """
    if len(runs) == 1:
        if out is not None:
            raise ConfigError(f"'--out' must come with several runs, got {str(out)!r}; one has its page in its folder")
        print(f"Report: {_report_of(runs[0], check=check, card=card, root=root).resolve()}")
        return
    if check or card or root is not None:
        raise ConfigError("'--check', '--card' and '--root' must come with one run, got several")
    print(f"Comparison: {_compared(runs).report(out or 'comparison.html').resolve()}")


# What is unfinished or damaged cannot be opened; its page says what is missing and shows the rest.
def _report_of(folder: Path, *, check: bool, card: bool, root: Path | None) -> Path:
    from imgcls.core.errors import RunError
    from imgcls.report.material import Material
    from imgcls.report.page import write_page
    from imgcls.run import load_run

    try:
        run = load_run(folder, root=root)
    except RunError as error:
        if check or card or root is not None:
            raise
        found = write_page(folder / "report.html", Material.read(folder))
        print(f"imgcls: {error}\nThe page shows what there is.", file=sys.stderr)
        return found
    if card:
        print(f"Model card: {run.model_card()}")
    return run.report(check=check)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="The folders of two runs or more.")],
    *,
    split: Annotated[str | None, typer.Option(help="test or val; without it test, where there is one.")] = None,
    common: Annotated[bool, typer.Option("--common", help="On the records that all runs judged.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the tables as CSV.")] = None,
    page: Annotated[Path | None, typer.Option("--report", help="An HTML file that shows it all.")] = None,
) -> None:
    """Say whether runs differ on the records that all of them judged.

    Example: imgcls compare runs/resnet runs/convnext --report comparison.html
    """
    found = _compared(runs, split=split, records="common" if common else "same")
    print(found)
    if out is not None:
        print(f"\nTables: {found.save(out)}")
    if page is not None:
        print(f"\nReport: {found.report(page).resolve()}")


def _compared(folders: list[Path], **choices: Any) -> imgcls.Comparison:
    from imgcls.comparison import compare_runs

    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    return compare_runs(dict(zip(names, folders, strict=True)), **choices)
