import json
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.core.errors import ConfigError
from imgcls.explain.base import explainers
from imgcls.explain.completeness import completeness
from imgcls.explain.isolation import isolated
from imgcls.explain.lrp import Lrp
from imgcls.explain.rules import Gamma

SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 24, "num_heads": (2, 2), "depths": (1, 1)}

#: One small network for each kind of layer.
SMALL: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_vit": {},
    "test_vit4": {},
    "test_convnext": {},
    "test_efficientnet": {},
    "test_efficientnet_gn": {},
    "test_byobnet": {},
    "test_nfnet": {},
    "test_mambaout": {},
    "swin_tiny_patch4_window7_224": SWIN,
    "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16)},
    "densenet121": {"growth_rate": 8, "block_config": (2, 2)},
}

_AT_224 = (
    "resnet18 seresnet18 resnest14d resnet50_gn nfnet_l0 skresnet18 hrnet_w18_small dla34 dpn48b inception_v3 "
    "repvgg_a0 ghostnet_100 mobilevit_xxs levit_128s pvt_v2_b0 twins_pcpvt_small davit_tiny xcit_nano_12_p16_224 "
    "eva02_tiny_patch14_224 mixer_s32_224 gmlp_ti16_224 volo_d1_224 convnextv2_atto edgenext_xx_small "
    "cait_xxs24_224 tf_efficientnetv2_b0 mobilenetv2_100 mobilenetv3_large_100 mobilenetv4_conv_small "
    "efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 poolformer_s12 "
    "deit_tiny_distilled_patch16_224 deit3_small_patch16_224 pit_ti_224 tnt_s_legacy_patch16_224 visformer_tiny "
    "resmlp_12_224 rexnet_100 cspresnet50 vovnet39a selecsls42b resnetv2_50 lcnet_050 tinynet_e regnety_002 "
    "densenet121 vgg11_bn convnext_tiny vit_tiny_patch16_224 swin_tiny_patch4_window7_224 repvit_m1 starnet_s1 "
    "mambaout_femto tiny_vit_5m_224 convit_tiny coat_lite_tiny hgnetv2_b0 rdnet_tiny gcresnet33ts eca_resnext26ts"
)

#: Networks of timm that share no forward function with another one here; the size where it is not 224.
FAMILIES = {
    **dict.fromkeys(_AT_224.split(), 224),
    "crossvit_tiny_240": 240,
    "vit_small_patch16_dinov3": 256,
    "swinv2_tiny_window8_256": 256,
    "vit_wee_patch16_reg1_gap_256": 256,
}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


# Biases, norms and layer scales as after some training.
def lively(model: nn.Module, size: int) -> nn.Module:
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gamma" in name or ".ls" in name or ("norm" in name and name.endswith("weight")):
                parameter.uniform_(0.5, 1.5, generator=rng)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2, generator=rng)
        model.train()
        for _ in range(2):
            model(torch.randn(4, 3, size, size, generator=rng))
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
def test_no_relevance_is_lost(name: str) -> None:
    model = lively(timm.create_model(name, num_classes=5, **SMALL[name]), 32)
    measured = completeness(isolated(model), drawn(1, 3, 32, 32))
    assert measured.unchanged
    assert measured.ratio == pytest.approx(1, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_no_relevance_is_lost_in_any_family(name: str) -> None:
    size = FAMILIES[name]
    model = lively(timm.create_model(name, num_classes=5), size)
    measured = completeness(isolated(model), drawn(1, 3, size, size))
    assert measured.holds()


def test_there_are_more_than_fifty_families() -> None:
    assert len(FAMILIES) > 60


@pytest.mark.parametrize(
    "name",
    ["resnet18", "regnety_002", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "vgg11_bn"))],
)
def test_z_plus_conserves_the_score_without_biases(name: str, build: Any) -> None:
    model = build({"name": "timm", "model": name, "pretrained": False}, size=64)
    found = Lrp(composite="epsilon-plus").explain(model, drawn(2, 3, 64, 64))
    assert found.conserved == pytest.approx(1, abs=1e-3)


def zennits(model: nn.Module, images: Tensor, target: list[int], composite: Any) -> Any:
    from zennit.torchvision import ResNetCanonizer

    leaf = images.clone().requires_grad_()
    with composite(canonizers=[ResNetCanonizer()]).context(model) as changed:
        logits = changed(leaf)
        (found,) = torch.autograd.grad(logits, leaf, torch.eye(logits.shape[1])[target] * logits.detach())
    return found.sum(dim=1)


