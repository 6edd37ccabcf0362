"""The Trainer: data, folds, balance, model and stages wired into a Run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np

from imgcls.augment.augment import Augment, Policies, to_augment
from imgcls.balancing.balancer import Balancer
from imgcls.core import config, options
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError, DataError, nearest
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import METHODS
from imgcls.evaluation.thresholds import Rule, parse_rule
from imgcls.evaluation.weighted import marked
from imgcls.execution.cluster import is_executor
from imgcls.fitting import fit_run
from imgcls.models.base import Backbone, backbones
from imgcls.models.head import Head
from imgcls.preparing import divide
from imgcls.run import Run
from imgcls.runtime.device import PRECISIONS
from imgcls.runtime.sources import MODES
from imgcls.splitting.base import Splitter
from imgcls.tracking.base import Tracker, to_trackers
from imgcls.training import fields
from imgcls.training.averaging import Ema
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.losses import num_outputs
from imgcls.training.monitor import OPTIMISTIC, monitor_name
from imgcls.training.optimizers import AdamW, Optimizer, to_optimizer
from imgcls.training.planning import records_of
from imgcls.training.schedules import OneCycle, Schedule, to_schedule
from imgcls.training.side_by_side import is_parallel
from imgcls.training.stages import EarlyStopping, FullStage, NonFinite, Snapshots, Stage, to_balancer

__all__ = ["Trainer"]

#: Options of readers that are paths.
_PATHS = frozenset({"root", "path"})


def _mixes(augment: Augment | Policies) -> bool:
    return any(one.mixes for one in (augment.values() if isinstance(augment, Policies) else [augment]))


@final
@attrs.frozen(kw_only=True)
class Trainer:
    """Everything about a training, ready to run.

    With the data alone it fine-tunes a pretrained resnet18: first the head, then all
    layers; five folds, stratified, groups whole; the checkpoint with the best average
    precision (two classes) or macro AUC is kept.

    Attributes:
        data: The set.
        backbone: A timm model's name, `torchvision/<name>`, another plugin's name, a spec
            `{"name": ..., **options}` or a backbone.
        head: The layers after the backbone.
        test: A fixed test set: `"predefined"` records, a share to cut, another Dataset;
            None lets the folds rotate it; `"auto"` takes predefined records where there
            are some.
        splitter: How the rest becomes folds; None takes `stratified-group-kfold` where the
            set has groups, else `stratified-kfold`.
        balancer: What is done about classes of different size.
        image: The form of the images.
        augment: What happens to training images: the name of a preset, a list of transforms, or one of both for
            each class.
        stages: One after the other.
        optimizer: For stages that name none.
        schedule: For stages that name none.
        monitor: The metric that chooses the checkpoint; None takes `average_precision` for
            two classes or several labels, else `roc_auc`. Ties go to the lower loss, then the higher accuracy. `hter`
            and `f1`, for two classes, are taken at the best threshold of each epoch, so they flatter; the history
            calls them `hter_best` and `f1_best`.
        early_stopping: When a stage ends early; None never.
        decision: The rule of the threshold that `predict` applies, its name or its spec (`parse_rule`), for two
            classes, or for each of several labels; None takes `max_f1`. With more classes None takes the most probable
            one, and a rule gives each a threshold against the rest.
        calibration: How logits become probabilities that keep what they promise: `"temperature"`, `"platt"` or
            `"isotonic"`, fitted to the validation records of each fold, before thresholds are; None takes them as the
            network gives them.
        batch_size: Records a step.
        seed: The seed of everything.
        out: The run's folder; None takes the next free one below `runs`.
        callbacks: Functions that are called with each `StepEnd` and each `EpochEnd`.
        init_from: A run, its folder, or that of one checkpoint, whose weights training begins with. Of
            the same set, each fold takes a model that its test records did not train.
        accumulate: In how many parts a batch goes through the network, whose gradients add up; a batch then needs
            that much less memory.
        clip_grad: The largest norm of the gradient; None does not clip it.
        ema: The moving average of the weights that is validated and kept instead of them; None keeps them.
        average: How many of the best checkpoints are averaged at most, as long as that makes validation no worse; 1
            keeps the best one.
        nonfinite: What is done about a loss that is not finite.
        validate_every: Steps between validations within an epoch; None validates after each epoch alone.
        checkpoint_every: Steps between checkpoints within an epoch; None saves after each epoch.
        snapshots: Which epochs' weights are kept beside the best and the last; None keeps none.
        fold_seeds: The seed of the training of each fold; None derives them from `seed`.
        max_time: Seconds that the training of all folds may take; each has an equal share, and ends after the epoch
            in which it is spent.
        cache_features: Whether the features of a frozen backbone are computed once and kept on disk, where each record
            has only so many pictures: without augmentation, or with `views` of a stage.
        limit: Steps an epoch at most; None takes all.
        overfit: Steps whose records alone are trained on, the same in each epoch and without augmentation, to see
            whether the network can learn them by heart: at the end it is said whether it did. One that cannot has a
            fault, in labels, images or learning rate. None trains on everything.
        fast_run: Whether everything is tried in a moment: one epoch of two steps in each stage. Its numbers mean
            nothing.
        profile: Whether some steps of the first fold are measured, into `profile.txt` and `trace.json`.
        deterministic: Whether torch may only use operations that give the same bits each time; it is an error to
            need others. On a CPU nearly all are so anyway.
        compile: Whether networks are compiled by torch; `"auto"` does so on a GPU where a measurement shows a gain
            and the training is long enough for it.
        trackers: What hears of the training beside the run's own `events.csv`: `"tensorboard"`, `"mlflow"`, specs ...
        train_view: Another picture of the records, of `data.views`, to train on, such as one
            without background; validation and test see the images themselves.
        store: Where decoded images come from: `"disk"`, each decoded once; `"stream"`, decoded
            anew in every epoch; `"auto"`, on disk where there is room.
        workers: Threads that decode; `"auto"` takes one a core.
        on_bad: What to do about unreadable images: `"raise"`, or `"skip"`, which leaves them out
            of every fold and lists them in `skipped.csv`; nothing is put in their place.
        executor: `"local"` trains the folds one after the other, `"processes"` each in a process of its own, `"ray"`
            in processes on the machines of a Ray cluster, with options of `Cluster`: `{"name": "ray", "cpus": 4}`.
        parallel: How many processes at a time; they share the threads and the GPUs.
        device: `"auto"` or a torch device.
        precision: `"fp32"`, `"bf16"`, or `"auto"`, which measures; where a seed is to give the
            same weights to the last bit, name one, since a measurement may come out otherwise.
    """

    data: Dataset = attrs.field(kw_only=False, validator=options.instance(Dataset), repr=False)
    backbone: Backbone = attrs.field(factory=lambda: backbones.create("resnet18"), converter=fields.to_backbone)
    head: Head = attrs.field(factory=Head, converter=fields.to_head, validator=options.instance(Head))
    test: str | float | Dataset | None = attrs.field(default="auto", validator=fields.is_test)
    splitter: Splitter | None = attrs.field(default=None, converter=fields.to_splitter)
    balancer: Balancer = attrs.field(
        factory=Balancer,
        converter=to_balancer,
        validator=options.instance(Balancer),
    )
    image: ImageSpec = attrs.field(
        factory=ImageSpec,
        converter=fields.to_image,
        validator=options.instance(ImageSpec),
    )
    augment: Augment | Policies = attrs.field(
        factory=Augment, converter=to_augment, validator=options.instance(Augment, Policies)
    )
    stages: tuple[Stage, ...] = attrs.field(
        default=(Stage(epochs=2, train="head", lr=3e-3), Stage(epochs=8, train="all", lr=3e-4)),
        converter=fields.to_stages,
        validator=options.several(Stage),
    )
    optimizer: Optimizer = attrs.field(factory=AdamW, converter=to_optimizer, validator=options.instance(Optimizer))
    schedule: Schedule = attrs.field(factory=OneCycle, converter=to_schedule, validator=options.instance(Schedule))
    monitor: str | None = attrs.field(
        default=None, validator=[options.optional(options.instance(str)), fields.is_monitor]
    )
    early_stopping: EarlyStopping | None = attrs.field(
        default=None,
        converter=fields.to_early_stopping,
        validator=options.optional(options.instance(EarlyStopping)),
    )
    decision: str | float | Mapping[str, Any] | None = attrs.field(default=None, validator=fields.is_decision)
    calibration: str | None = attrs.field(default=None, validator=options.optional(options.choice(*METHODS)))
    batch_size: int = attrs.field(default=32, validator=options.count(1))
    seed: int = attrs.field(default=42, validator=options.seed())
    out: str | Path | None = attrs.field(default=None, validator=options.optional(options.instance(str, Path)))
    callbacks: tuple[Callable[[StepEnd | EpochEnd], Any], ...] = attrs.field(
        default=(), converter=options.texts, validator=fields.are_functions
    )
    init_from: str | None = attrs.field(default=None, converter=fields.to_init)
    accumulate: int = attrs.field(default=1, validator=options.count(1))
    clip_grad: float | None = attrs.field(default=None, validator=options.optional(options.number(0, above=True)))
    ema: Ema | None = attrs.field(
        default=None, converter=fields.to_ema, validator=options.optional(options.instance(Ema))
    )
    average: int = attrs.field(default=1, validator=options.count(1))
    nonfinite: NonFinite = attrs.field(
        factory=NonFinite,
        converter=fields.to_nonfinite,
        validator=options.instance(NonFinite),
    )
    validate_every: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))
    checkpoint_every: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))
    snapshots: Snapshots | None = attrs.field(
        default=None,
        converter=fields.to_snapshots,
        validator=options.optional(options.instance(Snapshots)),
    )
    fold_seeds: tuple[int, ...] | None = attrs.field(default=None, converter=options.texts, validator=fields.are_seeds)
    max_time: float | None = attrs.field(default=None, validator=options.optional(options.number(0, above=True)))
    cache_features: bool = attrs.field(default=True, validator=options.instance(bool))
    limit: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))
    overfit: int | None = attrs.field(default=None, validator=options.optional(options.count(1)))
    fast_run: bool = attrs.field(default=False, validator=options.instance(bool))
    profile: bool = attrs.field(default=False, validator=options.instance(bool))
    deterministic: bool = attrs.field(default=False, validator=options.instance(bool))
    compile: bool | str = attrs.field(default="auto", validator=fields.is_switch)
    trackers: tuple[Tracker, ...] = attrs.field(default=(), converter=to_trackers)
    train_view: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    store: str = attrs.field(default="auto", validator=options.choice(*MODES))
    workers: int | str = attrs.field(default="auto", validator=fields.is_workers)
    on_bad: str = attrs.field(default="raise", validator=options.choice("raise", "skip"))
    executor: str | Mapping[str, Any] = attrs.field(default="local", validator=is_executor)
    parallel: int = attrs.field(default=1, validator=is_parallel)
    device: str = attrs.field(default="auto", validator=options.instance(str))
    precision: str = attrs.field(default="auto", validator=options.choice(*PRECISIONS))

    def __attrs_post_init__(self) -> None:
        if self.train_view is not None and self.train_view not in self.data.views:
            known = nearest(self.train_view, self.data.views)
            raise ConfigError(f"'train_view' must be a view of the set, got {self.train_view!r}; {known}")
        present = [name for name, count in self.data.counts().items() if count]
        if len(present) < 2:
            raise DataError(f"'data' must have records of at least two classes, got {present}; add the others")
        if self.data.weights is not None:
            for name in present:
                if not self.data.weights[marked(self.data.labels, self.data.classes.index(name))].any():
                    raise DataError(f"'weight' must be above 0 for some record of each class, got none of {name!r}")
        if self.rule is not None and self.rule.kind == "fixed" and not self._decides:
            raise ConfigError(
                f"'decision' must be a rule that is fitted for more than two classes, got {self.decision!r}, which "
                "would decide as without it; leave it out"
            )
        if self.monitored in OPTIMISTIC.values() and self.data.positive is None:
            raise ConfigError(f"'monitor' must be a metric for any number of classes, got {self.monitor!r}")
        if isinstance(self.test, Dataset) and self.test.multilabel != self.data.multilabel:
            one, several = ("'data'", "'test'") if self.test.multilabel else ("'test'", "'data'")
            raise DataError(
                f"'test' must have labels like those of 'data', got one a record in {one}, several in {several}"
            )
        self._check_effects()
        self._check_stages()

    # An option without effect is refused.
    def _check_effects(self) -> None:
        if self.accumulate > max(self.batch_size // 2, 1):
            raise options.rejected("accumulate", "leave each part two records of a batch", self.accumulate)
        if self.fast_run and self.limit is not None:
            raise options.rejected("limit", "be left out with 'fast_run', which takes two steps", self.limit)
        if self.overfit is not None and (self.limit is not None or self.fast_run):
            raise options.rejected("overfit", "stand alone, without 'limit' and 'fast_run'", self.overfit)
        if self.overfit is None and self.batch_size == 1 and any(_mixes(full.augment) for full in self.full_stages):
            raise options.rejected("batch_size", "be at least 2 where images are mixed", 1)

    # Names of classes, groups and sizes are checked before training.
    def _check_stages(self) -> None:
        records = records_of(self.data, np.arange(len(self.data)))
        for number, full in enumerate(self.full_stages):
            with config.at("balancer" if full.stage.balancer is None else f"stages.{number}.balancer"):
                full.balancer.check(records, batch_size=self.batch_size)
            with config.at("" if full.stage.augment is None else f"stages.{number}"):
                full.augmenter(self.data.classes, multilabel=self.data.multilabel)
            with config.at(f"stages.{number}"):
                full.schedule.check_warmup(full.stage.warmup or 0)
        several = self.data.multilabel
        losses = {
            num_outputs(full.balancer.loss, len(self.data.classes), multilabel=several) for full in self.full_stages
        }
        if len(losses) > 1:
            raise ConfigError("'stages' must all have losses on one logit or all on one a class, got both")

    @property
    def full_stages(self) -> tuple[FullStage, ...]:
        """The stages with what they take from the Trainer."""
        return tuple(map(self._full, self.stages))

    # What a stage leaves open is the Trainer's.
    def _full(self, stage: Stage) -> FullStage:
        return FullStage(
            stage=attrs.evolve(stage, epochs=1, warmup=None) if self.fast_run else stage,
            optimizer=stage.optimizer or self.optimizer,
            schedule=stage.schedule or self.schedule,
            augment=self._augment(stage),
            balancer=stage.balancer or self.balancer,
        )

    def _augment(self, stage: Stage) -> Augment | Policies:
        if self.overfit is not None:
            return Augment()
        return self.augment if stage.augment is None else stage.augment

    @property
    def rule(self) -> Rule | None:
        """The rule of the thresholds that decide; None where the most probable of more than two classes does."""
        if self.decision is None:
            return parse_rule("max_f1") if self._decides else None
        return attrs.evolve(parse_rule(self.decision), every_class=True)

    # Whether thresholds decide if nothing is asked for: for two classes, and for each of several labels.
    @property
    def _decides(self) -> bool:
        return self.data.positive is not None or self.data.multilabel

    @property
    def monitored(self) -> str:
        """The metric that chooses the checkpoint, by its name in the history."""
        return monitor_name(self.monitor or ("average_precision" if self._decides else "roc_auc"))

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> Trainer:
        """Make a Trainer from plain values, such as those of a YAML file.

        Args:
            options: The fields by name; `data` holds the reader as `Dataset.from_config` reads it.

        Returns:
            The Trainer.

        Raises:
            ConfigError: if an option is unknown or wrong; the message has its path.
        """
        if not isinstance(options.get("data"), Mapping):
            raise ConfigError("'data' must be given, with 'from' and the options of that reader")
        return config.build(cls, {**options, "data": Dataset.from_config(options["data"])}, path="")

    def to_config(self) -> dict[str, Any]:
        """Write the Trainer as plain values.

        Returns:
            What `from_config` reads, except for what cannot be rebuilt from a file, which is
            noted as `opaque`: a set in memory, a plugin that no distribution declares.
        """
        opaque = {"opaque": f"{len(self.data)} records, fingerprint {self.data.fingerprint}"}
        names = [field.name for field in attrs.fields(Trainer) if field.name not in {"data", "callbacks"}]
        fields = {name: dump(getattr(self, name)) for name in names}
        if isinstance(self.test, Dataset):
            fields["test"] = {"opaque": f"another set, fingerprint {self.test.fingerprint}"}
        # A configuration means the same wherever it is read, so paths are written in full.
        source = {
            key: str(Path(value).resolve()) if key in _PATHS else value
            for key, value in (self.data.source or {}).items()
        }
        return {"data": dump(source or opaque), **fields}

    def folds(self) -> Folds:
        """Divide the set as `fit` will.

        Returns:
            The folds.

        Raises:
            SplitError: if the set cannot be divided so, or a class has no record to validate
                though thresholds or the monitored metric need it.
        """
        return divide(self)

    def fit(self, *, resume: str = "auto") -> Run:
        """Train every fold, predict what it did not see, and evaluate.

        SIGINT and SIGTERM end it after the current step with a checkpoint and exit code 75; the
        same command goes on from there, and so it does after a crash, from the last checkpoint.
        The weights are then the same to the last bit as without the interruption. Processes
        that `torchrun` started train together, each on its share of every batch.

        Args:
            resume: What to do if `out` holds a run with the same options: `"auto"` continues an
                unfinished one and opens a finished one, `"never"` refuses both.

        Returns:
            The finished run.

        Raises:
            ImgclsError: if data, options or training are at fault; the message says how.
            Interrupted: if a signal came.
        """
        return fit_run(self, resume=resume)
