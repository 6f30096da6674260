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
# # Hooks and patching
#
# TransformerLens's hooks, and what this package adds: nodes with an address, ablations inside a `with`,
# patching grids that are TransformerLens's numbers but faster, and circuits with exact effects beside
# their gradient approximations. One grokked run; nothing is trained.

# %%
import torch
from transformer_lens import patching

import mechgrok as mg
from mechgrok import interventions

run = mg.load_example("quick")
late = run[-1]
model, task = late.model, late.task
tokens, labels = task.tokens, task.labels[:, 0]

# %% [markdown]
# ## run_with_cache and run_with_hooks
#
# A hook name that does not exist is an error that lists the nearest names, never an empty cache.

# %%
logits, cache = model.run_with_cache(tokens[:100], names_filter=lambda name: name.endswith("hook_z"))
zeroed = model.run_with_hooks(tokens[:100], fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: 0 * x)])
try:
    model.run_with_cache(tokens[:2], names_filter=["blocks.0.hook_mlp_ou"])
except ValueError as error:
    print(error)
else:
    raise AssertionError("a wrong name was accepted")
assert list(cache.keys()) == ["blocks.0.attn.hook_z"] and not torch.allclose(zeroed, logits)

# %% [markdown]
# ## Ablate inside a `with`
#
# Every head in turn by its mean over pairs, and all neurons; nothing outlives the `with`.

# %%
intact = mg.evaluate(model, task)["loss"]
for node in mg.nodes("head,mlp").of(model, 3):
    with mg.ablate(model, node, kind="mean", source=tokens):
        print(f"{node.name:8s} loss {mg.evaluate(model, task)['loss']:.3f}")
assert mg.evaluate(model, task)["loss"] == intact

# %% [markdown]
# ## Patch one operand
#
# Corrupted rows differ from the clean ones in the first operand and in the answer. 0 is the corrupted
# run, 1 the clean one.

# %%
rows = interventions.changed_operand(tokens, labels, 0, torch.Generator().manual_seed(0))
by = mg.interventions.metric("logit_diff", labels, against=labels[rows])
found = mg.patch(model, mg.nodes("head,mlp,resid_pre", position="each"), tokens, tokens[rows], by)
table = found.table()
table[["node", "head", "position", "effect"]].round(3)

# %%
effect = {(r.node, r.position): r.effect for r in table.itertuples()}
same = mg.patch(model, mg.nodes("mlp"), tokens, tokens[rows], by, direction="noise")
print("the MLP broken instead of restored:", same.table().effect.round(3).tolist())
assert max(table.effect) > 0.9

# %% [markdown]
# ## TransformerLens's grids, the same numbers

# %%
clean_cache = model.run_with_cache(tokens)[1]
ours = interventions.get_act_patch_attn_head_out_by_pos(model, tokens[rows], clean_cache, by)
theirs = patching.get_act_patch_attn_head_out_by_pos(model, tokens[rows], clean_cache, by)
torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-4, atol=1e-4)
ours.squeeze().round(decimals=2)

# %% [markdown]
# ## A frequency as an address
#
# The part of the MLP's output at one key frequency, from the clean run. Control: a frequency that is
# no key.

# %%
keys = mg.key_frequencies(late).freqs
other = next(k for k in range(1, task.n // 2 + 1) if k not in keys)
found = mg.patch(model, mg.nodes("mlp", position=-1, freq=[*keys, other]), tokens, tokens[rows], by)
by_frequency = dict(zip([*keys, other], found.table().effect, strict=True))
print({k: round(float(v), 3) for k, v in by_frequency.items()})
assert max(by_frequency[k] for k in keys) > 10 * abs(by_frequency[other])

# %% [markdown]
# ## The circuit: exact effects, and what EAP makes of them
#
# Every edge of the graph of (component, position, frequency) is corrupted alone. EAP and EAP-IG
# approximate that by gradients. The smallest set of edges that keeps 90 % stands against random sets
# of as many edges.

# %%
circuit = mg.circuit(late, save=False)
edges = circuit.table()
edges.reindex(edges.exact.abs().sort_values(ascending=False).index).head(8)

# %%
mg.plot(circuit, "circuit").show()
for operand, judged in circuit.judged.items():
    chance = max(max(draws) for draws in judged["random"].values())
    print(f"operand {operand}: {judged['size']} of {judged['of_edges']} edges keep "
          f"{judged['faithfulness']:.3f}, the best random circuit {chance:.3f}")
    assert judged["faithfulness"] > 0.8 and chance < 0.5

# %%
mg.plot(circuit, "circuit_errors").show()
errors = {(r["method"], r["operand"], r["metric"]): r for r in circuit.errors}
for (method, operand, name), row in errors.items():
    print(f"{method:7s} operand {operand}, {name}: largest error {row['max_error']:.2f} of the largest effect")

# %% [markdown]
# Weights across checkpoints, activations across models, and what a transferred circuit is worth:
# [4_does_a_circuit_transfer](4_does_a_circuit_transfer.ipynb).
