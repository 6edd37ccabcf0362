"""What an export says of itself, and exported models on new images; an ONNX one runs without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import config, options
from imgcls.core.dumping import dump_fields
from imgcls.core.errors import ConfigError, RunError, missing_extra
from imgcls.core.folders import read_json, write_json
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import Calibration
from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.rejecting import Rejection
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.caution import Caution
from imgcls.inference.deciding import Cut, Decider
from imgcls.inference.guarding import Guard
from imgcls.inference.reading import Paths, Reading, Told
from imgcls.inference.sealing import check_sums

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMATS",
    "GUARD",
    "OUTPUTS",
    "Answer",
    "Description",
    "ExportedModel",
    "Runner",
    "load_exported",
    "open_exported",
]

#: The formats there are, and the file that holds the weights of each.
FORMATS = {"onnx": "model.onnx", "torch-export": "model.pt2", "safetensors": "model.safetensors"}

#: The file with the description, and that of the guard, where the run has one.
DESCRIPTION, GUARD = "export.json", "guard.npz"

#: The outputs of a file of ONNX.
OUTPUTS = ("probs", "each", "embeddings")

#: Raised when the layout of the folder changes.
SCHEMA = 1

Floats = NDArray[np.float64]


@final
@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """What M exported models say of B images.

    Attributes:
        probs: The mean probabilities, (B, K).
        each: Those of each model, (B, M, K).
        embeddings: What went into the head of each, (B, M, D).
    """

    probs: NDArray[Any]
    each: NDArray[Any]
    embeddings: NDArray[Any]


#: From pixels (B, H, W, C) to an answer.
Runner = Callable[[NDArray[Any]], Answer]


def _image(value: Any) -> Any:
    return config.nested(ImageSpec, value, path="image")


def _thresholds(values: Any) -> Any:
    return config.nested_list(Threshold, values, path="thresholds")


def _calibrations(values: Any) -> Any:
    return config.nested_list(Calibration, values, path="calibrations")


def _sets(value: Any) -> Any:
    return config.nested(Conformal, value, path="sets")


def _reject(value: Any) -> Any:
    return config.nested(Rejection, value, path="reject")


@attrs.frozen(kw_only=True)
class Description:
    """What an export says of itself.

    Attributes:
        format: `onnx`, `torch-export` or `safetensors`.
        classes: The K classes in order.
        positive: The positive class of two, or None.
        multilabel: Whether a record may have several labels.
        decision: The rule that decides; empty takes the most probable class.
        image: The form of the images that the model takes.
        thresholds: Those of the exported model or mean of models.
        calibrations: One a model, none where probabilities are as the models give them. All formats but `safetensors`
            apply them inside.
        statistics: Mean and standard deviation of each channel, in units of 0 to 1, of each model.
        network: Backbone, head and number of logits, from which `safetensors` is built again.
        folds: The folds whose models these are.
        sets: How prediction sets are made, or None.
        reject: When the model abstains, or None.
        resize: Whether the file takes images of any size, all of a batch of the same, and resizes them itself.
        int8: Whether the network computes in integers of 8 bits. Thresholds, sets, abstention and the limit of the
            guard are then fitted to its own answers to validation records; calibrations are those of before.
        parity: How far the probabilities were from those of the run, before any quantisation: `max_difference`, on
            how many `images`; with a guard `max_distance_difference`, in shares of the distance; with `resize`
            `max_difference_resized`, on images of their own sizes.
        cost: With `int8`, how far probabilities are from those before it, and how many decisions differ.
        origin: The run: its name, fingerprint of its data, versions.
    """

    format: str = attrs.field(validator=options.choice(*FORMATS))
    classes: tuple[str, ...] = attrs.field(converter=options.texts)
    positive: str | None
    multilabel: bool
    decision: str
    image: ImageSpec = attrs.field(converter=_image)
    thresholds: tuple[Threshold, ...] = attrs.field(converter=_thresholds)
    calibrations: tuple[Calibration, ...] = attrs.field(converter=_calibrations)
    statistics: tuple[Any, ...] = attrs.field(converter=options.texts)
    network: dict[str, Any]
    folds: tuple[int, ...] = attrs.field(converter=options.texts)
    sets: Conformal | None = attrs.field(default=None, converter=_sets)
    reject: Rejection | None = attrs.field(default=None, converter=_reject)
    resize: bool = False
    int8: bool = False
    parity: dict[str, Any] = attrs.field(factory=dict)
    cost: dict[str, Any] = attrs.field(factory=dict)
    origin: dict[str, Any] = attrs.field(factory=dict)

    @property
    def decider(self) -> Decider:
        """What decides."""
        return Decider(
            classes=self.classes,
            positive=self.positive,
            multilabel=self.multilabel,
            decision=self.decision,
            thresholds=self.thresholds,
        )

    def save(self, folder: Path) -> None:
        """Write the description.

        Args:
            folder: The folder of the export.
        """
        found = dump_fields(self)
        if self.sets is not None:
            found["sets"]["limits"] = [repr(limit) for limit in self.sets.limits]  # JSON has no infinity
        write_json(folder / DESCRIPTION, {"schema": SCHEMA, **found})

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read a description.

        Args:
            folder: The folder of the export.

        Returns:
            The description.

        Raises:
            RunError: if it is of a newer imgcls.
        """
        found = read_json(folder / DESCRIPTION)
        schema = found.pop("schema")
        if schema > SCHEMA:
            raise RunError(f"export {str(folder)!r} must be of schema {SCHEMA} or older, got {schema}; update imgcls")
        return config.build(cls, found, path=DESCRIPTION)


