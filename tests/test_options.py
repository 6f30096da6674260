"""Configs are changed and read strictly, and lose nothing on the way."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import tiny
import yaml

from mechgrok.config import AdamW, ConfigError, RunConfig, Schedule, Seeds, Stop
from mechgrok.options import differences, from_dict, override, to_dict
from mechgrok.presets import NAMES, preset


@pytest.mark.parametrize("name", NAMES)
def test_yaml_and_dicts_give_the_same_config_back(name: str) -> None:
    config = preset(name, seed=3)
    assert from_dict(RunConfig, to_dict(config)) == config
    text = yaml.safe_dump(to_dict(config))
    assert from_dict(RunConfig, yaml.safe_load(text)) == config
    assert override(config, {}) == config
    assert from_dict(RunConfig, yaml.safe_load(text)).digest() == config.digest()


@pytest.mark.parametrize(
    ("dotted", "given", "kept"),
    [
        ("optim.weight_decay", 0.3, 0.3),
        ("optim.weight_decay", 3, 3.0),
        ("optim.weight_decay", "1e-3", 1e-3),
        ("optim.betas", [0.8, "0.9"], (0.8, 0.9)),
        ("optim.batch_size", 64, 64),
        ("optim.batch_size", None, None),
        ("optim.ema", "1e-1", 0.1),
        ("model.normalization", "LN", "LN"),
        ("model.normalization", None, None),
        ("task.relabel", True, True),
        ("schedule.checkpoints", ["at 0"], ("at 0",)),
        ("record.recorders", [], ()),
        ("init_from", "somewhere", "somewhere"),
        ("stop.after_generalised", None, None),
        ("threads", 2, 2),
    ],
)
def test_a_fitting_value_replaces_one_field(dotted: str, given: Any, kept: Any) -> None:
    config = override(RunConfig(), {dotted: given})
    found: Any = config
    for part in dotted.split("."):
        found = getattr(found, part)
    assert found == kept
    assert type(found) is type(kept)
    assert set(differences(RunConfig(), config)) <= {dotted}


def test_yaml_reads_1e_minus_3_as_text_and_it_is_a_number_all_the_same() -> None:
    data = yaml.safe_load("lr: 1e-3")
    assert data == {"lr": "1e-3"}
    assert from_dict(AdamW, data).lr == 0.001


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("optim.lr", "fast", "optim.lr = 'fast'; expected a number"),
        ("optim.lr", True, "expected float"),
        ("optim.lr", None, "expected float"),
        ("optim.lr", [1.0], "expected float"),
        ("optim.warmup_steps", 1.5, "expected int"),
        ("optim.warmup_steps", "10", "expected int"),
        ("optim.warmup_steps", True, "expected int"),
        ("optim.betas", [0.9], "expected 2 values"),
        ("optim.betas", 0.9, "optim.betas = 0.9"),
        ("optim.batch_size", 1.5, "expected int or null"),
        ("optim.ema", "much", "expected float or null"),
        ("task.relabel", 1, "expected bool"),
        ("task.relabel", "yes", "expected bool"),
        ("task.n", None, "expected int"),
        ("task.outputs", "all", "expected one of ['tokens', 'answers']"),
        (
            "model.normalization",
            "BatchNorm",
            "expected one of ['LN', 'LNPre', 'RMS', 'RMSPre'] or null",
        ),
        ("model.trained_biases", "some", "expected one of"),
        ("schedule.checkpoints", "at 0", "schedule.checkpoints = 'at 0'"),
        ("schedule.checkpoints", [0], "schedule.checkpoints = 0; expected str"),
        ("task", "binary", "task is a group of settings; set one of"),
    ],
)
def test_a_wrong_type_says_what_was_given_and_expected(dotted: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(RunConfig(), {dotted: value})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("dotted", "nearest"),
    [
        ("optim.weight_decy", "optim.weight_decay"),
        ("weight_decay", "optim.weight_decay"),
        ("model.nlayers", "model.n_layers"),
        ("task.n.deeper", "task.n"),
        ("stopp.max_steps", "stop.max_steps"),
        ("", "preset"),
    ],
)
def test_an_unknown_field_names_the_nearest(dotted: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown option.*'{nearest}'"):
        override(RunConfig(), {dotted: 1})


def test_an_unknown_field_of_a_file_is_named_with_its_path() -> None:
    data = to_dict(RunConfig())
    data["model"]["n_layer"] = 2
    with pytest.raises(ConfigError, match=r"'model.n_layer'.*'model.n_layers'"):
        from_dict(RunConfig, data)
    with pytest.raises(ConfigError, match="the config is 3"):
        from_dict(RunConfig, yaml.safe_load("3"))


def test_differences_list_both_values_of_every_leaf() -> None:
    old, new = tiny.config(), tiny.config(optim__lr=0.1, task__n=11)
    assert differences(old, new) == {"optim.lr": (0.001, 0.1), "task.n": (7, 11)}
    assert differences(old, old) == {}


CHANGED: list[dict[str, Any]] = [
    {"task.n": 11},
    {"task.operation": "subtract"},
    {"model.d_mlp": 17},
    {"loss.dtype": "float32"},
    {"optim.weight_decay": 0.5},
    {"schedule.evaluate_every": 7},
    {"record.recorders": ["weight_norm"]},
    {"record.fingerprint.every": 2},
    {"seeds.batch": 4},
    {"init_from": "elsewhere"},
]


@pytest.mark.parametrize("change", CHANGED)
def test_the_digest_follows_what_decides_the_weights(change: dict[str, Any]) -> None:
    assert override(tiny.config(), change).digest() != tiny.config().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"stop.max_steps": 1},
        {"stop.after_generalised": 3},
        {"device": "cuda"},
        {"threads": 2},
        {"preset": "x"},
    ],
)
def test_the_digest_does_not_follow_what_does_not(change: dict[str, Any]) -> None:
    assert override(tiny.config(), change).digest() == tiny.config().digest()


def test_a_config_is_frozen_and_has_no_shared_parts() -> None:
    one, two = RunConfig(), RunConfig()
    with pytest.raises(AttributeError):
        one.stop.max_steps = 3  # type: ignore[misc]
    assert replace(one, stop=Stop(3)) != two
    assert Schedule().checkpoints == ("at 0", "every 500")
    assert Seeds().with_base(4) == Seeds(**dict.fromkeys(
        ["base", "data", "labels", "relabel", "init", "batch", "noise", "probe"], 4
    ))  # fmt: skip


@dataclass(frozen=True)
class Round:
    name: str = "round"
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    name: str = "square"
    side: float = 2.0


@dataclass(frozen=True)
class Drawing:
    shape: Round | Square = field(default_factory=Round)
    title: str = ""


def test_a_part_of_several_kinds_is_chosen_by_its_name() -> None:
    assert from_dict(Drawing, {"shape": {"name": "square", "side": 3}}) == Drawing(Square(side=3.0))
    assert from_dict(Drawing, {"shape": {"radius": 3}}) == Drawing(Round(radius=3.0))
    own = {"name": "lab.shape", "side": 1.0}
    assert from_dict(Drawing, {"shape": own}) == Drawing(Square("lab.shape", 1.0))
    assert from_dict(Drawing, to_dict(Drawing(Square()))) == Drawing(Square())


def test_naming_another_kind_starts_that_part_anew() -> None:
    asked = {"shape.side": 5, "shape.name": "square", "title": "x"}
    assert override(Drawing(Round(radius=9.0)), asked) == Drawing(Square(side=5.0), "x")
    assert override(Drawing(Square(side=9.0)), {"shape.name": "square"}).shape == Square(side=9.0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"name": "oval"}, r"shape.name = 'oval'; expected one of \['round', 'square'\]"),
        ({"name": "square", "radius": 1.0}, r"unknown option 'shape.radius'"),
        ({"name": "lab.shape", "girth": 1.0}, r"those of none of \['round', 'square'\]"),
        ("square", r"shape is 'square'; expected settings with a name"),
    ],
)
def test_a_part_that_is_none_of_the_kinds_is_refused(shape: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        from_dict(Drawing, {"shape": shape})
