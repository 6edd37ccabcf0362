"""The Trainer: data, folds, balance, model and stages wired into a Run."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np

from imgcls.balancing.balancer import Balancer
from imgcls.core import config, options
from imgcls.core.dumping import dump, spec_of
from imgcls.core.environment import environment
from imgcls.core.errors import ConfigError, DataError, RunError, SplitError, nearest
from imgcls.core.folders import hold, reserved, write_json, write_text
from imgcls.core.progress import say
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.results import conclude
from imgcls.evaluation.thresholds import parse_rule
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Backbone, Classifier, backbones
from imgcls.models.head import Head
from imgcls.run import Run, finish_run, load_run
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import PRECISIONS, Runtime, choose_runtime, pick_device
from imgcls.runtime.sources import MODES, Source, open_source, resolved
from imgcls.splitting.base import Splitter, splitters
from imgcls.splitting.kfold import StratifiedGroupKFold, StratifiedKFold
from imgcls.splitting.plan import plan_readable
from imgcls.training.fold import FoldResult, Recipe, train_fold, write_skipped
from imgcls.training.loop import EpochEnd
from imgcls.training.losses import num_outputs
from imgcls.training.monitor import monitor_direction
from imgcls.training.optim import AdamW, OneCycle, Optimizer, Schedule, to_optimizer, to_schedule
from imgcls.training.stages import EarlyStopping, Stage

__all__ = ["Trainer"]

#: Metrics that are defined where a class has no record.
_OF_ALL_RECORDS = frozenset({"loss", "accuracy"})

#: Options of readers that are paths.
_PATHS = frozenset({"root", "path"})

#: How many images the measurement of device and precision uses.
_PROBE = 8


def _backbone(spec: Any) -> Backbone:
    return backbones.create(spec)


def _splitter(spec: Any) -> Splitter | None:
    return None if spec == "auto" or spec is None else splitters.create(spec)


def _head(value: Any) -> Any:
    return config.nested(Head, value, path="head")


def _balancer(value: Any) -> Any:
    return config.nested(Balancer, value, path="balancer")


def _image(value: Any) -> Any:
    return config.nested(ImageSpec, value, path="image")


def _stages(value: Any) -> Any:
    return config.nested_list(Stage, value, path="stages")


def _early_stopping(value: Any) -> Any:
    return config.nested(EarlyStopping, value, path="early_stopping")


def _test(_: Any, __: Any, value: Any) -> None:
    share = isinstance(value, float) and 0 < value < 1
    if not (value is None or share or isinstance(value, Dataset) or value in ("auto", "predefined")):
        raise options.rejected("test", "be 'auto', 'predefined', None, a share between 0 and 1 or a Dataset", value)


def _monitor(_: Any, __: Any, value: Any) -> None:
    if value is not None:
        monitor_direction(value)


def _decision(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        options.instance(str, int, float)(_, field, value)
        parse_rule(value, name=field.name)


def _workers(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value != "auto":
        options.count(1)(_, field, value)


def _functions(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple) or not all(map(callable, value)):
        raise options.rejected(field.name, "be a list of functions", value)


# Checkpoint and thresholds are chosen on validation records; without both classes that would fail after the training.
def _refuse_blind(folds: Folds, data: Dataset) -> None:
    for number, fold in enumerate(folds):
        missing = set(range(len(data.classes))) - set(data.labels[fold.val].tolist())
        if missing:
            raise SplitError(
                f"fold {number} must validate on every class, got none of {data.classes[missing.pop()]!r}; use fewer "
                "folds, a larger 'val', another seed, or name other validation records"
            )


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
        stages: One after the other.
        optimizer: For stages that name none.
        schedule: For stages that name none.
        monitor: The metric that chooses the checkpoint; None takes `average_precision` for
            two classes, else `roc_auc`. Ties go to the lower loss, then the higher accuracy.
        early_stopping: When a stage ends early; None never.
        decision: The rule of the threshold that `predict` applies, for two classes; None
            takes `max_f1`. With more classes the most probable one is taken.
        batch_size: Records a step.
        seed: The seed of everything.
        out: The run's folder; None takes the next free one below `runs`.
        callbacks: Functions that are called with each `EpochEnd`.
        train_view: Another picture of the records, of `data.views`, to train on, such as one
            without background; validation and test see the images themselves.
        store: Where decoded images come from: `"disk"`, each decoded once; `"stream"`, decoded
            anew in every epoch; `"auto"`, on disk where there is room.
        workers: Threads that decode; `"auto"` takes one a core.
        on_bad: What to do about unreadable images: `"raise"`, or `"skip"`, which leaves them out
            of every fold and lists them in `skipped.csv`; nothing is put in their place.
        device: `"auto"` or a torch device.
        precision: `"fp32"`, `"bf16"`, or `"auto"`, which measures; where a seed is to give the
            same weights to the last bit, name one, since a measurement may come out otherwise.
    """

    data: Dataset = attrs.field(kw_only=False, validator=options.instance(Dataset), repr=False)
    backbone: Backbone = attrs.field(factory=lambda: backbones.create("resnet18"), converter=_backbone)
    head: Head = attrs.field(factory=Head, converter=_head, validator=options.instance(Head))
    test: str | float | Dataset | None = attrs.field(default="auto", validator=_test)
    splitter: Splitter | None = attrs.field(default=None, converter=_splitter)
    balancer: Balancer = attrs.field(
        factory=Balancer,
        converter=_balancer,
        validator=options.instance(Balancer),
    )
    image: ImageSpec = attrs.field(
        factory=ImageSpec,
        converter=_image,
        validator=options.instance(ImageSpec),
    )
    stages: tuple[Stage, ...] = attrs.field(
        default=(Stage(epochs=2, train="head", lr=3e-3), Stage(epochs=8, train="all", lr=3e-4)),
        converter=_stages,
        validator=options.several(Stage),
    )
    optimizer: Optimizer = attrs.field(factory=AdamW, converter=to_optimizer, validator=options.instance(Optimizer))
    schedule: Schedule = attrs.field(factory=OneCycle, converter=to_schedule, validator=options.instance(Schedule))
    monitor: str | None = attrs.field(default=None, validator=[options.optional(options.instance(str)), _monitor])
    early_stopping: EarlyStopping | None = attrs.field(
        default=None,
        converter=_early_stopping,
        validator=options.optional(options.instance(EarlyStopping)),
    )
    decision: str | float | None = attrs.field(default=None, validator=_decision)
    batch_size: int = attrs.field(default=32, validator=options.count(2))
    seed: int = attrs.field(default=42, validator=options.seed())
    out: str | Path | None = attrs.field(default=None, validator=options.optional(options.instance(str, Path)))
    callbacks: tuple[Callable[[EpochEnd], Any], ...] = attrs.field(
        default=(), converter=options.texts, validator=_functions
    )
    train_view: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    store: str = attrs.field(default="auto", validator=options.choice(*MODES))
    workers: int | str = attrs.field(default="auto", validator=_workers)
    on_bad: str = attrs.field(default="raise", validator=options.choice("raise", "skip"))
    device: str = attrs.field(default="auto", validator=options.instance(str))
    precision: str = attrs.field(default="auto", validator=options.choice(*PRECISIONS))

    def __attrs_post_init__(self) -> None:
        if self.data.multilabel:
            raise ConfigError("'data' must have one label a record to be trained on, got several")
        if self.train_view is not None and self.train_view not in self.data.views:
            known = nearest(self.train_view, self.data.views)
            raise ConfigError(f"'train_view' must be a view of the set, got {self.train_view!r}; {known}")
        present = [name for name, count in self.data.counts().items() if count]
        if len(present) < 2:
            raise DataError(f"'data' must have records of at least two classes, got {present}; add the others")
        if self.data.weights is not None:
            for name in present:
                if not self.data.weights[self.data.labels == self.data.classes.index(name)].any():
                    raise DataError(f"'weight' must be above 0 for some record of each class, got none of {name!r}")
        if self.balancer.loss == "bce" and len(self.data.classes) != 2:
            raise ConfigError("'balancer.loss' must be 'cross-entropy' for more than two classes, got 'bce'")
        if self.decision is not None and self.data.positive is None:
            raise ConfigError(f"'decision' must be left out for more than two classes, got {self.decision!r}")
        with config.at("balancer"):  # names of classes are checked before training
            self.balancer.weights(self.data.labels, self.data.classes)

    @property
    def monitored(self) -> str:
        """The metric that chooses the checkpoint."""
        return self.monitor or ("roc_auc" if self.data.positive is None else "average_precision")

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
        return self._folds(())

    def _folds(self, bad: Collection[int]) -> Folds:
        grouped = self.data.groups is not None
        splitter = self.splitter or (StratifiedGroupKFold() if grouped else StratifiedKFold())
        folds = plan_readable(self.data, bad, splitter, test=self.test, seed=self.seed)
        if folds.num_repeats > 1:  # pooled, each record would count once a repeat
            raise ConfigError(
                f"'splitter' must use each record once in a run, got {folds.num_repeats} repeats; train one run a seed"
            )
        if self.data.positive is not None or self.monitored not in _OF_ALL_RECORDS:
            _refuse_blind(folds, self.data)
        return folds

    def fit(self) -> Run:
        """Train every fold, predict what it did not see, and evaluate.

        Returns:
            The finished run.

        Raises:
            ImgclsError: if data, options or training are at fault; the message says how.
        """
        started = time.time()
        folds = self.folds()  # what is wrong with them is said before anything is decoded
        with reserved(self.out) as folder:
            recipe, model = self._prepare()
            folds = self._folds(recipe.bad) if recipe.bad else folds
            with hold(folder / ".lock", timeout=0):
                self._begin(folder, folds, model, recipe)
                results = [
                    train_fold(recipe, fold, number, folder / f"fold_{number}", label=f"Fold {number + 1}/{len(folds)}")
                    for number, fold in enumerate(folds)
                ]
                facts = {"seconds": round(time.time() - started, 1), "skipped": recipe.skipped}
                self._finish(folder, results, fixed=self._fixed(folds), facts=facts)
        test = self.test if isinstance(self.test, Dataset) else None
        return load_run(folder, data=self.data, test=test, backbone=self.backbone)

    # Everything that can fail for want of weights, memory or readable images fails here, before training.
    def _prepare(self) -> tuple[Recipe, SavedModel]:
        probe = self._build(self.seed)
        own = attrs.evolve(self.image, mean=probe.facts.mean, std=probe.facts.std)
        spec = self.image if self.image.mean is not None else own
        source = self._open(self.data, spec)
        seen = np.setdiff1d(np.arange(len(self.data)), list(source.bad))[: min(_PROBE, self.batch_size)]
        first = Runtime(device=pick_device(self.device))
        batches = Batches.over(source, first, spec=resolved(spec, source, seen))
        runtime = choose_runtime(probe, batches.images(seen).cpu(), device=self.device, precision=self.precision)
        return self._recipe(source, spec, runtime), self._model(spec)

    def _open(self, data: Dataset, spec: ImageSpec, view: str | None = None) -> Source:
        workers = None if isinstance(self.workers, str) else self.workers
        return open_source(data, spec, view=view, mode=self.store, on_bad=self.on_bad, workers=workers)

    def _build(self, seed: int) -> Classifier:
        return self.backbone.build(
            num_outputs(self.balancer.loss, len(self.data.classes)),
            in_channels=self.image.channels,
            image_size=self.image.size,
            head=self.head,
            seed=seed,
        )

    def _recipe(self, source: Source, spec: ImageSpec, runtime: Runtime) -> Recipe:
        # Which class is positive is said by the set that trains, not by the numbers of the test set.
        test = attrs.evolve(self.test, positive=self.data.positive) if isinstance(self.test, Dataset) else None
        source = source.to(runtime.device)
        viewed = None if self.train_view is None else self._open(self.data, spec, self.train_view)
        return Recipe(
            dataset=self.data,
            source=source,
            train_source=source if viewed is None else viewed.to(runtime.device),
            test=None if test is None else (test, self._open(test, spec).to(runtime.device)),
            spec=spec,
            runtime=runtime,
            build=self._build,
            balancer=self.balancer,
            stages=self.stages,
            optimizer=self.optimizer,
            schedule=self.schedule,
            monitor=self.monitored,
            early_stopping=self.early_stopping,
            batch_size=self.batch_size,
            seed=self.seed,
            callbacks=self.callbacks,
        )

    def _model(self, spec: ImageSpec) -> SavedModel:
        return SavedModel(
            backbone=spec_of(self.backbone),
            head=self.head,
            image=spec,
            num_outputs=num_outputs(self.balancer.loss, len(self.data.classes)),
            classes=self.data.classes,
            positive=self.data.positive,
            decision="".join(self._rules()),
        )

    # The rule that decides; none for more than two classes.
    def _rules(self) -> list[str]:
        rule = "max_f1" if self.decision is None else self.decision
        return [] if self.data.positive is None else [parse_rule(rule).name]

    # With one fold, or one test set for all folds, every model predicts the same test records.
    def _fixed(self, folds: Folds) -> bool:
        return isinstance(self.test, Dataset) or all(np.array_equal(fold.test, folds[0].test) for fold in folds)

    def _begin(self, folder: Path, folds: Folds, model: SavedModel, recipe: Recipe) -> None:
        if self.data.positive is not None and not self.data.positive_given:
            say(f"Positive class: {self.data.positive} (the rarer one; name another with 'positive')")
        if self.splitter is None and self.data.splits is not None and np.any(self.data.splits == "val"):
            say("The set's own validation records join the folds (splitter 'predefined' keeps them apart)")
        if "name" not in model.backbone:
            say("The backbone is not declared by any distribution: to open this run again, give it to 'load_run'")
        if (folder / "config.yaml").exists():  # of another process, while this one prepared
            raise RunError(f"'out' must be a new or empty folder, got {str(folder)!r}; choose another name")
        write_text(folder / "config.yaml", config.to_yaml(self.to_config()))
        runtime = attrs.asdict(recipe.runtime)
        write_json(folder / "environment.json", {**environment(), "runtime": runtime, "seed": self.seed})
        write_text(folder / "manifest.csv", self.data.frame.to_csv(index=False))
        folds.save(folder / "splits.json", self.data)
        model.save(folder / "model.json")
        if recipe.skipped:
            write_skipped(folder / "skipped.csv", recipe)

    def _finish(self, folder: Path, results: list[FoldResult], *, fixed: bool, facts: Mapping[str, Any]) -> None:
        tests = [result.test for result in results if result.test is not None]
        conclude(folder, [result.val for result in results], tests, fixed=fixed, rules=self._rules(), seed=self.seed)
        finish_run(
            folder,
            num_folds=len(results),
            fingerprint=self.data.fingerprint,
            test_fingerprint=self.test.fingerprint if isinstance(self.test, Dataset) else None,
            root=self.data.root,
            positive_given=self.data.positive_given,
            mask_threshold=self.data.mask_threshold,
            monitor=self.monitored,
            objective=[result.best.val[self.monitored] for result in results],
            **facts,
        )
