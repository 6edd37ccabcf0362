from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import nn

import imgcls
from imgcls import Backbone, Balancer, Dataset, EarlyStopping, Facts, Head, Run, Stage, Trainer, backbones, load_run
from imgcls.balancing.samplers import Uniform, Weighted
from imgcls.core.config import from_yaml, to_yaml
from imgcls.core.dumping import spec_of
from imgcls.core.errors import (
    ConfigError,
    DataError,
    DecodeError,
    ImgclsError,
    RunError,
    SplitError,
    UnknownPluginError,
)
from imgcls.core.folders import hold
from imgcls.models.small_cnn import SmallCnn
from imgcls.splitting.kfold import StratifiedGroupKFold, StratifiedKFold
from imgcls.testing import blobs, write_image_folder
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.optimizers import AdamW, Sgd

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: Mapping[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 1, "lr": 0.03, "optimizer": "sgd"}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}
HOLDOUT = {"splitter": {"name": "holdout", "val": 0.3, "test": 0.3}}


def trainer(data: Dataset | None = None, **changes: Any) -> Trainer:
    return Trainer(data or blobs(size=8), **{**SMALL, **changes})


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Run]:
    return lambda data=None, **changes: trainer(data, **{"out": tmp_path / "run", **changes}).fit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=8))


def from_folder(folder: Path) -> Dataset:
    return Dataset.from_folder(folder, group="(g[0-9]+)-")


def config_of(folder: Path) -> dict[str, Any]:
    return {"data": {"from": "folder", "root": str(folder), "group": "(g[0-9]+)-"}, **SMALL}


# What the defaults are


def test_the_default_is_a_resnet18_of_timm_trained_head_first() -> None:
    default = Trainer(blobs())
    assert spec_of(default.backbone) == spec_of(backbones.create({"name": "timm", "model": "resnet18"}))
    assert [stage.train for stage in default.stages] == ["head", "all"]
    assert default.balancer.sampler == Uniform()
    assert default.balancer.class_weights is None
    assert default.optimizer == AdamW()
    assert default.image.size == (224, 224)
    assert default.decision is None


@pytest.mark.parametrize(("grouped", "splitter"), [(True, StratifiedGroupKFold()), (False, StratifiedKFold())])
def test_the_default_splitter_keeps_groups_where_there_are_some(grouped: bool, splitter: imgcls.Splitter) -> None:
    data = blobs(grouped=grouped, groups=30)
    ours, theirs = Trainer(data).folds(), splitter.split(data, seed=42)
    assert len(ours) == 5
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.test, other.test)
        np.testing.assert_array_equal(one.val, other.val)


def test_predefined_test_records_are_the_test_set_by_default() -> None:
    data = blobs(splits=["train", "train", "test"], groups=30)
    for fold in trainer(data).folds():
        np.testing.assert_array_equal(fold.test, np.flatnonzero(data.splits == "test"))


@pytest.mark.parametrize(("classes", "monitor"), [(2, "average_precision"), (3, "roc_auc")])
def test_the_default_monitor_follows_the_number_of_classes(
    classes: int, monitor: str, fitted: Callable[..., Run]
) -> None:
    run = fitted(blobs(size=8, groups=24, classes=classes))
    assert run.facts["monitor"] == monitor
    assert run.facts["objective"] == pytest.approx(
        run.history[run.history["best"] == 1].groupby("fold").last()[f"val_{monitor}"]
    )


# What is trained


def test_a_weighted_sampler_trains(fitted: Callable[..., Run]) -> None:
    run = fitted(balancer=Balancer(sampler="weighted"))
    assert from_yaml((run.folder / "config.yaml").read_text())["balancer"]["sampler"]["name"] == "weighted"


def test_bce_trains_one_logit_and_predicts_two_probabilities(fitted: Callable[..., Run]) -> None:
    found = fitted(balancer={"loss": "bce", "class_weights": "inverse"}).predictions("test")
    assert found.logits.shape == (60, 1)
    np.testing.assert_allclose(found.probs[:, 1], 1 / (1 + np.exp(-found.logits[:, 0].astype(float))))