@final
@attrs.frozen(kw_only=True, eq=False)
class ExportedModel:
    """An exported model; threads may share it.

    Attributes:
        folder: Where it lies.
        about: What it says of itself.
        run: The model, from pixels to probabilities.
        guard: What tells images unlike the training data, or None.
    """

    folder: Path
    about: Description
    run: Runner
    guard: Guard | None = None

    def predict(
        self, paths: Paths, *, threshold: Cut | None = None, batch_size: int = 32, on_error: str = "raise"
    ) -> pd.DataFrame:
        """Predict image files, as `Run.predict` does.

        Args:
            paths: The files, or one.
            threshold: The rule of a fitted threshold, or a number; None takes that of the export. When the model
                abstains was fitted to the latter, so with another one `rejected` is left out.
            batch_size: Images at a time.
            on_error: What is done about files that cannot be read: `raise`, or `row`, a row with the reason in a column
                `error` and an empty decision.

        Returns:
            A row an image: `path`, `prob_<class>` of each class, `decision`; of several models `spread`; and what was
            exported besides: `distance` and `unlike`, `set`, `rejected`.
        """
        caution = self.caution if threshold is None else attrs.evolve(self.caution, reject=None)
        reading = Reading(
            tell=partial(self.tell, caution=caution),
            num_models=len(self.about.folds),
            image=self.about.image,
            decider=self.decider,
            cuts=self.decider.cuts(threshold),
            batch_size=batch_size,
            on_error=on_error,
            columns=caution.names,
        )
        return reading.table(paths)

    def tell(self, pixels: NDArray[Any], *, caution: Caution) -> Told:
        """Predict pixels, with all that is said of them.

        Args:
            pixels: (B, H, W, C) in the form of `image`, of any size where the file resizes.
            caution: What is said beside.

        Returns:
            What the models say.
        """
        found = self.run(pixels)
        probs, each = found.probs.astype(np.float64), found.each.astype(np.float64)
        features = np.moveaxis(found.embeddings, 1, 0)
        columns = caution.columns(probs, list(features), self.decider)
        return Told(probs=probs, each=np.moveaxis(each, 1, 0), columns=columns)

    @property
    def caution(self) -> Caution:
        """What is said beside a decision."""
        return Caution(guard=self.guard, sets=self.about.sets, reject=self.about.reject)

    @property
    def decider(self) -> Decider:
        """What decides."""
        return self.about.decider

    @property
    def image(self) -> ImageSpec:
        """The form of the images that the model takes."""
        return self.about.image

    def probs(self, pixels: NDArray[Any]) -> Floats:
        """Predict pixels.

        Args:
            pixels: (B, H, W, C) in the form of `image`, as `imgcls.data.images.read` gives them; of any size where the
                file resizes.

        Returns:
            Probabilities (B, K), the mean over models.
        """
        return self.run(pixels).probs.astype(np.float64)


def load_exported(path: str | Path, *, providers: Sequence[str] | None = None) -> ExportedModel:
    """Open what `Run.export` wrote.

    Args:
        path: The folder.
        providers: Where onnxruntime computes, such as `["CUDAExecutionProvider"]`; None takes the CPU.

    Returns:
        The model. One in the format `onnx` needs onnxruntime and no torch.

    Raises:
        RunError: if a file is missing or damaged.
        ConfigError: if `providers` is given for another format.
    """
    folder = Path(path)
    check_sums(folder)
    about = Description.load(folder)
    if providers is not None and about.format != "onnx":
        raise ConfigError(f"'providers' must be left out for the format {about.format!r}, got {providers!r}")
    return open_exported(folder, about, providers=providers)


def open_exported(
    folder: Path, about: Description, *, providers: Sequence[str] | None = None, threads: int | None = None
) -> ExportedModel:
    """Open an export without looking at its checksums, such as one that is being made.

    Args:
        folder: Where its files are.
        about: Its description.
        providers: As for `load_exported`.
        threads: Those that onnxruntime computes with, the caller's included; callers at the same time share the others.
            None takes one a processor.

    Returns:
        The model.
    """
    guard = Guard.load(folder / GUARD) if (folder / GUARD).exists() else None
    file = folder / FORMATS[about.format]
    run = onnx_runner(file, providers, threads) if about.format == "onnx" else _torch_runner(file, about)
    return ExportedModel(folder=folder, about=about, run=run, guard=guard)


def _torch_runner(file: Path, about: Description) -> Runner:
    from imgcls.inference.torch_running import program_runner, weights_runner  # an ONNX file needs no torch

    return program_runner(file) if about.format == "torch-export" else weights_runner(file, about)


def onnx_runner(file: Path, providers: Sequence[str] | None = None, threads: int | None = None) -> Runner:
    """Run an ONNX file.

    Args:
        file: The file.
        providers: As for `load_exported`.
        threads: As for `open_exported`.

    Returns:
        The model.

    Raises:
        MissingExtraError: if onnxruntime is not installed.
        ConfigError: if this onnxruntime has no such provider.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("onnxruntime", "onnx") from None
    wanted, known = list(providers or ["CPUExecutionProvider"]), onnxruntime.get_available_providers()
    if not set(wanted) <= set(known):
        raise ConfigError(f"'providers' must be of this onnxruntime, got {wanted!r}; there are {known!r}")
    session_options = onnxruntime.SessionOptions()
    # Threads that wait for each other would keep those busy that decode, and other programs.
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session_options.intra_op_num_threads = threads or 0  # 0 is one a processor
    session = onnxruntime.InferenceSession(str(file), session_options, providers=wanted)

    def run(pixels: NDArray[Any]) -> Answer:
        return Answer(**dict(zip(OUTPUTS, session.run(OUTPUTS, {"pixels": pixels}), strict=True)))

    return run
