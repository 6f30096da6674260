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
# # The spectrum of training
#
# A few fixed rows (probes) are read out again and again while a model trains. Dynamic mode
# decomposition (DMD) fits one linear operator to that motion; its eigenvalues say how fast modes decay
# (modulus below 1) and turn. First a system whose eigenvalues are known; then a short training run.
# Whether such spectra tell decays apart or warn of grokking takes many runs and controls:
# `experiments/fingerprint_study.py` and `experiments/early_warning.py`.

# %%
import tempfile

import numpy as np

import mechgrok as mg

# %% [markdown]
# ## A known answer
#
# Two modes that decay by .99 and .95 a step, mixed into 20 readings. DMD must find both; of the same
# array with its rows in random order it must trust neither.

# %%
chance = np.random.default_rng(0)
known = np.array([0.99, 0.95])
motion = (known ** np.arange(300)[:, None]) @ chance.normal(size=(2, 20))
found = mg.spectra(motion, n_delays=4, rank=2, center="none")
shuffled = mg.spectra(chance.permutation(motion), n_delays=4, rank=2, center="none")
print("found", np.sort(found.eigenvalues.real)[::-1], "| in random order", shuffled.eigenvalues)
np.testing.assert_allclose(np.sort(found.eigenvalues.real)[::-1], known, atol=1e-6)
assert not any(abs(e - known).min() < 0.02 for e in shuffled.eigenvalues)

# %% [markdown]
# ## A training run
#
# A tiny model (addition mod 17) for 600 steps, with the probes' log-probabilities of the right answer at
# every second step. The observation draws from no generator of the training: the run has the same bits
# without it.

# %%
folder = tempfile.mkdtemp()
steps = {"stop.max_steps": 600}
run = mg.train("smoke_p17", run=f"{folder}/watched", progress=False,
               overrides=steps | {"record.fingerprint.every": 2, "record.fingerprint.probes": 80})
plain = mg.train("smoke_p17", run=f"{folder}/plain", progress=False, overrides=steps)
same = {name: bool((run[-1].weights[name] == w).all()) for name, w in plain[-1].weights.items()}
print(run.fingerprints.values["answer_log_prob"].shape, "time x probes")
assert all(same.values())

# %%
spectrum = mg.spectra(run, rank=10)
spectrum.plot("eigenvalues").show()
spectrum.table()[["modulus", "residual", "trusted", "half_life"]].head(6).round(4)

# %% [markdown]
# Eigenvalues with a large residual are not trusted and drawn apart. The singular values say how many
# modes the data can hold at all.

# %%
spectrum.plot("singular_values").show()
trusted = spectrum.eigenvalues
print(f"{len(trusted)} of {len(spectrum.modes)} eigenvalues trusted; poles of the optimiser {dict(spectrum.poles)}")
assert len(trusted) > 0 and all(abs(trusted) < 1.1)
