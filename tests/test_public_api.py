import subprocess
import sys
from pathlib import Path

import pytest

import imgcls

NAMES = [
    "Attributions",
    "Backbone",
    "Balancer",
    "CheckReport",
    "Choice",
    "Classifier",
    "Comparison",
    "Dataset",
    "EarlyStopping",
    "Explainer",
    "ExportedModel",
    "Facts",
    "Fixed",
    "Float",
    "Fold",
    "Folds",
    "Head",
    "ImageSpec",
    "ImgclsError",
    "Int",
    "Predictions",
    "Predictor",
    "Run",
    "Sampler",
    "SearchBackend",
    "Searcher",
    "Space",
    "Splitter",
    "Stage",
    "Threshold",
    "Tracker",
    "Trainer",
    "__version__",
    "backbones",
    "compare_explanations",
    "compare_runs",
    "embed",
    "explainers",
    "fit",
    "load_exported",
    "load_run",
    "replace",
    "samplers",
    "search_backends",
    "splitters",
    "tile",
    "trackers",
]

#: Libraries that take long to load, or that not every part needs.
HEAVY = (
    "torch torchvision timm torchmetrics sklearn pandas numpy PIL matplotlib zennit pytorch_grad_cam "
    "rich typer yaml attrs"
)


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(imgcls.__all__) == NAMES
    assert dir(imgcls) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(imgcls, name)
    assert name == "__version__" or (value.__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'imgcls' has no attribute 'Trainre'"):
        _ = imgcls.Trainre


def test_importing_the_package_loads_no_library() -> None:
    loaded = f"[name for name in '{HEAVY}'.split() if name in sys.modules]"
    code = f"import sys, imgcls; imgcls.__version__; dir(imgcls); print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_the_same_for_type_checkers() -> None:
    source = Path(imgcls.__file__).read_text(encoding="utf-8")
    declared = [line.split(" as ")[1] for line in source.splitlines() if line.startswith("    from imgcls.")]
    assert sorted(declared) == [name for name in NAMES if name != "__version__"]


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib import metadata

    assert imgcls.__version__ == metadata.version("imgcls")
