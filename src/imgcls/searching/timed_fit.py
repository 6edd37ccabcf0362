"""A good model within a given time: backbones are probed, and the best one is fine-tuned."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from imgcls.core import config, options
from imgcls.core.dumping import dump
from imgcls.core.errors import RunError, WeightsError
from imgcls.core.folders import new_folder, read_json, write_json
from imgcls.core.options import rejected
from imgcls.core.progress import say, warn
from imgcls.data.dataset import Dataset
from imgcls.preparing import build, kept_models
from imgcls.run import Run
from imgcls.searching.choosing import chosen
from imgcls.trainer import Trainer

__all__ = ["BACKBONES", "fit"]

#: From cheap to dear; what is dear is left out where time is short.
BACKBONES = ("mobilenetv3_large_100", "resnet18", "convnext_nano", "vit_small_patch16_224")

#: What is decided here, so that it cannot be given.
_OWN = ("backbone", "stages", "max_time", "init_from", "fast_run", "overfit", "executor", "parallel")

#: What a fit notes of its choice before the training begins.
_CHOICE = "fit.json"


def fit(
    data: Dataset,
    *,
    minutes: float = 20,
    backbones: Sequence[Any] | None = None,
    out: str | Path | None = None,
    **others: Any,
) -> Run:
    """Choose a backbone and fine-tune it, all within a given time.

    Linear models of the features of each backbone are judged out of fold on the records outside of test, groups whole.
    Of those that the time is enough to fine-tune for some epochs the best one is taken: first its head trains, then all
    of it, for as many epochs as steps that were timed allow. Test records take no part in any choice; they are the
    set's own, or else a fifth of it, cut by groups. The run is that of an ordinary Trainer, whose configuration is in
    its folder; `fit.json` beside it says what was probed and why it was chosen. The same call goes on with a run
    that was interrupted.

    Args:
        data: The set.
        minutes: The time for everything. Training ends after the epoch in which it is over. Images that no earlier run
            decoded are decoded first, however long that takes, and kept for later runs.
        backbones: Names, specs such as `{"name": "resnet18", "weights": "resnet18.safetensors"}` or backbones, cheap
            ones first; each must be there. None takes four of different cost, without those whose pretrained weights
            cannot be had, which is said.
        out: The run's folder; None takes the next free one below `runs`.
        **others: Options of the Trainer, such as `image`, `augment`, `test`, `splitter`, `seed`; the
            splitter is by default one division (`holdout`), so that the time goes into one model.

    Returns:
        The finished run.

    Raises:
        ConfigError: if an option is wrong, or the time is too short even to train a head; with the time that is needed.
        WeightsError: if the weights of a backbone cannot be had.
    """
    asked = _Asked(data=data, minutes=minutes, backbones=backbones, others=others)
    with kept_models():
        choice = _made_before(out, asked)
        if choice is None:
            trainers = asked.trainers()
            out = new_folder(out)
            choice = chosen(trainers, left=lambda: asked.left, seconds=60 * minutes)
            choice |= {"seconds": round(60 * minutes - asked.left, 1), "asked": asked.facts()}
            write_json(out / _CHOICE, choice)
        say(f"{choice['winner']}: {choice['why']}; {choice['plan']}")
        return attrs.evolve(asked.trainer(choice["number"]), out=str(out), **choice["options"]).fit()


def _is_sequence(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, str | Mapping) or not isinstance(value, Sequence) or not value):
        raise rejected(field.name, "be a list of backbones, or None", value)


@attrs.frozen(kw_only=True, eq=False)
class _Asked:
    """What a user asked for."""

    data: Dataset = attrs.field(validator=options.instance(Dataset))
    minutes: float = attrs.field(validator=options.number(0, above=True))
    backbones: Sequence[Any] | None = attrs.field(validator=_is_sequence)
    others: dict[str, Any]
    started: float = attrs.field(factory=time.perf_counter)

    def __attrs_post_init__(self) -> None:
        for name in _OWN:
            if name in self.others:
                raise rejected(name, "be left out here", self.others[name], "a Trainer takes it")
        if self.others.get("test", 0) is None:
            rule = "be a fixed test set, whose records take no part in the choice of a backbone"
            raise rejected("test", rule, None, "leave it out, or give a share")

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return 60 * self.minutes - (time.perf_counter() - self.started)

    @functools.cached_property
    def given(self) -> dict[str, Any]:
        """The options of the Trainer."""
        known = set() if self.data.splits is None else set(self.data.splits.tolist())
        others = {
            name: value
            for name, value in self.others.items()
            if name != "test" or not isinstance(value, str) or value != "auto"
        }
        if "test" in others or not known >= {"val", "test"}:
            test = "predefined" if "test" in known else 0.2
            return {"test": test, "splitter": {"name": "holdout", "val": 0.2}, **others}
        return {"test": "predefined", "splitter": "predefined", **others}

    def trainer(self, number: int) -> Trainer:
        """Make the Trainer of a backbone.

        Args:
            number: Its place in the list.

        Returns:
            The Trainer.
        """
        backbone = (self.backbones or BACKBONES)[number]
        return config.build(Trainer, {"data": self.data, "backbone": backbone, **self.given}, path="")

    def trainers(self) -> dict[int, Trainer]:
        """Make a Trainer for each backbone whose weights are there.

        Returns:
            The Trainers by their place in the list.

        Raises:
            WeightsError: if there is none, or one is missing that was named.
        """
        made: dict[int, Trainer] = {}
        missing: list[WeightsError] = []
        for number in range(len(self.backbones or BACKBONES)):
            trainer = self.trainer(number)
            try:
                build(trainer, trainer.seed)
            except WeightsError as error:
                if self.backbones is not None:
                    raise
                missing.append(error)
            else:
                made[number] = trainer
        if not made:
            raise WeightsError(
                f"pretrained weights of one of {list(BACKBONES)} must be there, got none; {missing[0]}; files "
                'are given as backbones=[{"name": "resnet18", "weights": "resnet18.safetensors"}]'
            )
        for one in missing:
            warn(f"Left out: {one}")
        return made

    def facts(self) -> dict[str, Any]:
        """Say what another call must have asked for to go on with this one.

        Returns:
            Plain values.
        """
        trainer = {name: value for name, value in self.trainer(0).to_config().items() if name in self.given}
        own = {"data": self.data.fingerprint, "minutes": self.minutes, "backbones": dump(self.backbones)}
        return {**own, **trainer}


# What was chosen in the folder, if the same is asked for.
def _made_before(out: str | Path | None, asked: _Asked) -> dict[str, Any] | None:
    if out is None or not (Path(out) / _CHOICE).exists():
        return None
    choice: dict[str, Any] = read_json(Path(out) / _CHOICE)
    before, now = choice["asked"], json.loads(json.dumps(asked.facts()))
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            what = f"{name!r} must stay {before.get(name)!r} as in {str(out)!r}"
            raise RunError(f"{what}, got {now.get(name)!r}; put it back, or choose another 'out'")
    return choice
