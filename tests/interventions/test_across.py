"""Patching across checkpoints: identities, both normalisations, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from mechgrok import interventions as ours
from mechgrok.interventions.across import Across
from mechgrok.interventions.metrics import loss
from mechgrok.runs.run import Run

NULLS = ("random initialisation", "spectrum matched", "neurons shuffled")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = tiny.config(model__dtype="float64", stop__max_steps=200)
    return tiny.train(config, tmp_path_factory.mktemp("across") / "run")


def across(donor: Any, recipient: Any, nodes: Any = "head,mlp", **more: Any) -> Across:
    return ours.patch_across(donor=donor, recipient=recipient, nodes=nodes, **more)


def test_a_checkpoint_in_itself_changes_nothing(run: Run) -> None:
    found = across(run[-1], run[-1], metric="loss")
    torch.testing.assert_close(
        found.value["donor"],
        torch.full((3,), found.own[0], dtype=torch.float64),
        rtol=0,
        atol=1e-12,
    )
    assert found.tau() == (None,) * 3  # the two do not differ: not 0, not a division by 0
    kappas = found.kappa("spectrum matched")
    assert kappas == pytest.approx([1.0 if k is not None else None for k in kappas], abs=1e-9)


def test_the_whole_stream_is_the_donor_read_by_the_recipient(run: Run) -> None:
    """One layer: the last stream from D, unembedded by R, as a transplant of all but W_U says."""
    early, late = run.checkpoint(20), run[-1]
    found = across(late, early, "resid_post", metric="loss", split="all")
    everything_but = [n for n, _ in early.model.named_parameters() if "unembed" not in n]
    own = dict(early.model.named_parameters())
    saved = {n: own[n].detach().clone() for n in everything_but}
    with torch.no_grad():
        for n in everything_but:
            own[n].copy_(dict(late.model.named_parameters())[n])
        logits = early.model(run.task.tokens)[:, -1]
        for n in everything_but:
            own[n].copy_(saved[n])
    expected = loss(logits, run.task.labels[:, 0]).mean()
    assert float(found.value["donor"][0]) == pytest.approx(float(expected), abs=1e-10)


def test_tau_and_kappa_are_their_formulas_and_undefined_where_they_are(run: Run) -> None:
    early, late = run.checkpoint(20), run[-1]
    found = across(late, early, metric="loss", split="train")
    apart = found.of["donor"][0] - found.own[0]
    assert abs(apart) > 0.2 * math.log(8)
    assert found.tau()[2] == pytest.approx((float(found.value["donor"][2]) - found.own[0]) / apart)
    near = across(run.checkpoint(40), run.checkpoint(20), metric="accuracy", split="test")
    assert abs(near.of["donor"][0] - near.own[0]) < 0.2
    assert near.tau() == (None,) * 3
    for name in NULLS:
        for i, kappa in enumerate(found.kappa(name)):
            null, mine = float(found.loss[name][i]), float(found.loss["donor"][i])
            if kappa is None:
                assert null <= found.own[1] + 1e-9
            else:
                assert kappa == pytest.approx((null - mine) / (null - found.own[1]))


def test_the_table_has_every_null_and_raw_values(run: Run) -> None:
    frame = across(run[-1], run[0], nulls={"an earlier one": run.checkpoint(20)}).table()
    assert list(frame.donor.unique()) == ["donor", *NULLS, "an earlier one"]
    assert frame.value.notna().all()
    assert frame.without.notna().all()
    assert frame[frame.donor == "donor"].kappa.isna().all()
    assert (frame.common_parent == f"run {run.path.resolve()}").all()
    assert (frame.n == len(run.task.splits["test"])).all()


def test_frequencies_add_up_to_the_whole_node(run: Run) -> None:
    """All frequencies together differ from the whole node by its mean alone: left-out ones sum."""
    early, late = run.checkpoint(20), run[-1]
    nodes = ours.nodes("mlp", position=-1, freq=[1, 2, 3])
    found = across(late, early, nodes, metric="correct_minus_mean", split="all")
    own, values = found.own[0], found.value["donor"]
    pairs = found.without["donor"]
    # the logits are linear in the last MLP output, and so is this metric: effects do add here
    effects = values - own
    torch.testing.assert_close(pairs - own, effects.sum() - effects, rtol=0, atol=1e-10)
    assert float(effects.abs().max()) > 1e-3


def test_what_cannot_be_patched_says_why(run: Run, tmp_path: Path) -> None:
    short = {"stop__max_steps": 20, "model__dtype": "float64"}
    minus = tiny.train(tiny.config(task__operation="subtract", **short), tmp_path / "minus")
    named = tiny.train(tiny.config(task__relabel=True, **short), tmp_path / "named")
    wide = tiny.train(tiny.config(model__d_mlp=20, **short), tmp_path / "wide")
    late = run[-1]
    with pytest.raises(ValueError, match="different tasks"):
        across(minus[-1], late)
    assert across(minus[-1], late, across_tasks=True).kappa("spectrum matched") == (None,) * 3
    with pytest.raises(ValueError, match="different tokenisations"):
        across(named[-1], late, across_tasks=True)
    with pytest.raises(ValueError, match=r"differ in shape: blocks.0.mlp.W_in is \(8, 20\)"):
        across(wide[-1], late)
    with pytest.raises(ValueError, match="unknown component 'hed'"):
        across(late, run[0], "hed")
    with pytest.raises(ValueError, match="got no nodes"):
        across(late, run[0], [])
    with pytest.raises(ValueError, match="unknown metric 'los'"):
        across(late, run[0], metric="los")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        across(late, run[0], split="dev")
    with pytest.raises(ValueError, match="without a task"):
        across(late, run[0].model)
