from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgcls import Balancer, Searcher, Stage, Trainer
from imgcls.core.config import from_yaml, to_yaml
from imgcls.schema import config_schema
from imgcls.testing import blobs

jsonschema = pytest.importorskip("jsonschema")

SCHEMA = config_schema()

DOCS = Path(__file__).parent.parent / "docs"

#: Pages whose YAML is a configuration, or a part of one.
PAGES = ["search", "configuration", *sorted(f"migration/{path.stem}" for path in (DOCS / "migration").glob("*_*.md"))]


def errors(options: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(from_yaml(to_yaml(options)))]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balancer": Balancer(sampler="weighted", correct_priors=True), "early_stopping": {"patience": 3}},
        {"optimizer": "sgd", "schedule": {"name": "cosine"}, "augment": "medium", "trackers": ["tensorboard"]},
        {"splitter": "repeated", "stages": [Stage(epochs=1, lr="find", train=2, optimizer="adamw", augment="light")]},
        {"ema": {"decay": 0.9}, "decision": 0.3, "snapshots": {"every": 1, "keep": 2}, "nonfinite": {"policy": "skip"}},
    ],
)
def test_every_configuration_that_a_trainer_writes_fits(changes: dict[str, Any]) -> None:
    options = Trainer(blobs(size=8), backbone={"name": "small-cnn"}, **changes).to_config()
    assert errors({**options, "data": {"from": "folder", "root": "images"}}) == []


def test_what_people_write_by_hand_fits() -> None:
    text = """
include: base.yaml
data: {from: csv, path: index.csv, group: patient}
backbone: resnet18
head: {depth: 2}
image: {size: 96}
balancer: weighted
augment: [flip-lr, {name: rotate, degrees: 5}]
stages: [{epochs: 1, train: head, lr: 1e-3, optimizer: sgd}]
precision: bf16
"""
    assert errors(from_yaml(text)) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_configurations_of_the_pages_fit(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        assert errors(from_yaml(block)) == []


def test_every_option_of_a_search_fits() -> None:
    space = {
        "batch_size": [8, 16],
        "seed": 3,
        "head": {"fixed": {"depth": 2}},
        "head.depth": {"int": [1, 3], "step": 1},
    }
    search = {
        "space": space,
        "backend": {"name": "grid"},
        "prune": {"folds": 2},
        "executor": {"name": "ray", "cpus": 2},
    }
    assert errors({"search": {**search, "outer": "holdout", "objectives": ["latency"], "limits": {"latency": 9}}}) == []
    assert errors({"search": {"backend": {"name": "optuna", "sampler": {"name": "tpe"}, "pruner": "median"}}}) == []
    assert errors({"search": {"prune": "folds", "backend": "sobol", "timeout": None}}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"bakcbone": "resnet18"},
        {"batch_size": "many"},
        {"stages": [{"epoch": 1}]},
        {"splitter": "stratified"},
        {"optimizer": {"name": "sgd", "momentums": 0.9}},
        {"data": {"from": "nowhere"}},
        {"search": {"trails": 3}},
        {"search": {"backend": "optima"}},
        {"search": {"backend": {"name": "optuna", "sampler": 3}}},
        {"balancer": {"sampler": "weighed"}},
        {"search": {"prune": "fold"}},
        {"search": {"space": {"stages.0.lr": {"float": [1e-5]}}}},
    ],
)
def test_wrong_names_and_types_are_found(wrong: dict[str, Any]) -> None:
    assert errors(wrong)


def test_every_option_is_explained() -> None:
    told = {name for name, found in SCHEMA["properties"].items() if found.get("description")}
    assert {field.name for field in attrs.fields(Trainer)} <= told
    told = {name for name, found in SCHEMA["properties"]["search"]["properties"].items() if found.get("description")}
    assert told == {field.name for field in attrs.fields(Searcher)} - {"trainer"}
