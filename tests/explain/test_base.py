import copy
from collections.abc import Mapping
from typing import Any, final

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError, PluginContractError, UnsupportedModelError
from imgcls.explain.base import Explainer, Score, explainers, scores
from imgcls.explain.isolation import isolated
from imgcls.models.base import Classifier

NAMES = explainers.names()

VIT = {
    "name": "timm",
    "model": "test_vit",
    "pretrained": False,
    "options": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
}


@pytest.fixture(scope="session")
def transformer(build: Any) -> Classifier:
    model: Classifier = build(VIT, size=16)
    return model


@final
@attrs.frozen(kw_only=True)
class Given(Explainer):
    maps: Any

    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        maps: Tensor = self.maps
        return maps


@final
@attrs.frozen(kw_only=True)
class Vandal(Explainer):
    def attribute(self, model: nn.Module, images: Tensor, target: Score) -> Tensor:
        model.train().requires_grad_(True).register_forward_hook(lambda *_: None)
        model(images).sum().backward()
        raise RuntimeError("broken")


def state(model: nn.Module) -> Mapping[str, Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [module.training for module in model.modules()],
        "hooks": [list(getattr(module, name)) for module in model.modules() for name in hooks],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "eps": [module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [parameter.grad for parameter in model.parameters()],
        "versions": [parameter._version for parameter in model.parameters()],
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
    }


def assert_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    assert all(torch.equal(tensor, after["weights"][name]) for name, tensor in before["weights"].items())
    assert all(a is b for a, b in zip(before["grad"], after["grad"], strict=True))
    plain = before.keys() - {"weights", "grad"}
    assert {key: before[key] for key in plain} == {key: after[key] for key in plain}


def half_frozen(model: Classifier) -> Classifier:
    model = copy.deepcopy(model).train()
    model.body.eval()
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    for parameter in model.head.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    model.register_forward_hook(lambda *_: None)
    return model


@pytest.fixture
def used(small: Classifier) -> Classifier:
    return half_frozen(small)


# Those that follow attention need a transformer.
@pytest.fixture
def model(name: str, small: Classifier, transformer: Classifier) -> Classifier:
    return transformer if "rollout" in name else small


@pytest.mark.parametrize("name", NAMES)
class TestEveryExplainer:
    def test_gives_one_raw_map_per_image_at_its_size(self, name: str, model: Classifier, images: Tensor) -> None:
        found = explainers.create(name).explain(model, images)
        assert found.maps.shape == (4, 16, 16)
        assert found.maps.dtype == found.native.dtype == np.float32
        assert found.valid.all()
        assert np.array_equal(found.target, found.logits.argmax(axis=1))
        assert np.allclose(found.score, found.logits.max(axis=1))
        assert found.provenance["method"] == name
        assert found.provenance["target"] == "predicted"

    def test_leaves_a_half_frozen_model_in_mixed_modes_as_it_was(
        self, name: str, model: Classifier, images: Tensor
    ) -> None:
        used = half_frozen(model)
        before = state(used)
        explainers.create(name).explain(used, images)
        assert_same(before, state(used))
        assert not images.requires_grad

    @pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
    def test_works_where_gradients_are_off(self, name: str, guard: Any, model: Classifier, images: Tensor) -> None:
        expected = explainers.create(name).explain(model, images)
        with guard():
            found = explainers.create(name).explain(model, images.clone())
        assert np.array_equal(found.maps, expected.maps)

    def test_works_in_float32_inside_autocast(self, name: str, model: Classifier, images: Tensor) -> None:
        expected = explainers.create(name).explain(model, images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = explainers.create(name).explain(model, images)
        assert np.array_equal(found.maps, expected.maps)
        assert np.array_equal(found.logits, expected.logits)

    def test_explains_a_batch_as_it_explains_each_image(self, name: str, model: Classifier, images: Tensor) -> None:
        targets = [3, 0, 4, 1]
        together = explainers.create(name).explain(model, images, targets)
        for row, target in enumerate(targets):
            alone = explainers.create(name).explain(model, images[row : row + 1], target)
            assert np.allclose(alone.maps[0], together.maps[row], atol=1e-4 * np.abs(alone.maps).max())

    def test_takes_grey_images_and_a_head_of_one_logit(self, name: str, build: Any) -> None:
        spec: Any = VIT if "rollout" in name else {"name": "small-cnn", "base": 8, "depth": 2}
        model = build(spec, outputs=1, channels=1, size=16)
        grey = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
        one, zero, predicted = (explainers.create(name).explain(model, grey, target) for target in (1, 0, None))
        assert np.allclose(one.score, one.logits[:, 0])
        assert np.allclose(zero.score, -one.score)
        assert np.array_equal(predicted.target, (one.logits[:, 0] > 0).astype(int))
        assert predicted.score.min() > 0
        assert (one.valid | zero.valid).all()

    def test_accepts_arrays_and_tensors_as_targets(self, name: str, model: Classifier, images: Tensor) -> None:
        explainer = explainers.create(name)
        assert explainer.explain(model, images, np.array([1, 2, 3, 4])).target.tolist() == [1, 2, 3, 4]
        assert explainer.explain(model, images, torch.tensor(2)).target.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "'target' must be None, or classes from 0 to 4, got 5"),
        (-1, "got -1"),
        ([0, 1], "'target' must have one class per image, 4 in all, got 2"),
        ([0, 1, 2, 9], "got 9"),
        (1.0, "classes from 0 to 4, got 1.0"),
        ("0123", "got '0123'"),
        (True, "got True"),
    ],
)
def test_wrong_targets_are_refused(target: Any, message: str, small: Classifier, images: Tensor) -> None:
    with pytest.raises(ConfigError, match=message):
        Given(maps=torch.ones(4, 2, 2)).explain(small, images, target)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8), None])
