"""Rollout against products written out from the attention of each block."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.rollout import GradientRollout, Rollout

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def transformer(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    model = timm.create_model(name, **{**TINY, **options}).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.3)
    return model


def drawn(number: int = 3, channels: int = 3) -> Tensor:
    return torch.randn(number, channels, 16, 16, generator=torch.Generator().manual_seed(3))


# The weights (B, heads, N, N) of each block, by switching fused attention off and hooks.
def attentions(model: Any, images: Tensor, target: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
    kept: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: kept.append(out)) for block in model.blocks
    ]
    logits = model(images)
    for handle in handles:
        handle.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    gradients = [] if target is None else list(torch.autograd.grad(logits[:, target].sum(), kept))
    return [weights.detach() for weights in kept], gradients


def by_hand(weights: list[Tensor], fuse: Any, discard: float = 0.0) -> Tensor:
    whole = torch.eye(weights[0].shape[-1]).expand(len(weights[0]), -1, -1)
    for layer in weights:
        fused = fuse(layer)
        number = int(fused[0].numel() * discard)
        for row in fused:
            row.view(-1)[row.flatten().argsort()[:number]] = 0
        mixed = (fused + torch.eye(fused.shape[-1])) / 2
        whole = (mixed / mixed.sum(dim=2, keepdim=True)) @ whole
    return whole


FUSIONS: dict[str, Any] = {"mean": lambda a: a.mean(1), "max": lambda a: a.amax(1), "min": lambda a: a.amin(1)}


@pytest.mark.parametrize("discard", [0.0, 0.4])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_is_the_product_of_the_layers(fusion: str, discard: float) -> None:
    model, images = transformer(), drawn()
    found = Rollout(fusion=fusion, discard=discard).explain(model, images)
    expected = by_hand(attentions(model, images)[0], FUSIONS[fusion], discard)[:, 0, 1:]
    assert np.allclose(found.native.reshape(3, -1), expected, atol=1e-6)
    assert all(block.attn.fused_attn for block in model.blocks)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_layers_that_attend_evenly_keep_a_known_share(layers: int) -> None:
    model = transformer(depth=layers)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight[:32], block.attn.qkv.bias[:32] = 0, 0  # queries and keys
    found = Rollout().explain(model, drawn(1)).native
    assert found == pytest.approx((1 - 2.0**-layers) / 17, rel=1e-5)
    assert 1 - found.sum() == pytest.approx((1 - 2.0**-layers) / 17 + 2.0**-layers, rel=1e-5)  # the token of the class


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_that_is_read_is_one(fusion: str) -> None:
    found = Rollout(fusion=fusion).explain(transformer(global_pool="avg", class_token=False), drawn())
    assert found.native.sum(axis=(1, 2)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "rows", "prefix"),
    [
        ({}, [0], 1),
        ({"reg_tokens": 2}, [0], 3),
        ({"global_pool": "avg", "class_token": False}, range(16), 0),
        ({"global_pool": "avg"}, range(1, 17), 1),
        ({"global_pool": "avg", "class_token": False, "reg_tokens": 3}, range(3, 19), 3),
    ],
)
def test_reads_the_rows_that_the_answer_depends_on(options: Any, rows: Any, prefix: int) -> None:
    model, images = transformer(**options), drawn()
    found = Rollout().explain(model, images)
    whole = by_hand(attentions(model, images)[0], FUSIONS["mean"])
    expected = whole[:, list(rows)].mean(dim=1)[:, prefix:]
    assert np.allclose(found.native.reshape(3, -1), expected, atol=1e-6)


def test_reads_both_tokens_of_a_distilled_network() -> None:
    model, images = transformer("deit_tiny_distilled_patch16_224"), drawn()
    expected = by_hand(attentions(model, images)[0], FUSIONS["mean"])[:, :2].mean(dim=1)[:, 2:]
    assert np.allclose(Rollout().explain(model, images).native.reshape(3, -1), expected, atol=1e-6)


def test_reads_the_rows_that_a_pooling_attention_weights() -> None:
    model, images = transformer(global_pool="map", class_token=False), drawn()
    found = Rollout().explain(model, images)
    whole = by_hand(attentions(model, images)[0], FUSIONS["mean"])
    model.attn_pool.fused_attn = False
    kept: list[Tensor] = []
    softmax = torch.Tensor.softmax

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func is softmax and out.shape[-2] == 1:
                kept.append(out)
            return out

    with Watch(), torch.no_grad():
        model(images)
    expected = (kept[0].mean(dim=1) @ whole)[:, 0]
    assert np.allclose(found.native.reshape(3, -1), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg", "class_token": False}])
def test_gradient_rollout_is_the_formula_of_its_paper(options: Any) -> None:
    model, images = transformer(**options), drawn()
    found = GradientRollout().explain(model, images, 1)
    weights, gradients = attentions(model, images, 1)
    whole = torch.eye(weights[0].shape[-1]).expand(3, -1, -1)
    for weight, gradient in zip(weights, gradients, strict=True):
        whole = whole + (weight * gradient).clamp(min=0).mean(dim=1) @ whole
    whole = whole - torch.eye(weights[0].shape[-1])
    expected = whole[:, 0, 1:] if not options else whole.mean(dim=1)
    assert np.allclose(found.native.reshape(3, -1), expected, rtol=1e-3, atol=1e-7)


def test_gradient_rollout_is_of_a_class_and_rollout_is_not() -> None:
    model, images = transformer(), drawn()
    assert np.array_equal(Rollout().explain(model, images, 0).maps, Rollout().explain(model, images, 1).maps)
    one, other = (GradientRollout().explain(model, images, target).maps for target in (0, 1))
    assert not np.allclose(one, other, rtol=0.1)


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224", "vit_relpos_small_patch16_224"])
def test_positions_inside_of_attention_are_counted(name: str) -> None:
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}
    found = Rollout().explain(timm.create_model(name, **options).eval(), drawn(2))
    assert found.native.shape == (2, 4, 4)
    assert found.native.sum(axis=(1, 2)).max() <= 1 + 1e-6


def test_torchvisions_attention_is_opened() -> None:
    from torchvision.models import VisionTransformer

    model: Any = VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=3).eval()
    nn.init.normal_(model.heads[0].weight, generator=torch.Generator().manual_seed(0))
    images, weights = drawn(2), []
    with torch.no_grad():
        x = torch.cat([model.class_token.expand(2, -1, -1), model._process_input(images)], dim=1)
        x = x + model.encoder.pos_embedding
        for layer in model.encoder.layers:
            normed = layer.ln_1(x)
            weights.append(layer.self_attention(normed, normed, normed, average_attn_weights=False)[1])
            x = layer(x)
    expected = by_hand(weights, FUSIONS["mean"])[:, 0, 1:]
    assert np.allclose(Rollout().explain(model, images).native.reshape(2, -1), expected, atol=1e-6)


def test_grey_images_and_oblong_ones_are_followed() -> None:
    model = timm.create_model("vit_tiny_patch16_224", **{**TINY, "img_size": (16, 32), "in_chans": 1}).eval()
    images = torch.randn(2, 1, 16, 32, generator=torch.Generator().manual_seed(0))
    assert Rollout().explain(model, images).native.shape == (2, 4, 8)


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        ("test_resnet", {}, "a model without attention"),
        ("mixer_s32_224", {"img_size": 64}, "a model without attention"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 4},
            "attention in windows, .* 'x? ?16 x 3 x 16 x 16'",
        ),
        ("pvt_v2_b0", {}, "attention in windows, to pooled tokens"),
        ("cait_xxs24_224", {"img_size": 64, "depth": 1}, "weights are changed before they mix values"),
        ("xcit_nano_12_p16_224", {"img_size": 64, "depth": 1}, "of the class token alone"),
        ("levit_128s", {"img_size": 64}, "attention in windows, to pooled tokens"),
    ],
)
def test_other_attention_is_refused_with_the_reason(name: str, options: Any, cause: str) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = timm.create_model(name, num_classes=3, **options).eval()
    for method in (Rollout(), GradientRollout()):
        with pytest.raises(UnsupportedModelError, match=f"{cause}.*; use 'lrp', 'grad-cam'"):
            method.explain(model, images)
