# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own model
#
# Measures are functions of arrays, and interventions of any hooked model: neither needs a run of this
# package. First arrays with a known answer, then a TransformerLens model trained by a loop of your own,
# then the same model as a run directory, with every measure.

# %%
import math
import tempfile
from pathlib import Path

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

import mechgrok as mg

# %% [markdown]
# ## Arrays
#
# Logits that are cosines of two frequencies by construction, for all pairs (a, b) mod 31. The rule must
# find these two; of noise it must find none.

# %%
p = 31
pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
total = pairs.sum(1) % p
angle = 2 * math.pi * (total[:, None] - torch.arange(p)) / p
logits = 30 * (torch.cos(3 * angle) + torch.cos(11 * angle)).double()
noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

keys = mg.measures.key_frequencies(logits, p=p)
none = mg.measures.key_frequencies(noise, p=p)
print("keys", keys.freqs, "| of noise", none.freqs)
assert keys.freqs == (3, 11) and none.freqs == ()

# %%
kept = float(mg.measures.restricted_loss(logits, p=p, keys=[3, 11]))
wrong = float(mg.measures.restricted_loss(logits, p=p, keys=[4, 12]))
print(f"restricted to its keys {kept:.2e} nats, to two others {wrong:.3f}, log {p} = {math.log(p):.3f}")
assert kept < 0.01 and abs(wrong - math.log(p)) < 1e-4

# %% [markdown]
# ## A TransformerLens model and a loop of your own
#
# A few seconds of training; it memorises, and does not grok in that time, so the measures must not find
# a circuit. The rows are split here as `mechgrok` splits with seed 0, so that it can be told later.

# %%
task = mg.discovery.load("tasks", "binary").make(mg.config.BinaryTask(n=p, frac_train=0.3), mg.config.Seeds())
tokens, train, test = task.tokens, task.splits["train"], task.splits["test"]
settings = dict(n_layers=1, d_model=64, n_heads=4, d_head=16, d_mlp=128, n_ctx=3, d_vocab=p + 1,
                d_vocab_out=p, act_fn="relu", normalization_type=None, device="cpu", seed=0)
model = HookedTransformer(HookedTransformerConfig(**settings))
adam = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98))
for _ in range(400):
    adam.zero_grad()
    torch.nn.functional.cross_entropy(model(tokens[train])[:, -1], total[train]).backward()
    adam.step()
right = (model(tokens)[:, -1].argmax(-1) == total).float()
print(f"train {right[train].mean():.3f}, test {right[test].mean():.3f}")
assert right[train].mean() > 0.95 > 0.5 > right[test].mean()

# %% [markdown]
# Which part does the memorised answer need? Nothing is left attached afterwards.

# %%
by = mg.interventions.metric("accuracy", total[train])
with torch.no_grad():
    intact = float(by(model(tokens[train])))
    for node in mg.nodes("head,mlp").of(model, 3):
        with mg.ablate(model, node, kind="zero"):
            print(f"train accuracy without {node.name}: {float(by(model(tokens[train]))):.3f}, intact {intact:.3f}")
    assert float(by(model(tokens[train]))) == intact

# %%
rows = mg.interventions.changed_operand(tokens, total, 0, torch.Generator().manual_seed(0))
difference = mg.interventions.metric("logit_diff", total, against=total[rows])
effects = mg.patch(model, mg.nodes("resid_pre,mlp", position="each"), tokens, tokens[rows], difference)
table = effects.table()
assert table.effect.max() > 0.5  # the operand's own position restores the run
table[["node", "position", "effect"]]

# %% [markdown]
# ## As a run directory
#
# A saved state dict and what it cannot tell make a run; from there on it is as any other.

# %%
folder = Path(tempfile.mkdtemp())
torch.save(model.state_dict(), folder / "mine.pth")
from mechgrok.sharing import import_model

run = import_model(folder / "mine.pth", folder / "mine", "transformer_lens",
                   config={"act_fn": "relu", "normalization": None, "attn_scale": 4}, seed=0, frac_train=0.3)
found, check = run.measure("neuron_clusters"), run.measure("frequency_ablation")
print(f"{found['clustered']} of 128 neurons explained by one frequency; the ablation check fails by {check['failed_lines']}")
assert mg.evaluate(run[-1].model, run.task, split="train")["correct"] > 0.95
assert found["clustered_share"] < 0.5 and not check["passed"]
