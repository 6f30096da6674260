"""Fingerprints hold what a forward says at the right places, and training does not feel it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from mechgrok.config import EquationTask, Seeds
from mechgrok.runs.run import Run
from mechgrok.tasks import equation
from mechgrok.tasks.equation import EOS, VOCABULARY
from mechgrok.training import probes
from mechgrok.training.fingerprint import Values

RECORD = {"record.fingerprint.every": 2, "record.fingerprint.probes": 10}

EQUATIONS: dict[str, Any] = {
    "task.name": "equation",
    "task.frac_train": 0.01,
    "model.name": "post_ln",
    "model.d_model": 8,
    "model.n_heads": 2,
    "model.d_mlp": 16,
    "optim.batch_size": 20,
    "schedule.checkpoints": ["every 1"],
    "schedule.evaluate_every": 100,
    "stop.max_steps": 5,
}


def train(directory: Path, changes: Mapping[str, Any]) -> Run:
    return tiny.train(tiny.config(), directory, **changes)


@pytest.fixture(scope="module")
def equations(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five steps of openai/grok's task, every one kept, recorded on both splits."""
    both = {**RECORD, "record.fingerprint.splits": ["train", "test"]}
    return train(tmp_path_factory.mktemp("equations") / "run", {**EQUATIONS, **both})


def read_logits(run: Run, step: int) -> torch.Tensor:
    """Logits of every position of the probes, hooked, of the weights as float64."""
    checkpoint = run.checkpoint(step, weights="raw")
    model = checkpoint.model
    with torch.no_grad():
        return model(run.task.tokens[run.fingerprints.probes]).double()


def test_values_are_the_answers_at_equals_and_the_eos_after_the_answer(equations: Run) -> None:
    """By construction: positions are found by their tokens, not by the task's answer_positions."""
    found = equations.fingerprints
    assert found.steps.tolist() == [0, 2, 4]
    assert list(found.values) == ["answer_log_prob", "margin", "end_log_prob"]
    tokens = equations.task.tokens[found.probes]
    [equals] = set((tokens == VOCABULARY.index("=")).nonzero()[:, 1].tolist())
    assert equals == 4
    answers = tokens[:, equals + 1]
    a, b = tokens[:, 1] - VOCABULARY.index("0"), tokens[:, 3] - VOCABULARY.index("0")
    assert torch.equal((a + b) % 97 + VOCABULARY.index("0"), answers)
    for i, step in enumerate(found.steps.tolist()):
        logits = read_logits(equations, step)
        for probe, answer in enumerate(answers.tolist()):
            at_equals = logits[probe, equals]
            own = at_equals[answer]
            others = torch.cat([at_equals[:answer], at_equals[answer + 1 :]])
            expected = {
                "answer_log_prob": own - at_equals.logsumexp(0),
                "margin": own - others.max(),
                "end_log_prob": logits[probe, equals + 1].log_softmax(0)[VOCABULARY.index(EOS)],
            }
            for name, value in expected.items():
                # two orders of float32 sums in the model; logits are of size 1
                assert found.values[name][i, probe] == pytest.approx(float(value), abs=2e-5)


def test_in_a_float64_model_values_are_exact_to_its_precision(tmp_path: Path) -> None:
    run = train(tmp_path / "run", {**EQUATIONS, **RECORD, "model.dtype": "float64"})
    found = run.fingerprints
    answers = run.task.labels[found.probes, 0]
    for i, step in enumerate(found.steps.tolist()):
        log_probs = read_logits(run, step).log_softmax(-1)[:, 4]
        expected = log_probs[torch.arange(10), answers].numpy()
        assert np.abs(found.values["answer_log_prob"][i] - expected).max() < 1e-13


def test_probabilities_near_one_keep_their_digits(tmp_path: Path) -> None:
    """log p = -1e-9 is 0 in float32; the logits that say so are not."""
    run = train(tmp_path / "run", {**RECORD, "stop.max_steps": 0})
    values = Values(run.task, run.task.splits["train"][:3], "cpu")
    model = run[0].model
    with torch.no_grad():
        model.unembed.W_U.zero_()
        model.unembed.b_U.zero_()
        model.unembed.b_U[values.labels[0]] = 20.0
    found = values.of(model)
    assert found["answer_log_prob"][0] == pytest.approx(-7 * np.exp(-20.0), rel=1e-6)
    assert found["margin"][0] == 20.0


