"""Small files in the layouts of other people's, built from random models."""

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mechgrok.config import BinaryTask, Seeds, TransformerModel
from mechgrok.measures.losses import row_losses
from mechgrok.models.shared_prefix import answer_logits
from mechgrok.models.transformer import Transformer, build
from mechgrok.tasks.binary import Task

P = 11


def model(n_layers: int = 1, seed: int = 0, **sizes: Any) -> Transformer:
    """A random model of addition mod 11 whose losses differ from row to row; MLP biases not 0."""
    small = {"d_model": 16, "n_heads": 2, "d_head": 4, "d_mlp": 24, **sizes}
    made = build(
        TransformerModel(n_layers=n_layers, **small),
        d_vocab=P + 1,
        n_ctx=3,
        d_vocab_out=P + 1,
        seed=seed,
    )
    with torch.no_grad():
        for name, x in made.named_parameters():
            x.mul_(3)
            if ".mlp.b_" in name:
                x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(5)))
    return made.eval()


def nanda_tensors(of: Transformer) -> dict[str, Tensor]:
    """A model's weights in the layout of progress-measures-paper, written out the long way."""
    found = {
        "embed.W_E": of.embed.W_E.T,
        "pos_embed.W_pos": of.pos_embed.W_pos,
        "unembed.W_U": of.unembed.W_U,
    }
    for i, block in enumerate(of.blocks):
        for x in "QKV":
            found[f"blocks.{i}.attn.W_{x}"] = getattr(block.attn, f"W_{x}").transpose(1, 2)
        found[f"blocks.{i}.attn.W_O"] = rearrange(block.attn.W_O, "h d_head d -> d (h d_head)")
        found[f"blocks.{i}.attn.mask"] = torch.ones(3, 3).tril()
        found[f"blocks.{i}.mlp.W_in"] = block.mlp.W_in.T
        found[f"blocks.{i}.mlp.b_in"] = block.mlp.b_in
        found[f"blocks.{i}.mlp.W_out"] = block.mlp.W_out.T
        found[f"blocks.{i}.mlp.b_out"] = block.mlp.b_out
    return {name: x.detach().clone().contiguous() for name, x in found.items()}


def split_losses(of: Transformer, seed: int, frac_train: float) -> tuple[float, float]:
    """Train and test loss under the published split."""
    task = Task.make(BinaryTask(n=P, frac_train=frac_train), Seeds(data=seed))
    with torch.no_grad():
        rows = row_losses(answer_logits(of, task.tokens).double(), task.labels[:, 0])
    return tuple(float(rows[task.splits[s]].mean()) for s in ("train", "test"))  # type: ignore[return-value]


def nanda_run(of: Transformer, seed: int = 7, frac_train: float = 0.4) -> dict[str, Any]:
    """A whole saved run: 21 epochs, test losses every 10, config and optimiser at odds."""
    train, test = split_losses(of, seed, frac_train)
    groups = [{"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1, "params": [0]}]
    return {
        "model": nanda_tensors(of),
        "optimizer": {"state": {}, "param_groups": groups},
        "scheduler": {"last_epoch": 21},
        "train_losses": [5.0 - i / 10 for i in range(20)] + [train],
        "test_losses": [5.0, 4.5, test],
        "train_loss": torch.tensor(train, dtype=torch.float64),
        "epoch": 20,
        "config": {
            "lr": 1e-3, "p": P, "d_model": 16, "fn_name": "add", "frac_train": frac_train,
            "seed": seed, "weight_decay": 1,
        },
    }  # fmt: skip


def saved(what: Any, path: Path) -> Path:
    """A .pth file."""
    torch.save(what, path)
    return path
