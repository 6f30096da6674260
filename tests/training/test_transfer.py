"""Transfer: frozen bits, fresh parts, null donors, digests, and a run like any other."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok.config import BinaryTask, ConfigError, GroupTask, RunConfig, Transfer
from mechgrok.runs import layout
from mechgrok.runs.run import Run, read_config
from mechgrok.runs.storage import RunError, read_tensors
from mechgrok.training.parts import donor_weights
from mechgrok.training.transfer import config_of, read_task, transfer

EMBEDDING = {"embed.W_E", "unembed.W_U", "unembed.b_U"}
SHORT = {"stop.max_steps": 40, "schedule.checkpoints": ["at 0", "every 20"]}


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.train(tiny.config(), tmp_path_factory.mktemp("transfer") / "donor")


def child_of(donor: Run, directory: Path, **more: Any) -> Run:
    given = {"task": "add mod 7, relabelled", "overrides": SHORT, "progress": False, **more}
    return transfer(donor[-1], run=directory, **given)


def moved(run: Run) -> set[str]:
    """Weights that training changed."""
    first, last = run[0].weights, run[-1].weights
    return {name for name in first if not torch.equal(first[name], last[name])}


def test_frozen_parts_keep_their_bits_and_have_no_state(donor: Run, tmp_path: Path) -> None:
    run = child_of(donor, tmp_path / "run", train="embedding")
    for name, weight in run[-1].weights.items():
        same = torch.equal(weight, donor[-1].weights[name])
        assert same == (name not in {"embed.W_E", "unembed.W_U"}), name
    assert moved(run) == {"embed.W_E", "unembed.W_U"}  # b_U is frozen by the model's own setting
    state, _ = read_tensors(layout.state(run.path, run.steps[-1]))
    assert {n.split("/")[1] for n in state if n.startswith("optimizer/")} == moved(run)
    fresh = donor[0].weights["embed.W_E"]
    assert not torch.equal(run[0].weights["embed.W_E"], fresh)
    assert run.provenance["transfer"]["donor_step"] == donor.steps[-1]
    assert set(run.provenance["transfer"]["taken"]).isdisjoint(EMBEDDING)


def test_the_other_words_train_the_other_parts(donor: Run, tmp_path: Path) -> None:
    plain = {**SHORT, "task.relabel": False}
    body = child_of(donor, tmp_path / "body", train="body", overrides=plain)
    assert not moved(body) & EMBEDDING
    assert torch.equal(body[-1].weights["embed.W_E"], donor[-1].weights["embed.W_E"])
    everything = child_of(donor, tmp_path / "all", train="all", overrides=plain)
    assert torch.equal(everything[0].weights["embed.W_E"], donor[-1].weights["embed.W_E"])
    assert {"embed.W_E", "blocks.0.mlp.W_in"} <= moved(everything)
    alone = child_of(donor, tmp_path / "W_E", train="all", take=["W_E"], overrides=plain)
    same = {n for n, w in alone[0].weights.items() if torch.equal(w, donor[-1].weights[n])}
    assert {n for n in same if ".b_" not in n} == {"embed.W_E"}  # biases are 0 in both


def test_resumed_equals_uninterrupted(donor: Run, tmp_path: Path) -> None:
    whole = child_of(donor, tmp_path / "whole")
    child_of(donor, tmp_path / "half", overrides={**SHORT, "stop.max_steps": 20})
    resumed = child_of(donor, tmp_path / "half")
    assert tiny.trained_parts(resumed.path) == tiny.trained_parts(whole.path)
    assert resumed.provenance["transfer"] == whole.provenance["transfer"]


def test_a_child_is_a_run_like_any_other(donor: Run, tmp_path: Path) -> None:
    run = child_of(donor, tmp_path / "run", task="D_4")
    assert isinstance(run.config.task, GroupTask)  # of another vocabulary than the donor's
    assert run[-1].weights["embed.W_E"].shape[0] == 9
    assert run.measure("weight_norm").values
    assert run[-1].lineage[:2] == (
        f"run {run.path.resolve()}", f"run {donor.path.resolve()}",
    )  # fmt: skip


def test_no_older_digest_changes(donor: Run) -> None:
    assert RunConfig().digest() == read_digest(RunConfig())
    changed = read_config(donor.path / "config.yaml")
    assert changed.digest() == donor.provenance["config_digest"]
    other = config_of(donor[-1], task="add mod 7", seed=0)
    assert len({other.digest(), config_of(donor[0], task="add mod 7", seed=0).digest()}) == 2


def read_digest(config: RunConfig) -> str:
    """The digest by hand, without the field: what runs from before it have."""
    import hashlib
    import json

    from mechgrok.config.run import _changed

    data = _changed(config)
    for name in ("preset", "stop", "device", "threads", "perturbation", "transfer"):
        data.pop(name, None)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def test_null_donors_keep_what_they_say(donor: Run) -> None:
    def made(change: str, **more: Any) -> dict[str, torch.Tensor]:
        return donor_weights(Transfer(donor=str(donor.path), change=change, **more))  # pyright: ignore

    own = donor[-1].weights
    assert all(torch.equal(w, own[n]) for n, w in made("none").items())
    spectra = made("spectrum_matched", seed=3)
    for name, weight in own.items():
        if ".W_" in name:
            assert not torch.allclose(spectra[name], weight)
            torch.testing.assert_close(
                torch.linalg.svdvals(spectra[name]), torch.linalg.svdvals(weight),
                rtol=1e-4, atol=1e-5,
            )  # fmt: skip
    shuffled = made("w_out_permuted", seed=3)
    different = {n for n in own if not torch.equal(own[n], shuffled[n])}
    assert different == {"blocks.0.mlp.W_out"}
    rows = {tuple(row.tolist()) for row in own["blocks.0.mlp.W_out"]}
    assert {tuple(row.tolist()) for row in shuffled["blocks.0.mlp.W_out"]} == rows
    random = made("random_init", seed=3)
    assert not torch.equal(random["embed.W_E"], donor[0].weights["embed.W_E"])
    assert torch.equal(made("random_init")["embed.W_E"], donor[0].weights["embed.W_E"])
    without = made("none", without_neurons=(2, 5))
    assert float(without["blocks.0.mlp.W_in"][:, [2, 5]].abs().sum()) == 0
    assert float(without["blocks.0.mlp.W_out"][[2, 5]].abs().sum()) == 0
    assert torch.equal(without["blocks.0.mlp.W_out"][3], own["blocks.0.mlp.W_out"][3])


def test_words_are_tasks(donor: Run) -> None:
    like = BinaryTask(n=7, frac_train=0.6)
    assert read_task("subtract mod 5", like) == BinaryTask("binary", "subtract", 5, 0.6)
    assert read_task("D_29, relabelled", like) == GroupTask(
        group="D_29", frac_train=0.6, relabel=True
    )
    with pytest.raises(ConfigError, match="cannot read the task 'plus mod'"):
        read_task("plus mod", like)
    with pytest.raises(ConfigError, match="plus"):
        config_of(donor[-1], task="plus mod 7")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transfer.parts": ["boddy"]}, "transfer.parts: unknown part 'boddy'"),
        ({"transfer.train": ["bodies"]}, "transfer.train: unknown part 'bodies'"),
        ({"transfer.train": ["unembed.b_U"]}, "leaves nothing to train"),
        ({"transfer.parts": ["embedding"], "task.n": 8}, "do not fit: embed.W_E is"),
        ({"seeds.init": 0}, "seeds.init = 0 is the donor's own"),
        ({"init_from": "somewhere"}, "init_from"),
        ({"transfer.change": "shuffled"}, "transfer.change = 'shuffled'"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_file_is_written(
    changes: dict[str, Any], said: str, donor: Run, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, RunError), match=said):
        child_of(donor, tmp_path / "run", overrides={**SHORT, **changes})
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_donor_that_is_not_there_is_named(donor: Run, tmp_path: Path) -> None:
    for changes, said in (
        ({"transfer.step": 35}, "no checkpoint 35; nearest: .*20"),
        ({"transfer.donor": "nowhere"}, "'nowhere' is neither"),
    ):
        with pytest.raises(RunError, match=said):
            child_of(donor, tmp_path / "run", overrides={**SHORT, **changes})
    with pytest.raises(ConfigError, match="train = 'head'"):
        config_of(donor[-1], task="add mod 7", train="head")
    with pytest.raises(ConfigError, match="belongs to no run directory"):
        config_of(donor[-1].untrained(3), task="add mod 7")
