"""Whether the pixels that a map names matter to the model: what happens to its answer without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.core import options
from imgcls.core.errors import ConfigError
from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Floats, Ints
from imgcls.explain.attributions import Attributions
from imgcls.explain.base import Explainer
from imgcls.explain.imputation import imputed
from imgcls.explain.isolation import isolated
from imgcls.explain.targets import Target, scores

__all__ = ["Answer", "Curves", "answering", "average_drop", "max_sensitivity", "perturbed", "road"]

#: From images (B, C, H, W) and their positions (B,) to the answer about each, (B,).
Answer = Callable[[Tensor, Ints], Floats]

BASELINES = ("blur", "mean", "zero")


def answering(model: nn.Module, target: npt.ArrayLike, *, multilabel: bool = False) -> Answer:
    """Ask a model for the probability of a class.

    Args:
        model: From images to logits (B, K), or (B, 1) of a binary head with one logit. It is
            not changed; a copy in eval mode answers.
        target: (N,) the class of each image.
        multilabel: Whether each logit speaks for itself.

    Returns:
        A function of images and their positions in `target`.
    """
    alone, classes = isolated(model), torch.as_tensor(np.asarray(target, dtype=np.int64))
    device = next((parameter.device for parameter in alone.parameters()), torch.device("cpu"))

    def answer(images: Tensor, positions: Ints) -> Floats:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            logits = alone(images.to(device, torch.float32)).cpu()
        chosen = classes[torch.from_numpy(positions)]
        single = multilabel or logits.shape[1] == 1
        values = torch.sigmoid(scores(logits, chosen)) if single else scores(logits.softmax(dim=1), chosen)
        found: Floats = values.numpy().astype(np.float64)
        return found

    return answer


@attrs.frozen(kw_only=True, eq=False)
class Curves:
    """What a model answers as pixels leave or come.

    Attributes:
        fractions: (S,) the share of pixels that were removed or put in, from 0 to 1.
        deletion: (N, S) the answer without the most relevant ones.
        insertion: (N, S) the answer with nothing but the most relevant ones.
    """

    fractions: Floats
    deletion: Floats
    insertion: Floats

    @property
    def deletion_auc(self) -> Floats:
        """(N,) area below the curve of deletion, both ends included; low where the map names what matters."""
        return _area(self.deletion, self.fractions)

    @property
    def insertion_auc(self) -> Floats:
        """(N,) area below the curve of insertion; high where the map names what matters."""
        return _area(self.insertion, self.fractions)


def perturbed(
    answer: Answer,
    images: Tensor,
    maps: npt.NDArray[np.floating[Any]],
    *,
    steps: int = 20,
    baseline: str = "blur",
    batch_size: int = 32,
    seed: int = 0,
) -> Curves:
    """Take pixels away in the order of their relevance, and put them in.

    Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
    Models, BMVC 2018, section 4.3. Pixels that are filled in make images unlike any that the
    model has seen, so compare methods by it, and never read one number alone; `road` suffers less.

    Args:
        answer: What the model says, as `answering` gives it.
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance; equal pixels go in an order by chance.
        steps: In how many steps all pixels go.
        baseline: What stands where a pixel is not: `blur` (the blurred image), `mean` (the mean
            colour of the image), `zero` (the mean colour that normalisation took away).
        batch_size: Images asked at a time.
        seed: Of the order of equal pixels.

    Returns:
        The curves.

    Raises:
        ConfigError: if an option is wrong or the sizes differ.
    """
    _check(images, maps)
    if steps < 1:
        raise options.rejected("steps", "be a whole number of at least 1", steps)
    if baseline not in BASELINES:
        raise options.rejected("baseline", "be 'blur', 'mean' or 'zero'", baseline)
    places = _places(maps, seed)
    pixels = places.shape[1]
    edges = np.minimum(np.arange(steps + 1) * -(-pixels // steps), pixels)
    left: list[Floats] = []
    come: list[Floats] = []
    for rows in _blocks(len(images), batch_size):
        filling = _baseline(images[rows], baseline)
        for edge in edges:
            first = torch.from_numpy(places[rows] < edge).reshape(-1, 1, *images.shape[-2:])
            left.append(answer(torch.where(first, filling, images[rows]), rows))
            come.append(answer(torch.where(first, images[rows], filling), rows))
    deletion, insertion = (_by_image(part, len(edges)) for part in (left, come))
    return Curves(fractions=edges / pixels, deletion=deletion, insertion=insertion)


def average_drop(
    answer: Answer, images: Tensor, maps: npt.NDArray[np.floating[Any]], *, batch_size: int = 32
) -> tuple[float, float]:
    """Compare the answer about each image with that about its relevant part alone.

    Chattopadhyay et al., Grad-CAM++, WACV 2018, section 4.1: each image is multiplied by its map, the negative part
    left out, divided by its maximum. It favours maps that keep much of the image, so look at their size beside it.

    Args:
        answer: What the model says, as `answering` gives it.
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance.
        batch_size: Images asked at a time.

    Returns:
        The mean share of its answer that an image loses (0 where it gains), and the share of images that gain.

    Raises:
        ConfigError: if the sizes differ, or there are no images.
    """
    _check(images, maps)
    if not len(images):
        raise ConfigError("'images' must hold at least one, got none")
    kept = np.maximum(np.asarray(maps, dtype=np.float64), 0)
    highest = kept.max(axis=(1, 2), keepdims=True)
    shares = torch.from_numpy(np.divide(kept, highest, out=np.zeros_like(kept), where=highest > 0)).to(images)
    blocks = list(_blocks(len(images), batch_size))
    whole = np.concatenate([answer(images[rows], rows) for rows in blocks])
    part = np.concatenate([answer(images[rows] * shares[rows].unsqueeze(1), rows) for rows in blocks])
    return float(np.mean(np.maximum(whole - part, 0) / whole)), float(np.mean(part > whole))


def road(
    answer: Answer,
    images: Tensor,
    maps: npt.NDArray[np.floating[Any]],
    *,
    fractions: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise: float = 0.01,
    batch_size: int = 32,
    seed: int = 0,
) -> Floats:
    """Compare the answer without the least relevant pixels to that without the most relevant ones.

    Removed pixels are filled in from their neighbours with a little noise, so that their shape
    tells the model nothing (Rong et al., ICML 2022; the combined score of pytorch-grad-cam).

    Args:
        answer: What the model says, as `answering` gives it.
        images: (N, C, H, W), normalised.
        maps: (N, H, W) relevance; equal pixels go in an order by chance.
        fractions: Which shares of the pixels are removed in turn.
        noise: Standard deviation of the noise, in units of the normalised images.
        batch_size: Images asked at a time.
        seed: Of the noise and of the order of equal pixels.

    Returns:
        (N,) the mean over the shares of half the difference: above 0 where the map names what
        matters, 0 by chance.

    Raises:
        ConfigError: if an option is wrong or the sizes differ.
    """
    _check(images, maps)
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise options.rejected("fractions", "be shares above 0 and below 1", fractions)
    places, rng = _places(maps, seed), generator(seed, "road")
    count, total = places.shape[1], np.zeros(len(images))

    def without(removed: npt.NDArray[np.bool_], rows: Ints) -> Floats:
        made = [
            _filled(images[row].cpu().numpy(), removed[at].reshape(maps.shape[1:]), noise, rng)
            for at, row in enumerate(rows.tolist())
        ]
        return answer(torch.from_numpy(np.stack(made)), rows)

    for rows in _blocks(len(images), batch_size):
        for fraction in fractions:
            number = round(fraction * count)
            total[rows] += without(places[rows] >= count - number, rows) - without(places[rows] < number, rows)
    return total / (2 * len(fractions))


def max_sensitivity(
    explainer: Explainer,
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> Floats:
    """Compute how much a map can change when the image hardly does.

    Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 2,
    relative to the norm of the map, from samples.

    Args:
        explainer: The method.
        model: The model.
        images: (N, C, H, W), normalised.
        target: As in `Explainer.explain`; the class stays that of the clean images.
        radius: Every number of an image moves by at most this, in units of the normalised images.
        samples: How many changed images are tried.
        seed: Of the changes.

    Returns:
        (N,) the largest Euclidean distance of the maps over the norm of the map; NaN where that is
        zero or a map is not finite.

    Raises:
        ConfigError: if `radius` or `samples` is out of range.
    """
    if radius <= 0:
        raise options.rejected("radius", "be a number above 0", radius)
    if samples < 1:
        raise options.rejected("samples", "be a whole number of at least 1", samples)
    first = explainer.explain(model, images, target)
    rng = torch.Generator().manual_seed(seed)
    largest = np.zeros(len(images))
    for _ in range(samples):
        change = (2 * torch.rand(images.shape, generator=rng) - 1) * radius
        other = explainer.explain(model, images + change.to(images), first.target if target is None else target)
        gaps = np.linalg.norm((other.maps - first.maps).reshape(len(images), -1), axis=1)
        largest = np.maximum(largest, np.where(_finite(other), gaps, np.nan))
    norms = np.linalg.norm(first.maps.reshape(len(images), -1), axis=1)
    good = first.valid & (norms > 0)
    return np.where(good, largest / np.where(good, norms, 1), np.nan)


def _finite(found: Attributions) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(found.native).all(axis=(1, 2)))


def _filled(
    image: npt.NDArray[Any], removed: npt.NDArray[np.bool_], noise: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    filled = imputed(image, removed)
    filled[:, removed] += noise * rng.standard_normal((len(filled), int(removed.sum())))
    return filled.astype(np.float32)


# How many pixels have more relevance than each; equal ones by chance, since reading order would favour a corner.
def _places(maps: npt.NDArray[Any], seed: int) -> Ints:
    flat = np.asarray(maps).reshape(len(maps), -1)
    ties = generator(seed, "ties").random(flat.shape)
    order = np.lexsort((ties, -flat), axis=1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(flat.shape[1])[None], axis=1)
    return places


def _baseline(images: Tensor, name: str) -> Tensor:
    if name == "zero":
        return torch.zeros_like(images)
    if name == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    return _blurred(images)


# So wide that no shape of the image is left: a twelfth of its longer side.
def _blurred(images: Tensor) -> Tensor:
    channels, width = images.shape[1], max(images.shape[-2:]) / 12
    for axis in (2, 3):
        reach = min(int(3 * width), images.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        weights = torch.exp(-(steps**2) / (2 * width**2))
        shape = [channels, 1, 1, 1]
        shape[axis] = len(steps)
        kernel = (weights / weights.sum()).view(1, 1, *shape[2:]).expand(shape)
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        images = functional.conv2d(functional.pad(images, pad, mode="reflect"), kernel, groups=channels)
    return images


def _blocks(count: int, size: int) -> Iterator[Ints]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


# Answers in the order of blocks and then steps, as (N, S).
def _by_image(parts: list[Floats], steps: int) -> Floats:
    if not parts:
        return np.zeros((0, steps))
    return np.concatenate([np.stack(parts[at : at + steps], axis=1) for at in range(0, len(parts), steps)])


def _area(curves: Floats, fractions: Floats) -> Floats:
    return ((curves[:, 1:] + curves[:, :-1]) / 2) @ np.diff(fractions)


def _check(images: Tensor, maps: npt.NDArray[Any]) -> None:
    shape = (len(images), *images.shape[-2:])
    if np.shape(maps) != shape:
        raise ConfigError(f"'maps' must be one of the size of each image, {shape}, got {np.shape(maps)}")
    if not np.isfinite(maps).all():
        raise ConfigError("'maps' must be finite, got NaN or infinite relevance; take those that are 'valid'")
