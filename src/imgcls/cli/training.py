"""Commands that train: the demonstration, configurations, training, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import imgcls
from imgcls.cli.app import app
from imgcls.cli.reading import changes_of, open_set, print_result, reader_of
from imgcls.core.errors import ConfigError


@app.command()
def demo(out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None) -> None:
    """Train, evaluate and explain on handwritten digits, in about a minute on two cores.

    Example: imgcls demo
    """
    from imgcls.demo import run_demo

    print_result(run_demo(out))


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A folder of class folders, or a CSV or npz file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader, such as group=patient.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("imgcls.yaml"),
) -> None:
    """Look at a set and write a configuration for it, with comments that say why.

    Example: imgcls init chest_xray/ --out chest.yaml
    """
    from imgcls.core.folders import write_text
    from imgcls.proposing import propose_config

    if out.exists():
        raise ConfigError(f"'--out' must name a new file, got {str(out)!r}")
    changes = changes_of(overrides)
    _refuse_later(changes, out)
    source = {**reader_of(data), **changes}
    write_text(out, propose_config(imgcls.Dataset.from_config(source), source))
    print(f"{out.resolve()}\nRead it, then: imgcls train {out}")


# Both the trainer and readers of tables have an option 'image'.
def _refuse_later(changes: dict[str, Any], out: Path) -> None:
    import attrs

    later = {field.alias for field in attrs.fields(imgcls.Trainer)} - {"data", "image"}
    for path, value in changes.items():
        if path.partition(".")[0] in later:
            raise ConfigError(
                f"{path!r} must be left out here, which takes options of the reader, got {value!r}; change it in the "
                f"file, or: imgcls train {out} {path}={value}"
            )


@app.command()
def schema(out: Annotated[Path | None, typer.Option(help="A JSON file; without it it is printed.")] = None) -> None:
    """Write the JSON schema of configurations, for editors that complete and check them.

    With `# yaml-language-server: $schema=schema.json` as its first line a YAML file is checked while it is written.

    Example: imgcls schema --out schema.json
    """
    import json

    from imgcls.core.folders import write_text
    from imgcls.schema import config_schema

    text = json.dumps(config_schema(), indent=1)
    if out is None:
        print(text)
    else:
        write_text(out, text + "\n")
        print(f"Schema: {out.resolve()}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file: 'data' and the Trainer's options.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes such as stages.0.lr=1e-4")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run; without one it is an error.")] = False,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Evaluate the finished run of this configuration again.")
    ] = False,
) -> None:
    """Train what a configuration describes; an unfinished run with the same options goes on.

    Example: imgcls train chest.yaml out=runs/chest stages.0.lr=1e-4
    """
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config
    from imgcls.trainer import Trainer

    changes = changes_of(overrides)
    options = read_config(config)
    for_data = {path: value for path, value in changes.items() if path.split(".")[0] == "data"}
    trainer = Trainer.from_config(replace(options, for_data))
    trainer = replace(trainer, {path: value for path, value in changes.items() if path not in for_data})
    _check_begun(trainer, wanted=resume, finished=evaluate_only)
    run = trainer.fit()
    if evaluate_only:
        print(run.evaluate())
    run.report()
    print_result(run)


@app.command()
def fit(
    data: Annotated[
        Path, typer.Argument(help="A folder of class folders, a CSV or npz file, or the 'data' of a YAML file.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the reader, such as group=patient.")] = None,
    *,
    minutes: Annotated[float, typer.Option(help="The time for everything.")] = 20,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="A backbone, its name or YAML; may be given several times, cheap ones first."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the Trainer, such as image.size=128.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
) -> None:
    """Probe several backbones and fine-tune the best one, all within a time; an unfinished one goes on.

    Example: imgcls fit chest_xray/ group='(person[0-9]+_[a-z]+|(?:NORMAL2-)?IM-[0-9]+)' --minutes 20 --out runs/chest
    """
    from imgcls.core.config import from_yaml

    options = _trainer_options(option)
    opened = open_set(data, changes_of(overrides))
    given = None if backbone is None else [from_yaml(text, source="--backbone") for text in backbone]
    run = imgcls.fit(opened, minutes=minutes, backbones=given, out=out, **options)
    run.report()
    print_result(run)


def _trainer_options(texts: list[str] | None) -> dict[str, Any]:
    from imgcls.core.config import replace

    options: dict[str, Any] = replace({}, changes_of(texts))
    own = sorted({"data", "minutes", "backbones", "out"} & set(options))
    if own:
        raise ConfigError(f"'--set' must give options of the Trainer, got {own[0]!r}; the command itself takes it")
    return options


@app.command()
def search(
    config: Annotated[str, typer.Argument(help="A YAML file as for 'train' with 'search', or the word 'show'.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes such as search.trials=50; for 'show' the folder of a search.")
    ] = None,
) -> None:
    """Try variants of what a configuration describes, or show what a search found; an unfinished one goes on.

    Example: imgcls search chest.yaml search.trials=30, then imgcls search show runs/search
    """
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config
    from imgcls.searching.showing import shown

    if config == "show":
        if not overrides or len(overrides) > 1:
            raise ConfigError(f"'show' must be followed by the folder of a search, got {overrides or []!r}")
        print(shown(Path(overrides[0])))
        return
    changes = changes_of(overrides)
    searcher = imgcls.Searcher.from_config(replace(read_config(Path(config)), changes))
    searcher.run()
    print(shown(searcher.out))


# What is to go on must be there; training it anew would surprise.
def _check_begun(trainer: imgcls.Trainer, *, wanted: bool, finished: bool) -> None:
    folder = None if trainer.out is None else Path(trainer.out)
    if wanted and (folder is None or not (folder / "config.yaml").exists()):
        raise ConfigError(f"'out' must name a run that has begun for '--resume', got {trainer.out!r}")
    if finished and (folder is None or not (folder / "run.json").exists()):
        raise ConfigError(f"'out' must name a finished run for '--evaluate-only', got {trainer.out!r}")