def test_three_classes_have_no_thresholds(fitted: Callable[..., Run]) -> None:
    run = fitted(blobs(size=8, groups=24, classes=3))
    assert run.thresholds == ()
    assert set(run.metrics["threshold"]) == {""}
    assert run.predictions("test").probs.shape == (96, 3)


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_predictions_are_made_in_full_precision(precision: str, folder: Path, fitted: Callable[..., Run]) -> None:
    run = fitted(from_folder(folder), precision=precision, **HOLDOUT)
    found = run.predictions("test")
    table = run.predict([folder / name for name in found.ids])
    np.testing.assert_allclose(table["prob_b"], found.probs[:, 1], atol=1e-5)


def test_a_small_network_learns_the_blobs(fitted: Callable[..., Run]) -> None:
    run = fitted(stages=[Stage(epochs=1, train="head"), Stage(epochs=5, lr=0.03)])
    assert run.value("roc_auc")[0] > 0.95


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path: Path) -> None:
    runs = [
        trainer(seed=seed, head=Head(dropout=0.2), out=tmp_path / str(number)).fit()
        for number, seed in enumerate((1, 1, 2))
    ]
    logits = [run.predictions("test").logits for run in runs]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])
    weights = [sorted(file.read_bytes() for file in run.folder.rglob("*.safetensors")) for run in runs[:2]]
    assert weights[0] == weights[1]


def test_each_fold_begins_with_weights_of_its_own(fitted: Callable[..., Run]) -> None:
    run = fitted(stages=[Stage(epochs=1, lr=1e-12)])
    first, second = (model.state_dict()["head.0.weight"] for model in run.predictor.models)
    assert not np.allclose(first, second)


def test_callbacks_hear_of_every_epoch_of_every_fold(fitted: Callable[..., Run]) -> None:
    told: list[StepEnd | EpochEnd] = []
    run = fitted(callbacks=[told.append], stages=[Stage(epochs=2)])
    heard = [event for event in told if isinstance(event, EpochEnd)]
    assert [event.step for event in told if isinstance(event, StepEnd)][-1] + 1 == heard[-1].step
    assert [event.epoch for event in heard] == [0, 1, 0, 1]
    assert [event.val["roc_auc"] for event in heard] == pytest.approx(run.history["val_roc_auc"])


def test_early_stopping_shortens_the_history(fitted: Callable[..., Run]) -> None:
    run = fitted(stages=[Stage(epochs=4, lr=1e-12)], early_stopping=EarlyStopping(patience=1), monitor="accuracy")
    assert run.history.groupby("fold")["epoch"].max().tolist() == [1, 1]


# Fixed test sets


def test_a_share_is_cut_once_and_predicted_by_the_mean_of_folds(fitted: Callable[..., Run]) -> None:
    run = fitted(blobs(size=8, groups=30), test=0.3)
    found = run.predictions("test")
    assert set(found.fold) == {-1}
    assert 0.2 < len(found) / 120 < 0.4
    rest = set(run.data.groups[~np.isin(run.data.ids, found.ids)]) if run.data.groups is not None else set()
    assert found.groups is not None
    assert not rest & set(found.groups)
    assert set(run.metrics.query("split == 'test'")["fold"]) == {"mean", "0", "1", "folds"}


def test_another_set_tests_every_fold(fitted: Callable[..., Run]) -> None:
    other = relabelled(blobs(size=8, groups=8, seed=1))
    run = fitted(test=other)
    found = run.predictions("test")
    np.testing.assert_array_equal(found.ids, other.ids)
    assert set(found.fold) == {-1}
    assert all(len(fold.test) == 0 for fold in run.folds)


# Groups of another name, since sets must not share any.
def relabelled(data: Dataset) -> Dataset:
    assert data.arrays is not None
    assert data.groups is not None
    return Dataset.from_arrays(np.asarray(data.arrays), data.frame["label"], groups=np.char.add("t", data.groups))


