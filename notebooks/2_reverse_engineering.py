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
# # Reverse-engineering modular addition
#
# A one-layer transformer that adds mod 59, opened up: which frequencies it uses, where they are, what
# each part adds to the answer, and what is left when they are taken away (after Nanda et al. 2023,
# arXiv 2301.05217). The run is inside the package. It is one run: what follows is shown for it alone.

# %%
import circuitsvis as cv

import mechgrok as mg

run = mg.load_example("quick")
late, untrained = run[-1], run[0]
model, task = late.model, late.task
run.measure("times").table().head(7)

# %% [markdown]
# ## Activations
#
# The model is a `HookedTransformer`, the cache has TransformerLens's names. Rows are all p² pairs, in
# the order a·p + b.

# %%
logits, cache = model.run_with_cache(task.tokens)
right = (logits[:, -1, : task.n].argmax(-1) == task.labels[:, 0]).float().mean().item()
print(tuple(cache["blocks.0.mlp.hook_post"].shape), f"{right:.3f} of all pairs right")
assert right > 0.99

# %% [markdown]
# ## Frequencies of the embedding
#
# Power by frequency: a few tall bars when trained, flat when not. The rule that picks the keys takes a
# frequency that explains a cluster of neurons, or whose cosine is visible in the logits.

# %%
run.measure("spectra"), run.measure("key_frequencies")
mg.plot(run, "spectra").show()
keys = mg.key_frequencies(late)
share, share_untrained = (run.measure("spectra", step=s)["top5_share_W_E"] for s in (late.step, 0))
print(f"keys {keys.freqs}; five frequencies hold {share:.0%} of the embedding, untrained {share_untrained:.0%}")
assert keys.freqs and not mg.key_frequencies(untrained).freqs
assert share > 0.6 > share_untrained

# %% [markdown]
# ## Neurons
#
# A neuron belongs to a frequency that explains 85 % of its variance over pairs. Here half of them do or
# nearly so; before training not one.

# %%
clusters, control = run.measure("neuron_clusters"), run.measure("neuron_clusters", step=0)
mg.plot(run, "neuron_grid").show()
print("by frequency", clusters["sizes"], "| untrained", control["clustered"])
assert clusters["clustered"] > 50 and control["clustered"] == 0

# %% [markdown]
# ## Logits
#
# The answer is read from cos w(a + b - c): cosines of the keys explain the logits' variance. Untrained,
# no cosine does.

# %%
cosines = run.measure("logit_cosines")
print(f"explained by {len(keys.freqs)} cosines: {cosines['fve_rows']:.3f}")
assert cosines["fve_rows"] > 0.8

# %% [markdown]
# ## Attribution
#
# Logits are a sum over heads, neurons and frequencies, so the margin of the right answer is one too.
# The parts add up to the whole exactly, and what is not at a key frequency adds next to nothing.

# %%
parts = mg.attribution(late, by=("head", "frequency"), keys=keys.freqs)
table = parts.table()
print(table.groupby("component")["share"].sum().round(3).to_dict())
assert abs(table["mean"].sum() - parts.total) < 1e-3 * abs(parts.total)
assert table[table.frequency.str.startswith("sum")]["share"].sum() > 0.8
run.measure("attribution")
mg.plot(run, "attribution").show()

# %% [markdown]
# ## Keep only the keys, or take them away
#
# Restricted: the logits' components at the keys alone; excluded: all but those. The right control is
# other frequencies, as many.

# %%
others = [k for k in range(1, task.n // 2 + 1) if k not in keys.freqs][: len(keys.freqs)]
loss = {
    "all": mg.evaluate(model, task)["loss"],
    "keys alone": run.measure("restricted_loss")["all"],
    "without the keys": run.measure("excluded_loss")["all"],
    "other frequencies alone": run.measure("restricted_loss", keys=others)["all"],
    "without the others": run.measure("excluded_loss", keys=others)["all"],
}
print({name: float(f"{value:.2g}") for name, value in loss.items()})
assert loss["keys alone"] < 0.01 < 1 < loss["without the keys"]
assert loss["without the others"] < 0.1 < 1 < loss["other frequencies alone"]

# %% [markdown]
# In the weights: take them out of the embedding, with size-matched controls, for the trained model and
# the untrained.

# %%
check = run.measure("frequency_ablation")
mg.plot(run, "frequency_ablation").show()
assert check["passed"], check["failed_lines"]
assert not run.measure("frequency_ablation", step=0)["passed"]

# %% [markdown]
# ## Attention, as circuitsvis shows it
#
# Patterns of the pair (3, 5): every head looks at both operands, in parts that depend on them.

# %%
pair = task.tokens[[3 * task.n + 5]]
_, one = model.run_with_cache(pair)
cv.attention.attention_patterns(
    tokens=["3", "5", "="], attention=one["blocks.0.attn.hook_pattern"][0].detach()
)

# %%
to_operands = one["blocks.0.attn.hook_pattern"][0, :, -1, :2].sum(-1)
print("attention of = to the operands, by head:", to_operands.tolist())
assert to_operands.shape == (model.cfg.n_heads,)
