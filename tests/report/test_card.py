"""The model card of a run."""

from __future__ import annotations

import re

import attrs
import yaml

from imgcls import Run
from imgcls.report.card import write_card
from imgcls.report.material import Material


def test_a_finished_run_has_its_card_with_its_numbers(run: Run) -> None:
    card = (run.folder / "model_card.md").read_text(encoding="utf-8")
    value, low, high = run.value("sensitivity", threshold=run.model.decision)
    assert f"decided by sensitivity>=0.9 | {value:.3f} ({low:.3f} to {high:.3f}) |" in card
    deciding = [t for t in run.thresholds if t.model == "mean" and t.rule == run.model.decision]
    assert f"| mean of the folds | {deciding[0].value:.4f} |" in card
    assert f"`{run.facts['fingerprint']}`" in card
    assert run.model_card().read_text(encoding="utf-8") == card


def test_the_front_matter_is_that_of_the_hub(run: Run) -> None:
    card = run.model_card().read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    metrics = {row["type"]: row["value"] for row in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics["roc_auc"] == round(run.value("roc_auc")[0], 4)
    assert metrics["accuracy"] == round(run.value("accuracy", threshold=run.model.decision)[0], 4)
    assert {"task", "dataset", "metrics"} == set(front["model-index"][0]["results"][0])


def test_what_only_the_author_knows_is_left_to_be_written(run: Run) -> None:
    card = run.model_card().read_text(encoding="utf-8")
    for line in ("Made for", "Not to be used for", "Source, dates, devices, consent and license"):
        assert re.search(rf"^- {line}: \[to be written\]$", card, re.M)


def test_tables_are_tables(run: Run) -> None:
    lines = run.model_card().read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(lines):
        if line.startswith("| ") and not lines[at - 1].startswith("|"):
            assert lines[at - 1] == ""  # else it continues the paragraph above
            assert lines[at + 1].startswith("| ---")
            assert line.count("|") == lines[at + 1].count("|") == lines[at + 2].count("|")


def test_a_run_that_is_fast_warns_in_its_card(material: Material, tmp_path: object) -> None:
    fast = attrs.evolve(material, config="fast_run: true")
    card = write_card(material.folder / "fast.md", fast).read_text(encoding="utf-8")
    assert "- Error: This was a fast run" in card
