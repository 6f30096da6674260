"""A run is perturbed once, after initialisation, never on resume, and its digest says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok.config import ConfigError, Perturbation, RunConfig
from mechgrok.presets import preset
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.training import trainer

SMALL = {"perturbation.seed": 100, "perturbation.scale": 1e-3}


def train(directory: Path, steps: int, **changes: Any) -> Run:
    return trainer.train(
        tiny.config(), run=directory, progress=False, overrides={"stop.max_steps": steps, **changes}
    )


def first_weights(run: Run) -> Mapping[str, torch.Tensor]:
    return run.checkpoint(0).weights


def test_the_initial_weights_move_by_the_scale(tmp_path: Path) -> None:
    plain = first_weights(train(tmp_path / "plain", 0))
    moved = first_weights(train(tmp_path / "moved", 0, **SMALL))
    change = {n: float((moved[n] - w).norm() / w.norm()) for n, w in plain.items() if w.norm() > 0}
    assert change
    assert all(0.5e-3 < size < 1.5e-3 for size in change.values()), change
    assert all(torch.equal(moved[n], w) for n, w in plain.items() if w.norm() == 0)


def test_it_happens_once_and_not_on_resume(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 40, **SMALL)
    train(tmp_path / "halves", 20, **SMALL)
    halves = train(tmp_path / "halves", 40, **SMALL)
    assert tiny.trained_parts(halves.path) == tiny.trained_parts(whole.path)


def test_weights_started_from_are_perturbed_too(tmp_path: Path) -> None:
    source = train(tmp_path / "source", 20)
    child = train(tmp_path / "child", 0, init_from=str(source.path), **SMALL)
    start, found = source.checkpoint(20).weights, first_weights(child)
    apart = sum(float((found[n] - w).square().sum()) for n, w in start.items()) ** 0.5
    size = sum(float(w.square().sum()) for w in start.values()) ** 0.5
    assert 0.9e-3 < apart / size < 1.1e-3


def test_configs_without_one_keep_their_digests() -> None:
    """As recorded before there was a perturbation."""
    found = {name: preset(name, 0).digest()[:16] for name in ("quick", "spectral_add40")}
    assert found == {"quick": "83ecdbf3e212e92b", "spectral_add40": "1cfb6a97e45a414b"}


def test_a_perturbed_config_has_a_digest_of_its_own() -> None:
    ways = [Perturbation(), Perturbation(100, 1e-3), Perturbation(101, 1e-3), Perturbation(100, 1)]
    assert len({RunConfig(perturbation=way).digest() for way in ways}) == len(ways)


@pytest.mark.parametrize(
    ("seed", "scale"), [(100, 0.0), (None, 1e-3), (100, -1e-3), (-1, 1e-3), (3, float("inf"))]
)
def test_half_a_perturbation_is_refused_before_a_file_is_written(
    seed: int | None, scale: float, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="expected a seed of at least 0 and a positive scale"):
        train(tmp_path / "run", 0, **{"perturbation.seed": seed, "perturbation.scale": scale})
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_averaged_weights_when_asked(tmp_path: Path) -> None:
    source = train(tmp_path / "source", 20, **{"optim.ema": 0.9})
    raw, averaged = (source.checkpoint(20, kind).weights for kind in ("raw", "ema"))
    start = {"init_from": str(source.path)}
    for kind, wanted, other in (("raw", raw, averaged), ("ema", averaged, raw)):
        child = train(tmp_path / kind, 0, **start, init_weights=kind)
        found = first_weights(child)
        assert all(torch.equal(found[n], w) for n, w in wanted.items())
        assert any(not torch.equal(found[n], w) for n, w in other.items())


def test_averaged_weights_must_have_been_kept_and_come_from_somewhere(tmp_path: Path) -> None:
    source = train(tmp_path / "source", 20)
    with pytest.raises(RunError, match="keeps no ema weights"):
        train(tmp_path / "child", 0, init_from=str(source.path), init_weights="ema")
    with pytest.raises(ConfigError, match="without init_from"):
        train(tmp_path / "child", 0, init_weights="ema")
    assert not (tmp_path / "child" / "config.yaml").exists()
