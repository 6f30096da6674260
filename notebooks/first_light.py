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
# # First light: a model groks, and its circuit is laid open
#
# `quick` is addition mod 59 on 40 % of the pairs: one layer, one thread, about two minutes. The same
# lines work for `nanda2023_mainline`. Every claim below is followed by an assertion, every effect by
# its control. One run, seed 1; intervals over runs need at least five.

# %%
import tempfile

import mechgrok as mg

folder = tempfile.mkdtemp()
run = mg.train("quick", seed=1, run=f"{folder}/quick__seed1", progress=False)
times = run.measure("times")
times["memorised"], times["generalised"]

# %% [markdown]
# It memorised early and generalised late: that delay is grokking.

# %%
assert times["grokked"]
mg.plot(run, "grokking_curve").show()

# %% [markdown]
# ## Which frequencies does it use?
#
# The rule keeps a frequency when a cluster of neurons is explained by it, or when the logits have a
# cosine in it; the evidence for each is returned. Control: the same model before training has none.

# %%
last, first = run[-1], run[0]
keys = mg.key_frequencies(last)
share = run.measure("spectra")["top5_share_W_E"]
share_untrained = run.measure("spectra", step=0)["top5_share_W_E"]
print(f"keys {keys.freqs}; top five hold {share:.0%} of the embedding ({share_untrained:.0%} untrained)")

# %%
assert len(keys.freqs) > 0 and len(mg.key_frequencies(first).freqs) == 0
assert share > 0.6 > share_untrained

# %% [markdown]
# ## Is that how it answers?
#
# Keep only the key frequencies of the logits (restricted loss), or take them away (excluded loss).

# %%
series = run.series(["test_loss", "restricted_loss", "excluded_loss"], keys=keys.freqs)
series.plot().show()
print(f"test {series['test_loss'][-1][1]:.1e}, restricted {series['restricted_loss'][-1][1]:.1e}, "
      f"excluded {series['excluded_loss'][-1][1]:.1f}")

# %%
assert series["restricted_loss"][-1][1] < 0.01 < 1 < series["excluded_loss"][-1][1]

# %% [markdown]
# And take them out of the embedding itself, against random sets of as many other frequencies, and
# against all other frequencies at once.

# %%
check = run.measure("frequency_ablation")
print(f"points of accuracy lost without the keys: {check['keys_points_lost']:.1f}; "
      f"20 size-matched controls: {check['controls_points_lost']:.1f} on average; "
      f"all non-keys: {check['non_keys_points_lost']:.1f}")
assert check["passed"], check["failed_lines"]

# %% [markdown]
# ## Hooks, as TransformerLens users know them
#
# The model is a `HookedTransformer`. Zero one head at a time and read the loss; hooking nothing is the
# control. A hook name that does not exist is an error that lists the nearest names, never an empty
# cache.

# %%
model, task = last.model, last.task
logits, cache = model.run_with_cache(task.tokens[:5])
name = "blocks.0.attn.hook_z"
for head in range(model.cfg.n_heads):
    with model.hooks([(name, lambda z, hook, head=head: z.index_fill(2, z.new_tensor([head]).long(), 0))]):
        print(f"without head {head}: loss {mg.evaluate(model, task)['loss']:.3f}")
print(f"intact:         loss {mg.evaluate(model, task)['loss']:.1e}")

# %%
assert mg.evaluate(model, task)["correct"] > 0.99
assert cache["blocks.0.attn.hook_pattern"].shape == (5, 4, 3, 3)
