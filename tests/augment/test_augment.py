from typing import Any

import attrs
import pytest

from imgcls.augment.augment import Augment, Policies, to_augment
from imgcls.augment.geometry import Rotate
from imgcls.augment.groups import KINDS
from imgcls.augment.per_image import PerSample
from imgcls.augment.presets import PRESETS
from imgcls.core.config import from_yaml, replace, to_yaml
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError

PLAIN: Any = [kind for kind in KINDS if kind.name not in {"one-of", "per-sample"}]


def through_yaml(value: Any) -> Any:
    return to_augment(from_yaml(to_yaml(dump(value))))


@pytest.mark.parametrize("kind", PLAIN)
def test_every_transform_comes_back_from_yaml(kind: Any) -> None:
    value = Augment(transforms=[kind(), attrs.evolve(kind(), p=0.125)])
    assert through_yaml(value) == value


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_come_back_from_yaml(preset: str) -> None:
    value = to_augment(preset)
    assert through_yaml(value) == value


def test_policies_are_written_as_they_are_read() -> None:
    value = to_augment({"default": "light", "MT_Fray": {"transforms": "strong", "fill": "border"}, "fill": "none"})
    assert isinstance(value, Policies)
    assert list(dump(value)) == ["default", "MT_Fray", "fill"]
    assert through_yaml(value) == value


def test_specs_of_all_forms_mean_the_same() -> None:
    value = Augment(transforms=(Rotate(degrees=15, p=0.5),))
    for spec in (
        value,
        [{"name": "rotate", "degrees": 15, "p": 0.5}],
        {"name": "rotate", "degrees": [-15, 15]},
        {"transforms": ["rotate"], "fill": "zeros"},
        from_yaml("[{name: rotate, degrees: 15, p: 0.5}]"),
    ):
        assert to_augment(spec) == value
    assert to_augment(None) == to_augment("none") == Augment()


def test_options_change_by_dotted_paths() -> None:
    value = replace(to_augment("light"), {"transforms.1.degrees": 20, "fill": "border"})
    assert value.transforms[1].degrees == (-20, 20)
    policies = replace({"augment": Policies({"default": "light"})}, {"augment.default.transforms.1.p": 0.1})
    assert to_augment(policies["augment"])["default"].transforms[1].p == 0.1


def test_functions_are_recorded_and_refused_when_read_back() -> None:
    value = to_augment([PerSample(function=lambda image, _: image)])
    with pytest.raises(
        ConfigError, match=r"'augment.transforms.0.function' must be a function of \(image, rng\), got {'op"
    ):
        through_yaml(value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mediun", r"'augment.transforms' must be a list .* got 'mediun'; did you mean 'medium'\?"),
        ("rotate", r"a single transform goes into a list: \['rotate'\]"),
        (3, "'augment.transforms' must be the name of a preset, a list of transforms or a mapping, got 3"),
        (["rotat"], r"'augment.transforms.0' must name one of its kinds, got 'rotat'; did you mean 'rotate'"),
        (["one_of"], r"did you mean 'one-of'\?"),
        (
            [{"name": "rotate", "degres": 3}],
            r"'augment.transforms.0.degres' must be an option of Rotate; did you mean 'degrees'\?",
        ),
        (
            [{"name": "rotate", "degrees": 200}],
            r"'augment.transforms.0.degrees' must be .* from -180 to 180, got \(-200, 200\)",
        ),
        ([{"name": "rotate", "degrees": [9, 3]}], r"got \(9, 3\); put the lower number first"),
        (
            [{"name": "rotate", "p": 1.5}],
            "'augment.transforms.0.p' must be a number of at least 0 and at most 1, got 1.5",
        ),
        ([{"name": "rotate", "crop": 1}], "'augment.transforms.0.crop' must be a bool, got 1"),
        ([{"name": "gaussian-blur", "sigma": "big"}], "'augment.transforms.0.sigma' must be a number or a pair"),
        ([{"name": "median-blur", "size": 4}], "'augment.transforms.0.size' must be 3 or 5, got 4"),
        (
            [{"name": "erasing", "value": "noise"}],
            "'augment.transforms.0.value' must be 'mean' or a number from 0 to 1",
        ),
        ([{"name": "grid-distortion", "limit": 0.5}], "'augment.transforms.0.limit' must be .* below 0.5, got 0.5"),
        ([{"name": "one-of"}], "'augment.transforms.0.transforms' must be given"),
        ([{"name": "one-of", "transforms": []}], "must be a list of at least one Transform"),
        ([{"name": "one-of", "transforms": [{"name": "hue", "p": 0}]}], "must have one with 'p' above 0"),
        ([{"name": "one-of", "transforms": ["hue", "mixup"]}], "must all mix images or none, .*; make two groups"),
        (
            {"transforms": [], "fill": "mirror"},
            "'augment.fill' must be one of 'zeros', 'border', 'reflection', got 'mirror'",
        ),
        (
            {"transforms": ["hue"], "fill": "border"},
            "'augment.fill' must be left out where no transform moves",
        ),
        ([{"name": "scale", "factor": [0, 1]}], r"from 0.1 to 10, got \(0, 1\)$"),
        ({"crack": "light"}, r"'augment' must have 'transforms', or 'default' and names of classes, got \['crack'\]"),
        ({"fil": "zeros", "transforms": []}, "'augment.fil' must be an option of Augment; did you mean 'fill'"),
        ({"default": "light", "crack": ["hues"]}, "'augment.crack.transforms.0' must name one of its kinds"),
    ],
)
def test_wrong_specs_are_refused_by_name_with_a_remedy(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_augment(spec)
