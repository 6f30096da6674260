"""A run as a sequence of checkpoints, and the moments of its history."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok.runs import layout
from mechgrok.runs.checkpoint import Checkpoint, load_weights
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.training.evaluation import evaluate
from mechgrok.training.losses import make


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """A copy to change."""
    return Run(shutil.copytree(tiny_run.path, tmp_path / "copy"))


def test_a_run_is_a_sequence_of_its_checkpoints(tiny_run: Run) -> None:
    assert tiny_run.steps == [0, 20, 40, 60]
    assert len(tiny_run) == 4
    assert [ck.step for ck in tiny_run] == tiny_run.steps
    assert (tiny_run[0].step, tiny_run[-1].step) == (0, 60)
    assert [ck.step for ck in tiny_run[1:3]] == [20, 40]
    assert tiny_run.checkpoint(step=40).name == "tiny @ 40"
    with pytest.raises(IndexError):
        _ = tiny_run[4]


def test_a_checkpoint_is_the_model_the_metrics_speak_of(tiny_run: Run) -> None:
    rows = {row["step"]: row for row in tiny_run.evaluations()}
    loss = make(tiny_run.config.loss)
    for ck in tiny_run:
        for split in ("train", "test"):
            found = evaluate(ck.model, ck.task, loss, split, "cpu")
            assert found["loss"] == rows[ck.step][f"{split}_loss"]  # the same bits through a file
            assert found["correct"] == rows[ck.step][f"{split}_acc"]
        assert not ck.model.training
        logits, cache = ck.model.run_with_cache(ck.task.tokens)
        # float32 sums in another order
        torch.testing.assert_close(ck.answer_logits[:, 0], logits[:, -1], rtol=1e-5, atol=1e-6)
        assert "blocks.0.hook_resid_post" in list(cache.keys())


def test_a_missing_step_names_the_nearest(tiny_run: Run) -> None:
    with pytest.raises(RunError, match=r"no checkpoint at step 35; nearest: \[20, 40, 60\]"):
        tiny_run.checkpoint(35)


def test_weights_that_were_not_kept_are_named(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="keeps no ema weights"):
        tiny_run.checkpoint(20, weights="ema")
    with pytest.raises(RunError, match="expected raw or ema"):
        tiny_run.checkpoint(20, weights="average")
    averaged = tiny.train(tiny.config(optim__ema=0.5), tmp_path / "run")
    kinds = {name: averaged.checkpoint(20, weights=name) for name in (None, "raw", "ema")}
    assert {name: ck.kind for name, ck in kinds.items()} == {
        None: "ema",
        "raw": "raw",
        "ema": "ema",
    }
    name = "embed.W_E"
    assert torch.equal(kinds[None].weights[name], kinds["ema"].weights[name])
    assert not torch.equal(kinds["raw"].weights[name], kinds["ema"].weights[name])


def rewrite(run: Run, train_acc: list[float], test_acc: list[float]) -> None:
    """Another history for the same checkpoints, evaluated every 10 steps."""
    lines = [
        json.dumps({"step": 10 * i, "train_acc": a, "test_acc": b})
        for i, (a, b) in enumerate(zip(train_acc, test_acc, strict=True))
    ]
    (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_moments_are_the_first_checkpoint_at_or_after_the_crossing(run: Run) -> None:
    rewrite(run, [0, 1, 1, 1, 1, 1, 1], [0, 0, 0.99, 0.5, 0.99, 1, 0.995])
    crossing = run.crossing("test_acc", 0.99)
    assert crossing is not None
    assert crossing.interval == (30, 40)
    assert run.at("initial").step == 0
    assert run.at("memorised").step == 20  # crossed in (0, 10]
    assert run.at("generalised").step == 40
    assert run.at("final").step == 60


def test_a_moment_that_did_not_come_is_an_error(run: Run) -> None:
    rewrite(run, [0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1])
    assert run.crossing("test_acc", 0.99) is None
    with pytest.raises(RunError, match="has not generalised by step 60"):
        run.at("generalised")
    with pytest.raises(RunError, match=r"unknown moment 'grokked'.*memorised"):
        run.at("grokked")


def test_no_checkpoint_yet(run: Run) -> None:
    for path in (run.path / "checkpoints").iterdir():
        path.unlink()
    assert len(run) == 0
    assert list(run) == []
    with pytest.raises(RunError, match="no checkpoint yet"):
        _ = run[-1]
    with pytest.raises(RunError):
        run.at("final")


@pytest.mark.parametrize("file", ["config.yaml", "provenance.json"])
def test_a_directory_that_is_no_run_is_refused(file: str, run: Run) -> None:
    (run.path / file).unlink()
    with pytest.raises(RunError, match=file):
        Run(run.path)


def test_a_changed_config_is_noticed_at_the_checkpoint(run: Run) -> None:
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("d_mlp: 16", "d_mlp: 17"))
    with pytest.raises(RunError, match="another config"):
        _ = run[0]
    path.write_text(path.read_text().replace("d_mlp: 17", "d_mpl: 16"))
    with pytest.raises(RunError, match=r"model.d_mlp"):
        _ = Run(run.path).config
    path.write_text("{")
    with pytest.raises(RunError, match="cannot read"):
        _ = Run(run.path).config


def test_runs_are_equal_by_their_place(run: Run, tiny_run: Run) -> None:
    assert run == Run(run.path / ".." / run.path.name)
    assert len({run, Run(run.path), tiny_run}) == 2
    assert run != tiny_run


def test_metrics_as_a_frame(tiny_run: Run) -> None:
    frame = tiny_run.metrics()
    assert frame["step"].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert frame["train_acc"].between(0, 1).all()


def test_loading_lists_all_that_does_not_fit(tiny_run: Run) -> None:
    ck = tiny_run[0]
    wrong: dict[str, Any] = dict(ck.weights)
    wrong["extra"] = wrong.pop("pos_embed.W_pos")
    wrong["embed.W_E"] = torch.zeros(3, 8)
    before = {name: p.clone() for name, p in ck.model.named_parameters()}
    with pytest.raises(RunError) as error:
        load_weights(ck.model, wrong)
    for said in (
        "missing pos_embed.W_pos",
        "unexpected extra",
        "embed.W_E has shape [3, 8], expected [8, 8]",
    ):
        assert said in str(error.value)
    assert all(torch.equal(before[name], p) for name, p in ck.model.named_parameters())


def test_a_checkpoint_needs_no_run() -> None:
    config = tiny.config(seeds__base=4)
    task = Checkpoint(config, 0, {}).task
    assert (task.d_vocab, task.n_ctx) == (8, 3)
    assert (Checkpoint(config, 0, {}).name, Checkpoint(config, 0, {}).seed) == ("tiny @ 0", 4)


def test_every_file_of_a_run_is_in_the_layout(tiny_run: Run) -> None:
    documented = {name.split("/")[0].removesuffix("/") for name in layout.FILES}
    assert {path.name for path in tiny_run.path.iterdir()} <= documented
