"""Image classification for small, imbalanced, grouped image sets that must be trusted.

Public names are loaded when they are first used: `import imgcls` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls.balancing.balancer import Balancer as Balancer
    from imgcls.balancing.base import Sampler as Sampler
    from imgcls.balancing.base import samplers as samplers
    from imgcls.comparison import Comparison as Comparison
    from imgcls.comparison import compare_runs as compare_runs
    from imgcls.core.config import replace as replace
    from imgcls.core.errors import ImgclsError as ImgclsError
    from imgcls.data.check.report import CheckReport as CheckReport
    from imgcls.data.dataset import Dataset as Dataset
    from imgcls.data.folds import Fold as Fold
    from imgcls.data.folds import Folds as Folds
    from imgcls.data.spec import ImageSpec as ImageSpec
    from imgcls.data.tiling import tile as tile
    from imgcls.evaluation.predictions import Predictions as Predictions
    from imgcls.evaluation.thresholds import Threshold as Threshold
    from imgcls.explain.base import Attributions as Attributions
    from imgcls.explain.base import Explainer as Explainer
    from imgcls.explain.base import explainers as explainers
    from imgcls.explanations import compare_explanations as compare_explanations
    from imgcls.inference.exported import ExportedModel as ExportedModel
    from imgcls.inference.exported import load_exported as load_exported
    from imgcls.inference.predictor import Predictor as Predictor
    from imgcls.models.base import Backbone as Backbone
    from imgcls.models.base import Classifier as Classifier
    from imgcls.models.base import Facts as Facts
    from imgcls.models.base import backbones as backbones
    from imgcls.models.head import Head as Head
    from imgcls.run import Run as Run
    from imgcls.run import load_run as load_run
    from imgcls.runtime.embedding import embed as embed
    from imgcls.search.base import SearchBackend as SearchBackend
    from imgcls.search.base import search_backends as search_backends
    from imgcls.search.space import Choice as Choice
    from imgcls.search.space import Fixed as Fixed
    from imgcls.search.space import Float as Float
    from imgcls.search.space import Int as Int
    from imgcls.search.space import Space as Space
    from imgcls.searcher import Searcher as Searcher
    from imgcls.searching.timed_fit import fit as fit
    from imgcls.splitting.base import Splitter as Splitter
    from imgcls.splitting.base import splitters as splitters
    from imgcls.tracking.base import Tracker as Tracker
    from imgcls.tracking.base import trackers as trackers
    from imgcls.trainer import Trainer as Trainer
    from imgcls.training.stages import EarlyStopping as EarlyStopping
    from imgcls.training.stages import Stage as Stage

__version__ = "0.1.0"

#: Where each public name lives.
_PLACES = {
    "Attributions": "explain.base",
    "Backbone": "models.base",
    "Balancer": "balancing.balancer",
    "CheckReport": "data.check.report",
    "Choice": "search.space",
    "Classifier": "models.base",
    "Comparison": "comparison",
    "Dataset": "data.dataset",
    "EarlyStopping": "training.stages",
    "Explainer": "explain.base",
    "ExportedModel": "inference.exported",
    "Facts": "models.base",
    "Fixed": "search.space",
    "Float": "search.space",
    "Fold": "data.folds",
    "Folds": "data.folds",
    "Head": "models.head",
    "ImageSpec": "data.spec",
    "ImgclsError": "core.errors",
    "Int": "search.space",
    "Predictions": "evaluation.predictions",
    "Predictor": "inference.predictor",
    "Run": "run",
    "Sampler": "balancing.base",
    "SearchBackend": "search.base",
    "Searcher": "searcher",
    "Space": "search.space",
    "Splitter": "splitting.base",
    "Stage": "training.stages",
    "Threshold": "evaluation.thresholds",
    "Tracker": "tracking.base",
    "Trainer": "trainer",
    "backbones": "models.base",
    "compare_explanations": "explanations",
    "compare_runs": "comparison",
    "embed": "runtime.embedding",
    "explainers": "explain.base",
    "fit": "searching.timed_fit",
    "load_exported": "inference.exported",
    "load_run": "run",
    "replace": "core.config",
    "samplers": "balancing.base",
    "search_backends": "search.base",
    "splitters": "splitting.base",
    "tile": "data.tiling",
    "trackers": "tracking.base",
}

__all__ = ["__version__", *_PLACES]  # noqa: PLE0604 (the names are words)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'imgcls' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"imgcls.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
