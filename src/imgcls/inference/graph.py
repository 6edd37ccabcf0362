"""The models of a predictor as one module from pixels to probabilities, as it is exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from imgcls.data.spec import ImageSpec
from imgcls.evaluation.calibration import Calibration
from imgcls.inference.resizing import Resize
from imgcls.models.base import Classifier

__all__ = ["Graph", "to_probs"]


@final
class Graph(nn.Module):
    """Normalisation, networks, calibration and the mean over models; and the embeddings, which a guard compares.

    With `resize` images of any size come first to that of the networks.

    Args:
        models: The classifiers, in evaluation mode, whose facts have mean and standard deviation.
        spec: The form of the images.
        calibrations: One a model, or none.
        multilabel: Whether a record may have several labels.
        resize: Whether images may have any size.
    """

    def __init__(
        self,
        models: Sequence[Classifier],
        spec: ImageSpec,
        calibrations: Sequence[Calibration],
        *,
        multilabel: bool,
        resize: bool = False,
    ) -> None:
        super().__init__()
        self.resize = Resize(spec) if resize else None
        each: Sequence[Calibration | None] = list(calibrations) or [None] * len(models)
        parts = zip(models, each, strict=True)
        self.parts = nn.ModuleList(_Part(model, spec, to_probs(one, multilabel=multilabel)) for model, one in parts)
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict.

        Args:
            pixels: (B, H, W, C), uint8 or uint16; with `resize` any H and W, else those of the form.

        Returns:
            The mean probabilities (B, K), those of each of M models (B, M, K), and what went into the head of each,
            (B, M, D), all float32.
        """
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32) if self.resize is None else self.resize(pixels)
        probs, features = zip(*(part(planes) for part in self.parts), strict=True)
        each = torch.stack(probs, dim=1)
        return each.mean(dim=1), each, torch.stack(features, dim=1)


class _Part(nn.Module):
    """One model: from pixels (B, C, H, W), float32, to probabilities (B, K) and embeddings (B, D)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier, spec: ImageSpec, probs: nn.Module) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.facts.mean, model.facts.std))
        self.register_buffer("scale", 1 / (spec.levels * std))
        self.register_buffer("shift", mean / std)
        self.register_buffer("prior_shift", model.prior_shift)
        self.body, self.head, self.probs = model.body, model.head, probs

    # What the classifier does in evaluation mode, without the context of autocast, which no graph has.
    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(planes * self.scale - self.shift)
        return self.probs(self.head(features) + self.prior_shift), features


def to_probs(calibration: Calibration | None, *, multilabel: bool) -> nn.Module:
    """Make the last layer, which does what `evaluation.calibration` does.

    Args:
        calibration: That of the model, or None.
        multilabel: Whether a record may have several labels.

    Returns:
        A module from logits (B, K), or (B, 1), to probabilities (B, K), float32.
    """
    if calibration is None or calibration.method == "temperature":
        slopes = [1.0] if calibration is None else [curve[0] for curve in calibration.curves]
        return _Scaled(slopes, multilabel=multilabel)
    return _Curves(calibration, multilabel=multilabel)


class _Scaled(nn.Module):
    slopes: Tensor

    def __init__(self, slopes: Sequence[float], *, multilabel: bool) -> None:
        super().__init__()
        self.multilabel = multilabel
        self.register_buffer("slopes", torch.tensor(slopes))

    def forward(self, logits: Tensor) -> Tensor:
        values = logits * self.slopes
        if self.multilabel:
            return values.sigmoid()
        if values.shape[1] == 1:
            return torch.cat([(-values).sigmoid(), values.sigmoid()], dim=1)
        return values.softmax(dim=1)


class _Curves(nn.Module):
    def __init__(self, calibration: Calibration, *, multilabel: bool) -> None:
        super().__init__()
        self.multilabel = multilabel
        kind = _Line if calibration.method == "platt" else _Steps
        self.curves = nn.ModuleList(kind(curve) for curve in calibration.curves)

    def forward(self, logits: Tensor) -> Tensor:
        odds = _log_odds(logits, multilabel=self.multilabel)
        columns = torch.cat([curve(odds[:, at : at + 1]) for at, curve in enumerate(self.curves)], dim=1)
        if self.multilabel:
            return columns
        if len(self.curves) == 1:
            return torch.cat([1 - columns, columns], dim=1)
        return columns / columns.sum(dim=1, keepdim=True)


def _log_odds(logits: Tensor, *, multilabel: bool) -> Tensor:
    count = logits.shape[1]
    if multilabel or count == 1:
        return logits
    if count == 2:
        return logits[:, 1:] - logits[:, :1]
    own = torch.eye(count, dtype=torch.bool)
    others = logits[:, None].masked_fill(own, -torch.inf).logsumexp(dim=2)
    return logits - others


class _Line(nn.Module):
    def __init__(self, curve: Sequence[float]) -> None:
        super().__init__()
        self.slope, self.offset = curve

    def forward(self, odds: Tensor) -> Tensor:
        return (self.slope * odds + self.offset).sigmoid()


class _Steps(nn.Module):
    """Interpolation between points, written as a sum of ramps, which every runtime has."""

    starts: Tensor
    widths: Tensor
    slopes: Tensor

    def __init__(self, curve: Sequence[float]) -> None:
        super().__init__()
        places, values = torch.tensor(curve, dtype=torch.float64).chunk(2)
        self.lowest = float(values[0])
        # In 64 bits: places of neighbouring steps may be one in 32.
        self.register_buffer("starts", places[:-1])
        self.register_buffer("widths", places.diff())
        self.register_buffer("slopes", values.diff() / places.diff())

    def forward(self, odds: Tensor) -> Tensor:
        ramps = torch.minimum((odds.double() - self.starts).clamp(min=0.0), self.widths)
        return (self.lowest + (ramps * self.slopes).sum(dim=1, keepdim=True)).float()