def test_rows_without_an_end_token_have_no_end_log_prob(tmp_path: Path) -> None:
    run = train(tmp_path / "run", {**RECORD, "schedule.checkpoints": ["every 2"]})
    found = run.fingerprints
    assert list(found.values) == ["answer_log_prob", "margin"]
    assert found.steps.tolist() == list(range(0, 60, 2))
    for step in (0, 58):
        logits = read_logits(run, step)[:, -1]
        answers = run.task.labels[found.probes]
        expected = logits.log_softmax(-1).gather(1, answers)[:, 0].numpy()
        row = found.values["answer_log_prob"][step // 2]
        assert np.abs(row - expected).max() < 2e-5  # float32 sums in another order


@pytest.mark.parametrize(
    "changes",
    [
        tiny.EVERYTHING,
        {**EQUATIONS, "model.dropout": 0.1, "model.weight_noise": 0.01, "stop.max_steps": 12},
        {"record.fingerprint.hook": "blocks.0.mlp.hook_post"},
    ],
    ids=["everything", "noise", "hidden"],
)
def test_recorded_or_not_the_weights_are_the_same_bits(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with_it = tiny.trained_parts(train(tmp_path / "with", {**changes, **RECORD}).path)
    off = {**changes, "record.fingerprint.every": 0}
    without = tiny.trained_parts(train(tmp_path / "without", off).path)
    assert "fingerprints" in with_it
    assert "fingerprints" not in without
    for parts in (with_it, without):
        parts.pop("fingerprints", None)
        _step, _tensors, header = parts["state"]
        header.pop("config")  # the digest names what was asked, recording included
    assert with_it == without


def test_resume_gives_the_file_of_an_uninterrupted_run(tmp_path: Path) -> None:
    hidden = {"record.fingerprint.hook": "blocks.0.hook_resid_post"}
    changes = {**tiny.EVERYTHING, **hidden}
    whole = tiny.trained_parts(train(tmp_path / "whole", changes).path)
    for first in (1, 13, 39):
        run = tmp_path / f"from {first}"
        train(run, {**changes, "stop.max_steps": first})
        found = Run(run).fingerprints
        assert found.steps.tolist() == list(range(0, first, 3))
        parts = tiny.trained_parts(train(run, changes).path)
        assert parts["fingerprints"] == whole["fingerprints"]


def test_published_probes() -> None:
    """Seed 42 of 3,764 training rows, as the released code chooses them."""
    task = equation.Task.make(EquationTask(operation="add", frac_train=0.4), Seeds())
    chosen = probes.choose(task, ("train",), 100, 42)
    assert chosen.places[:10].tolist() == [14, 32, 93, 120, 149, 179, 196, 211, 220, 256]
    assert chosen.places[-3:].tolist() == [3630, 3697, 3711]
    digest = hashlib.sha256(chosen.places.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "c3b8453b41125e68"
    row = task.tokens[chosen.rows[0]].tolist()
    assert " ".join(VOCABULARY[token] for token in row[1:]) == "42 + 60 = 5"


def test_probes_of_a_split_do_not_depend_on_the_others() -> None:
    task = equation.Task.make(EquationTask(operation="add", frac_train=0.4), Seeds())
    both = probes.choose(task, ("test", "train"), 7, 42)
    assert both.splits == ("test",) * 7 + ("train",) * 7
    for part, name in ((slice(0, 7), "test"), (slice(7, 14), "train")):
        alone = probes.choose(task, (name,), 7, 42)
        assert torch.equal(both.rows[part], alone.rows)
        assert set(alone.rows.tolist()) <= set(task.splits[name].tolist())
    assert probes.choose(task, ("train",), 7, 43).places.tolist() != both.places[7:].tolist()