def composites() -> dict[str, tuple[Lrp, Any]]:
    import functools

    from zennit import composites as z
    from zennit.rules import zero_bias

    nothing = {"zero_params": zero_bias()}
    return {
        "plus": (Lrp(composite="epsilon-plus", zero_bias=False), z.EpsilonPlus),
        "plus without biases": (Lrp(composite="epsilon-plus"), functools.partial(z.EpsilonPlus, **nothing)),
        "plus flat": (Lrp(composite="epsilon-plus-flat"), functools.partial(z.EpsilonPlusFlat, **nothing)),
        "alpha beta": (Lrp(composite="epsilon-alpha2-beta1", zero_bias=False), z.EpsilonAlpha2Beta1),
        "alpha beta flat": (Lrp(composite="epsilon-alpha2-beta1-flat", zero_bias=False), z.EpsilonAlpha2Beta1Flat),
        "gamma box": (
            Lrp(composite="epsilon-gamma-box"),
            functools.partial(z.EpsilonGammaBox, low=drawn(1, 3, 64, 64).amin(), high=drawn(1, 3, 64, 64).amax()),
        ),
    }


@pytest.mark.parametrize("case", composites())
def test_maps_are_those_of_zennit_where_it_conserves(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    model = lively(resnet18(num_classes=5), 64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12  # which zennit forgets when it merges
    images = drawn(1, 3, 64, 64).clamp(drawn(1, 3, 64, 64).amin(), drawn(1, 3, 64, 64).amax()).expand(2, 3, 64, 64)
    monkeypatch.setattr(
        "imgcls.explain.lrp.bounds", lambda _, x: (torch.full_like(x, x.amin()), torch.full_like(x, x.amax()))
    )
    own, theirs = composites()[case]
    found = own.explain(model, images, [0, 3]).native
    expected = zennits(model, images, [0, 3], theirs).numpy()
    angles = functional.cosine_similarity(torch.from_numpy(found).flatten(1), torch.from_numpy(expected).flatten(1))
    assert angles.numpy() == pytest.approx(1, abs=1e-4)
    off = abs(found.sum(axis=(1, 2)) - expected.sum(axis=(1, 2)))
    assert (off <= 1e-3 * abs(expected).sum(axis=(1, 2))).all()  # sums of both signs may cancel to nearly nothing


@pytest.mark.parametrize(("name", "normed"), [("test_resnet", False), ("test_vit", True), ("test_convnext", True)])
def test_rules_follow_the_norms_of_a_network(name: str, normed: bool, build: Any) -> None:
    model = build({"name": "timm", "model": name, "pretrained": False}, size=32)
    rules = Lrp().explain(model, drawn(1, 3, 32, 32)).provenance["rules"]
    kind, bias = ("gamma", False) if normed else ("z-plus", True)
    assert (rules["conv"]["name"], rules["zero_bias"]) == (kind, bias)
    json.dumps(rules)


def test_gamma_gets_no_zero_bias() -> None:
    for composite in ("epsilon-gamma-box", {"linear": {"name": "gamma", "gamma": 0.1}}):
        with pytest.raises(ConfigError, match=r"'explainer.zero_bias' must be left out with a gamma rule, got True"):
            explainers.create({"name": "lrp", "composite": composite, "zero_bias": True})


def test_a_composite_survives_as_a_spec() -> None:
    method = explainers.create({"name": "lrp", "composite": {"conv": {"name": "gamma", "gamma": 0.1}, "first": "box"}})
    assert isinstance(method, Lrp)
    assert not isinstance(method.composite, str | None)
    assert method.composite.conv == Gamma(gamma=0.1)
    from imgcls.core.dumping import spec_of

    assert explainers.create(json.loads(json.dumps(spec_of(method)))) == method


def test_attention_may_take_a_share(build: Any) -> None:
    model = build({"name": "timm", "model": "test_vit", "pretrained": False}, size=32)
    images = drawn(2, 3, 32, 32)
    values, split = (Lrp(attention=kind).explain(model, images) for kind in ("values", "attn-lrp"))
    assert split.valid.all()
    assert not np.allclose(values.maps, split.maps, rtol=0.01)


def test_torchvisions_transformer_is_explained(build: Any) -> None:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads[0].weight, generator=torch.Generator().manual_seed(0))
    assert completeness(isolated(model), drawn(1, 3, 32, 32)).ratio == pytest.approx(1, abs=1e-9)
    assert Lrp().explain(model, drawn(2, 3, 32, 32)).valid.all()


def test_the_box_is_black_and_white_of_the_facts_and_maps_fit_padded_images(build: Any) -> None:
    model = build({"name": "timm", "model": "tf_efficientnetv2_b0", "pretrained": False}, size=33)
    found = Lrp(composite="epsilon-gamma-box").explain(model, drawn(1, 3, 33, 33))
    assert found.maps.shape == (1, 33, 33)
    assert found.valid.all()


def test_a_model_is_checked_once(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(1)
        return completeness(*args)

    monkeypatch.setattr("imgcls.explain.lrp.completeness", counted)
    model = build("small-cnn", size=16)
    for _ in range(3):
        Lrp().explain(model, drawn(2, 3, 16, 16))
    assert len(calls) == 1
    model.head = nn.Sequential(nn.Linear(model.facts.num_features, 4), nn.ReLU(), nn.Linear(4, 5))
    Lrp().explain(model, drawn(2, 3, 16, 16))
    assert len(calls) == 2