def test_wrong_images_are_refused(wrong: Any, small: Classifier) -> None:
    with pytest.raises(ConfigError, match=r"'images' must be a float tensor \(B, C, H, W\)"):
        Given(maps=torch.ones(1, 2, 2)).explain(small, wrong)


def test_a_failing_explainer_leaves_the_model_as_it_was(used: Classifier, images: Tensor) -> None:
    before = state(used)
    with pytest.raises(RuntimeError, match="broken"):
        Vandal().explain(used, images)
    assert_same(before, state(used))


def test_maps_that_are_not_finite_or_empty_are_marked_and_hurt_nobody(small: Classifier, images: Tensor) -> None:
    maps = torch.ones(4, 2, 2)
    maps[0, 0, 0], maps[1] = torch.nan, 0
    found = Given(maps=maps).explain(small, images)
    assert found.valid.tolist() == [False, False, True, True]
    assert not found.maps[:2].any()
    assert np.isnan(found.native[0]).any()


def test_small_maps_grow_to_the_size_of_the_images(small: Classifier) -> None:
    found = Given(maps=torch.tensor([[[-1.0, 3.0]]])).explain(small, torch.zeros(1, 3, 8, 16))
    assert found.maps.shape == (1, 8, 16)
    assert (found.maps.min(), found.maps.max()) == (-1.0, 3.0)


@pytest.mark.parametrize("wrong", [torch.ones(3, 2, 2), torch.ones(4, 1, 2, 2), torch.ones(4, 2, 2).int(), 1])
def test_an_explainer_must_give_one_map_per_image(wrong: Any, small: Classifier, images: Tensor) -> None:
    with pytest.raises(PluginContractError, match=r"Given.attribute must give float maps \(4, h, w\)"):
        Given(maps=wrong).explain(small, images)


def test_a_plain_module_is_enough_where_no_target_layer_is_used(images: Tensor) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    assert Given(maps=torch.ones(4, 16, 16)).explain(plain, images).provenance["layer"] is None
    with pytest.raises(UnsupportedModelError, match=r"'model' must give logits \(B, K\), got \(4, 3, 16, 16\)"):
        Given(maps=torch.ones(4, 16, 16)).explain(nn.Identity(), images)


def test_isolation_shares_weights_and_copies_the_rest(small: Classifier) -> None:
    alone = isolated(small)
    pairs = list(zip(small.parameters(), alone.parameters(), strict=True))
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(small.buffers(), alone.buffers(), strict=True))


def test_models_with_pruned_or_half_precision_weights_are_explained(images: Tensor) -> None:
    from torch.nn.utils import prune

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    prune.l1_unstructured(model[1], "weight", amount=0.5)  # type: ignore[no-untyped-call]
    maps = torch.ones(4, 16, 16)
    assert np.allclose(Given(maps=maps).explain(model, images).logits, model(images).detach())
    half = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)).to(torch.bfloat16)
    assert Given(maps=maps).explain(half, images).valid.all()
    assert half[1].weight.dtype == torch.bfloat16


def test_a_model_that_cannot_be_copied_is_refused(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    model.stream = (number for number in range(3))  # type: ignore[assignment]
    with pytest.raises(UnsupportedModelError, match=r"must be copyable by copy.deepcopy, got Sequential"):
        Given(maps=torch.ones(4, 16, 16)).explain(model, images)


def test_scores_of_one_logit_are_signed_by_the_class() -> None:
    assert scores(torch.tensor([[2.0], [2.0]]), torch.tensor([0, 1])).tolist() == [-2.0, 2.0]
