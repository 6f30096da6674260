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
# # Grokking in five minutes
#
# Addition mod 59, 40 % of the pairs, one layer: a model learns its training pairs in a hundred steps,
# and the others thousands of steps later. This trains it here and now, on one thread, in a minute or
# two. One run, seed 1; another seed or machine takes other steps, and shows the same structure.

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
# ## A circuit forms long before test loss moves
#
# Which frequencies does the trained model use? With those known, three losses can be followed through
# training: the test loss; the loss with the key frequencies alone kept (restricted); the training loss
# with the key frequencies taken away (excluded). Excluded loss rises while test loss has not moved.

# %%
keys = mg.key_frequencies(run[-1])
assert keys.freqs and not mg.key_frequencies(run[0]).freqs  # control: untrained, none
series = run.series(["test_loss", "restricted_loss", "excluded_loss"], keys=keys.freqs)
series.plot().show()

# %%
last = {name: series[name][-1][1] for name in ("test_loss", "restricted_loss", "excluded_loss")}
assert last["restricted_loss"] < last["test_loss"] < 0.1 < last["excluded_loss"], last
last

# %% [markdown]
# ## Is that how it answers?
#
# Take the keys out of the embedding; as controls, 20 random sets of as many other frequencies, and all
# other frequencies at once. And the same model untrained: it has nothing to lose.

# %%
check = run.measure("frequency_ablation")
untrained = run.measure("frequency_ablation", step=0)
print(f"points lost without the keys {check['keys_points_lost']:.1f}, size-matched controls "
      f"{check['controls_points_lost']:.1f}, all non-keys {check['non_keys_points_lost']:.1f}")
assert check["passed"] and not untrained["passed"]

# %% [markdown]
# Next: [2_reverse_engineering](2_reverse_engineering.ipynb) opens the model;
# [3_hooks_and_patching](3_hooks_and_patching.ipynb) finds its circuit.
