"""Tasks, models, configs and training leave the generators of torch, numpy and random alone."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import random, sys
import numpy as np
import torch
import mechgrok.models.transformer  # imports may draw; calls may not
import mechgrok.training.trainer

def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

def unchanged(name, work):
    before = states()
    work()
    print(name, states() == before)

from mechgrok.config import BinaryTask, PostLNModel, RunConfig, Seeds, Stop, TransformerModel
from mechgrok.models.transformer import build
from mechgrok.presets import NAMES, preset
from mechgrok.tasks._pairs import SPLITS
from mechgrok.tasks.binary import Task
from mechgrok.training.trainer import train

small = TransformerModel(d_model=8, n_heads=2, d_head=4, d_mlp=16)
sizes = dict(d_vocab=8, n_ctx=3, d_vocab_out=8, seed=5)
unchanged("config", lambda: [preset(name, 7) for name in NAMES])
for split in SPLITS:
    task = BinaryTask(n=7, split=split, operation="random_labels", relabel=True)
    unchanged("task", lambda: Task.make(task, Seeds(data=1, relabel=2, labels=3)))
unchanged("model", lambda: build(small, **sizes))
config = RunConfig(task=BinaryTask(n=5), model=small, stop=Stop(3, None))
unchanged("train", lambda: train(config, run=sys.argv[1], progress=False,
                                 overrides={"optim.batch_size": 3, "optim.ema": .9,
                                            "record.fingerprint.every": 1,
                                            "record.fingerprint.probes": 5,
                                            "record.fingerprint.hook": "hook_embed"}))
noisy = PostLNModel(d_model=8, n_heads=2, d_mlp=16, dropout=.1, weight_noise=.1)
config = RunConfig(task=BinaryTask(n=5), model=noisy, stop=Stop(3, None))
unchanged("noisy", lambda: train(config, run=sys.argv[1] + "2", progress=False, overrides={
    "optim.weight_decay_form": "jiggle", "optim.noise_factor": .1, "optim.batch_size": 3}))
unchanged("control", lambda: random.random())
unchanged("control", lambda: torch.manual_seed(1))
unchanged("control", lambda: np.random.rand())
"""


def test_nothing_global_is_reseeded_or_drawn_from(tmp_path: Path) -> None:
    # a process of its own, because the type checker of this suite draws from `random` itself
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    names = ["config", "task", "task", "task", "model", "train", "noisy", *["control"] * 3]
    assert [name for name, _ in lines] == names
    assert all((answer == "True") == (name != "control") for name, answer in lines), lines
