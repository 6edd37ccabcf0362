"""What explanations cost: beside pytorch-grad-cam, beside zennit with the same rules, and in forward passes.

Contenders explain the same batch with the same model and targets, in turn in one process with one thread; each pair
has a process of its own. `memory` is how much the process grew for the batch, for each image. Weights are random,
which changes no time.

    python benchmarks/explain.py [--rounds 5] [--batches 8 32] [--only grad-cam] [--out docs/results/explain.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timing import in_turn  # type: ignore[import-not-found]  # beside this script
from torch import Tensor, nn

from imgcls import backbones, explainers
from imgcls.models.base import Classifier

SIZE, CLASSES = 224, 10

Works = Mapping[str, Callable[[], Any]]


def classifier(name: str) -> Classifier:
    """Build a network.

    Args:
        name: As for `backbones.create`.

    Returns:
        It, in evaluation mode.
    """
    spec = backbones.create(name).__class__
    model = name.removeprefix("torchvision/")
    return spec(model=model, pretrained=False).build(CLASSES, image_size=(SIZE, SIZE)).eval()  # type: ignore[call-arg]


def ours(spec: Any, model: nn.Module, images: Tensor) -> Callable[[], Any]:
    """Explain with imgcls.

    Args:
        spec: The explainer.
        model: The model.
        images: (B, 3, H, W).

    Returns:
        The work.
    """
    return functools.partial(explainers.create(spec).explain, model, images, [0] * len(images))


def grad_cam(name: str, images: Tensor) -> Works:
    """Compare with pytorch-grad-cam, released after each call as its manual wants.

    Args:
        name: The backbone.
        images: (B, 3, H, W).

    Returns:
        The works.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = classifier(name)

    def peer() -> Any:
        with GradCAM(model=model, target_layers=[model.target_module()]) as cam:
            return cam(input_tensor=images, targets=[ClassifierOutputTarget(0)] * len(images))

    return {"peer": peer, "imgcls": ours("grad-cam", model, images)}


def lrp(composite: str, images: Tensor) -> Works:
    """Compare with zennit on the ResNet-50 of torchvision, for which it has canonizers.

    Args:
        composite: The rules.
        images: (B, 3, H, W).

    Returns:
        The works.
    """
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonGammaBox, EpsilonPlus
    from zennit.torchvision import ResNetCanonizer

    model = classifier("torchvision/resnet50")
    rules = {"epsilon-plus": EpsilonPlus, "epsilon-gamma-box": functools.partial(EpsilonGammaBox, low=-2.2, high=2.7)}
    one_hot = torch.eye(CLASSES)[[0] * len(images)]

    def peer() -> Any:
        with Gradient(model=model, composite=rules[composite](canonizers=[ResNetCanonizer()])) as attributor:
            return attributor(images, one_hot)

    spec = {"name": "lrp", "composite": composite, "zero_bias": False}
    return {"peer": peer, "imgcls": ours(spec, model, images)}


def rollout(name: str, images: Tensor, discard: float) -> Works:
    """Compare with a forward pass.

    Args:
        name: The backbone.
        images: (B, 3, H, W).
        discard: The share of attention that is discarded.

    Returns:
        The works.
    """
    model = classifier(name)

    @torch.inference_mode()
    def peer() -> Any:
        return model(images)

    return {"peer": peer, "imgcls": ours({"name": "rollout", "discard": discard}, model, images)}


JOBS: Mapping[str, tuple[str, Callable[[Tensor], Works]]] = {
    "grad-cam resnet18": ("pytorch-grad-cam", functools.partial(grad_cam, "resnet18")),
    "grad-cam resnet50": ("pytorch-grad-cam", functools.partial(grad_cam, "resnet50")),
    "grad-cam mobilenetv3": ("pytorch-grad-cam", functools.partial(grad_cam, "mobilenetv3_large_100")),
    "lrp epsilon-plus resnet50": ("zennit", functools.partial(lrp, "epsilon-plus")),
    "lrp epsilon-gamma-box resnet50": ("zennit", functools.partial(lrp, "epsilon-gamma-box")),
    "rollout vit_tiny": ("a forward pass", functools.partial(rollout, "vit_tiny_patch16_224", discard=0.0)),
    "rollout discard vit_tiny": ("a forward pass", functools.partial(rollout, "vit_tiny_patch16_224", discard=0.9)),
    "rollout vit_small": ("a forward pass", functools.partial(rollout, "vit_small_patch16_224", discard=0.0)),
}


def measure(job: str, batch: int, rounds: int) -> dict[str, float]:
    """Measure a pair in this process.

    Args:
        job: One of `JOBS`.
        batch: How many images.
        rounds: How often each explains.

    Returns:
        Seconds of each, and mebibytes an image of imgcls.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    works = JOBS[job][1](torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    works["imgcls"]()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / batch
    works["peer"]()  # both have run once before the clock starts
    return {**in_turn(works, rounds), "memory": grown}


def row(job: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a pair in a process of its own.

    Args:
        job: One of `JOBS`.
        batch: How many images.
        options: Of the command line.

    Returns:
        What the table says.
    """
    command = [sys.executable, __file__, "--job", job, "--batches", str(batch), "--rounds", str(options.rounds)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    line = {
        "what": f"{job}, {batch} images, seconds",
        "peer": f"{found['peer']:.3f} ({JOBS[job][0]})",
        "imgcls": f"{found['imgcls']:.3f}",
        "ratio": round(found["peer"] / found["imgcls"], 2),
        "times": round(found["imgcls"] / found["peer"], 2),
        "memory": f"{found['memory']:.0f} MiB an image",
    }
    print(line, file=sys.stderr, flush=True)
    return line


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--only", default="", help="the beginning of a job's name")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure(options.job, options.batches[0], options.rounds)))
        return
    rows = [row(job, b, options) for job in JOBS if job.startswith(options.only) for b in options.batches]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}"
    result = {"rows": rows, "machine": machine}
    print(json.dumps(result, indent=1))
    if options.out:
        if options.only:  # the others stay as they were measured
            new = {one["what"]: one for one in rows}
            known = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
            result["rows"] = [new.get(one["what"], one) for one in known]
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