def test_the_training_set_says_which_class_is_positive_also_in_the_test_set(fitted: Callable[..., Run]) -> None:
    whole = relabelled(blobs(size=8, groups=8, seed=1))
    other = whole.subset(np.flatnonzero((whole.labels == 1) | (np.arange(len(whole)) < 8)))
    other = attrs.evolve(other, positive="a")  # the rarer class there
    data = blobs(size=8)
    assert data.positive == "b"
    assert fitted(data, test=other).predictions("test").positive == "b"


def test_a_test_set_with_groups_of_the_training_set_is_refused() -> None:
    with pytest.raises(SplitError, match="'test' must share no groups with the set, got 'g000'"):
        trainer(test=blobs(size=8, seed=1)).folds()


def test_a_predefined_test_set_must_be_there() -> None:
    with pytest.raises(SplitError, match="'test' must not be 'predefined'"):
        trainer(test="predefined").folds()


# Configuration


def test_a_trainer_of_a_folder_is_rebuilt_from_its_yaml(folder: Path) -> None:
    one = Trainer.from_config({**config_of(folder), "head": {"dropout": 0.1}, "balancer": {"sampler": "weighted"}})
    again = Trainer.from_config(from_yaml(to_yaml(one.to_config())))
    assert again.to_config() == one.to_config()
    assert again.data.fingerprint == one.data.fingerprint
    assert again.balancer.sampler == Weighted()
    names = [field.name for field in attrs.fields(Trainer) if field.name != "data"]
    assert {name: getattr(again, name) for name in names} == {name: getattr(one, name) for name in names}


def test_the_configuration_of_a_run_trains_again(folder: Path, tmp_path: Path) -> None:
    one = trainer(from_folder(folder), out=tmp_path / "one").fit()
    config = from_yaml((one.folder / "config.yaml").read_text())
    other = Trainer.from_config({**config, "out": str(tmp_path / "other")}).fit()
    np.testing.assert_array_equal(one.predictions("test").logits, other.predictions("test").logits)


def test_what_cannot_be_rebuilt_is_noted_as_opaque() -> None:
    config = trainer(test=relabelled(blobs(size=8, groups=8))).to_config()
    assert config["data"].keys() == config["test"].keys() == {"opaque"}
    with pytest.raises(ConfigError, match=r"'data.from' must name a reader"):
        Trainer.from_config(config)


@pytest.mark.parametrize(
    ("changes", "read", "expected"),
    [
        ({"stages.0.optimizer.momentum": 0.5}, lambda t: t.stages[0].optimizer, Sgd(momentum=0.5)),
        ({"stages.0.optimizer": "adamw"}, lambda t: t.stages[0].optimizer, AdamW()),
        ({"stages.0.lr": 0.1, "stages.0.epochs": 3}, lambda t: (t.stages[0].lr, t.stages[0].epochs), (0.1, 3)),
        ({"backbone.depth": 3}, lambda t: t.backbone, SmallCnn(base=4, depth=3)),
        ({"backbone": "small-cnn", "backbone.base": 8}, lambda t: t.backbone.base, 8),
        ({"head.depth": 2}, lambda t: t.head, Head(depth=2)),
        ({"balancer.sampler": "weighted"}, lambda t: t.balancer.sampler, Weighted()),
        ({"splitter.k": 3}, lambda t: t.splitter, StratifiedGroupKFold(k=3)),
        ({"early_stopping.patience": 2}, lambda t: t.early_stopping, EarlyStopping(patience=2)),
        (
            {"optimizer": "sgd", "optimizer.nesterov": True, "stages.0.optimizer": None},
            lambda t: t.optimizer,
            Sgd(nesterov=True),
        ),
    ],
)
def test_options_are_replaced_by_path(changes: dict[str, Any], read: Callable[[Any], Any], expected: Any) -> None:
    before = trainer()
    assert read(imgcls.replace(before, changes)) == expected
    assert before.to_config() == trainer().to_config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages.1.lr": 0.1}, r"'stages.1.lr' must have a number from 0 to 0"),
        ({"stages.0.optimizer.momentum": 2}, r"'stages.0.optimizer.momentum' must be a number"),
        ({"optimizer.momentum": 0.5}, r"'optimizer.momentum' must lead to an option of AdamW"),
        ({"bakcbone": "small-cnn"}, r"'bakcbone' must lead to an option of Trainer; did you mean 'backbone'"),
    ],
)
def test_wrong_paths_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        imgcls.replace(trainer(), changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bacth_size": 8}, "'bacth_size' must be an option of Trainer; did you mean 'batch_size'"),
        ({"batch_size": 0}, "'batch_size' must be a whole number of at least 1, got 0"),
        ({"stages": [{"epochs": 0}]}, "'stages.0.epochs' must be a whole number of at least 1, got 0"),
        ({"stages": [{"lr": 0.1}]}, "'stages.0.epochs' must be given"),
        ({"stages": []}, "'stages' must be a list of at least one Stage"),
        ({"stages": [{"epochs": 1, "train": 0}]}, "'stages.0.train' must be 'head', 'all'"),
        ({"stages": [{"epochs": 1, "optimizer": {"name": "sgd", "beta": 1}}]}, "'stages.0.optimizer.beta' must be"),
        ({"stages": [{"epochs": 1, "schedule": "cosin"}]}, "'stages.0.schedule' .*; did you mean 'cosine'"),
        ({"image": {"size": 0}}, "'image.size' must be a side in pixels"),
        ({"image": 8}, "'image' must be an ImageSpec, got 8"),
        ({"backbone": {"name": "small-cnn", "depht": 3}}, "'backbone.depht' must .* did you mean 'depth'"),
        ({"backbone": "resnet81"}, "'backbone.model' must name a timm model, got 'resnet81'; did you mean 'resnet18'"),
        ({"backbone": 3}, "'backbone' must be a name, a mapping"),
        ({"head": {"depth": 0}}, "'head.depth' must"),
        ({"splitter": {"name": "holdout", "val": 1}}, "'splitter.val' must"),
        ({"balancer": {"sampler": {"name": "weighted", "x": 1}}}, "'balancer.sampler.x' must be an option"),
        ({"balancer": {"class_weights": {"c": 1}}}, "'balancer.class_weights' must name classes, got 'c'"),
        ({"balancer": {"loss": "mse"}}, "'balancer.loss' must name one of its kinds, got 'mse'"),
        ({"balancer": {"sampler": "weighted", "class_weights": "inverse"}}, "corrects twice"),
        ({"monitor": "auc"}, "'monitor' must be a metric of every epoch, got 'auc'"),
        ({"monitor": 5}, "'monitor' must be a str, got 5"),
        ({"decision": "max_f2"}, "'decision.* must be a rule .*got 'max_f2'; did you mean 'max_f1'"),
        ({"decision": 1.5}, "'decision.* must be a threshold from 0 to 1, got 1.5"),
        ({"decision": [1]}, "'decision' must be"),
        ({"test": [1]}, "'test' must be 'auto'"),
        ({"test": 1.5}, "'test' must be 'auto'"),
        ({"early_stopping": {"patience": 0}}, "'early_stopping.patience' must"),
        ({"callbacks": 5}, "'callbacks' must be a list of functions, got 5"),
        ({"callbacks": ["print"]}, "'callbacks' must be a list of functions"),
        ({"seed": -1}, "'seed' must be a whole number of at least 0, got -1"),
        ({"device": 3}, "'device' must be a str, got 3"),
        ({"precision": "fp16"}, "'precision' must be one of 'auto', 'fp32', 'bf16', got 'fp16'"),
        ({"data": 5}, "'data' must be given, with 'from'"),
        ({"data": {"from": "folder", "rot": "."}}, "'data.rot' must be an option of 'folder'; did you mean 'root'"),
    ],
)
def test_wrong_options_are_refused_by_path(options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer.from_config({**config_of(folder), **options})


@pytest.mark.parametrize("name", ["splitter", "sampler"])
def test_an_unknown_plugin_is_refused_with_the_nearest(name: str) -> None:
    wrong: dict[str, Any] = {"splitter": "holdot"} if name == "splitter" else {"balancer": {"sampler": "wieghted"}}
    with pytest.raises(
        UnknownPluginError, match=rf"'(balancer\.)?{name}' must name an installed plugin.* did you mean '[hw]"
    ):
        trainer(**wrong)


# Refusals


def test_a_set_of_one_class_is_refused() -> None:
    data = blobs(size=8)
    with pytest.raises(DataError, match=r"records of at least two classes, got \['a'\]; add the others"):
        trainer(data.subset(data.labels == 0))


def test_bce_is_refused_for_three_classes() -> None:
    with pytest.raises(ConfigError, match=r"'balancer.loss' must be 'cross-entropy' for more than two classes"):
        trainer(blobs(size=8, classes=3), balancer={"loss": "bce"})


def test_a_class_with_fewer_groups_than_folds_is_refused_with_the_remedy(fitted: Callable[..., Run]) -> None:
    with pytest.raises(SplitError, match="class 'a' must have at least 5 groups, got 3; use fewer folds"):
        fitted(blobs(size=8, groups=5), splitter="stratified-group-kfold")


def test_validation_records_of_one_class_are_refused_before_training() -> None:
    splits = ["train", "val", "train", "train"]  # groups of class a and b in turn
    with pytest.raises(SplitError, match="fold 0 must validate on every class, got none of 'a'; use fewer folds"):
        trainer(blobs(size=8, splits=splits), splitter="predefined").folds()


def test_of_three_classes_one_may_be_absent_from_validation(fitted: Callable[..., Run]) -> None:
    splits = ["train", "val", "train", "train", "train", "val"]  # groups of class a, b and c in turn
    data = blobs(size=8, groups=24, classes=3, splits=splits)
    with pytest.raises(SplitError, match="must validate on every class, got none of 'a'"):
        trainer(data, splitter="predefined").folds()
    run = fitted(data, splitter="predefined", monitor="loss")
    assert run.history["val_roc_auc"].isna().all()
    assert run.facts["objective"] == [run.history["val_loss"].min()]
    with pytest.raises(RunError, match="'split' must be 'val' for a run without test records"):
        run.predictions("test")


def test_images_too_small_for_the_backbone_are_refused(fitted: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match="'depth' must be smaller for images of 8 pixels, got 9"):
        fitted(backbone={"name": "small-cnn", "depth": 9})


def test_a_folder_that_holds_something_is_refused_and_left_alone(fitted: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="'out' must be a new or empty folder"):
        fitted()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_finished_run_is_opened_or_refused(fitted: Callable[..., Run]) -> None:
    folder = fitted().folder
    assert fitted().folder == folder  # the same once more is opened
    with pytest.raises(RunError, match="'out' must be a new or empty folder"):
        trainer(out=folder).fit(resume="never")


def test_a_folder_in_use_is_refused(fitted: Callable[..., Run], tmp_path: Path) -> None:
    with hold(tmp_path / "run" / ".lock"), pytest.raises(RunError, match="run"):
        fitted()


def test_a_run_that_failed_before_training_can_be_started_again(folder: Path, tmp_path: Path) -> None:
    images = write_image_folder(tmp_path / "images", blobs(size=8))
    broken = next(images.rglob("*.png"))
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(DecodeError, match=broken.name):
        trainer(from_folder(images), out=tmp_path / "run").fit()
    broken.write_bytes(whole)
    assert trainer(from_folder(images), out=tmp_path / "run").fit().facts["status"] == "complete"


def test_without_a_folder_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [trainer().fit().folder.as_posix() for _ in range(2)] == ["runs/run-001", "runs/run-002"]


# Backbones that no distribution declares


@attrs.frozen(kw_only=True)
class Own(Backbone):
    width: int = 8

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        pixels = in_channels * image_size[0] * image_size[1]
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, self.width), nn.ReLU()), Facts(num_features=self.width)


@pytest.fixture(scope="module")
def opaque(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        yield trainer(backbone=Own(), out=tmp_path_factory.mktemp("opaque") / "run").fit()


def test_an_unregistered_backbone_trains_and_evaluates(opaque: Run) -> None:
    assert opaque.facts["status"] == "complete"
    assert np.isfinite(opaque.value("roc_auc")[0])


def test_an_unregistered_backbone_is_used_in_its_process_and_given_in_another(opaque: Run) -> None:
    assert not opaque.classifier(0).training
    again = load_run(opaque.folder, backbone=Own())
    ours, theirs = opaque.classifier(0).state_dict(), again.classifier(0).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_configuration_says_that_an_unregistered_backbone_is_opaque(opaque: Run) -> None:
    saved = from_yaml((opaque.folder / "config.yaml").read_text())
    assert saved["backbone"] == {"opaque": "Own(width=8)"}
    with pytest.raises(ConfigError, match="'backbone' must be a name"):
        trainer(**{**SMALL, "backbone": saved["backbone"]})


def test_an_unregistered_backbone_cannot_be_loaded_and_the_remedy_is_said(opaque: Run) -> None:
    with pytest.raises(RunError, match=r"must be a registered plugin .* got Own\(width=8\); declare it in the entry"):
        load_run(opaque.folder).predict(["a.png"])


def test_every_error_is_one_of_imgcls() -> None:
    with pytest.raises(ImgclsError):
        Trainer(3)  # type: ignore[arg-type]


def test_the_augmentation_of_repeated_draws_is_written_out_and_refused_by_its_path() -> None:
    own = trainer(balancer={"sampler": "oversample", "repeats": "light"})
    written = own.to_config()["balancer"]["repeats"]
    assert written["transforms"][0]["name"] == "flip-lr"
    assert trainer(balancer={"sampler": "oversample", "repeats": written}).balancer == own.balancer
    with pytest.raises(ConfigError, match=r"'balancer\.repeats\.transforms' must be a list of transforms or one of"):
        trainer(balancer={"sampler": "oversample", "repeats": "lihgt"})


def test_a_policy_for_no_class_is_refused_by_the_option_that_the_user_wrote() -> None:
    with pytest.raises(ConfigError, match=r"^'augment\.crak' must be 'default' or a class"):
        trainer(augment={"default": "light", "crak": "strong"})
    with pytest.raises(ConfigError, match=r"^'stages\.0\.augment\.crak' must be"):
        trainer(stages=[{"epochs": 1, "augment": {"default": "light", "crak": "strong"}}])


# Learning a few records by heart


def test_an_overfit_check_trains_on_the_same_few_records_and_says_whether_they_are_known(
    fitted: Callable[..., Run],
) -> None:
    steps: list[StepEnd | EpochEnd] = []
    stages = [{"epochs": 30, "lr": 0.1, "optimizer": "adamw", "augment": "medium"}]
    run = fitted(overfit=1, stages=stages, callbacks=[steps.append], **HOLDOUT)
    assert sum(isinstance(event, StepEnd) for event in steps) == 30
    told = (run.folder / "logs" / "info.jsonl").read_text()
    assert "knows its few records by heart (training accuracy 1.000" in told


def test_an_overfit_check_warns_of_a_network_that_learns_nothing(
    fitted: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    fitted(overfit=1, stages=[{"epochs": 1, "lr": 1e-9, "optimizer": "sgd"}], **HOLDOUT)
    assert "does not know its few records by heart" in caplog.text


@pytest.mark.parametrize("other", [{"limit": 2}, {"fast_run": True}])
def test_an_overfit_check_stands_alone(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'overfit' must stand alone"):
        trainer(overfit=1, **other)


def test_a_fast_run_has_its_own_limit() -> None:
    with pytest.raises(ConfigError, match="'limit' must be left out with 'fast_run', which takes two steps, got 5"):
        trainer(limit=5, fast_run=True)


def test_images_are_not_mixed_with_themselves() -> None:
    with pytest.raises(ConfigError, match="'batch_size' must be at least 2 where images are mixed"):
        trainer(batch_size=1, augment=["mixup"])


def test_an_unknown_plugin_inside_a_stage_is_named_with_its_place() -> None:
    with pytest.raises(ImgclsError, match=r"'stages\.0\.balancer\.sampler' must name an installed plugin"):
        trainer(stages=[{"epochs": 1, "lr": 0.1, "balancer": {"sampler": "wieghted"}}])
