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
# # Does a circuit transfer?
#
# Three ways to ask what a grokked circuit is worth elsewhere: put its weights into another checkpoint,
# put its activations there, or freeze it and train a fresh embedding around it on a new task. Each with
# null donors. The live part is one run and one seed; the answer over eight seeds is recorded by
# `experiments/circuit_transfer.py` and shown at the end.

# %%
import json
import tempfile
from pathlib import Path

import mechgrok as mg

run = mg.load_example("quick")
early, late = run.at("memorised"), run[-1]
task = run.task
accuracy = {name: mg.evaluate(ck.model, task, split="test")["correct"] for name, ck in
            [("early", early), ("late", late)]}
accuracy

# %% [markdown]
# ## Weights
#
# The grokked body (attention and MLP) in the memorised checkpoint, and the other way round. Both have a
# common parent, so they share a basis; the result says so. Control: the body of a fresh model.

# %%
fresh = late.untrained(seed=1)
for name, donor in [("grokked", late), ("its own", early), ("fresh", fresh)]:
    with mg.transplant(early, from_=donor, parts="body") as model:
        print(f"early with the body that is {name}: test {mg.evaluate(model, task, split='test')['correct']:.3f}")
assert mg.evaluate(early.model, task, split="test")["correct"] == accuracy["early"]  # nothing stays

# %% [markdown]
# ## Activations
#
# Every head and the MLP of the grokked checkpoint in the memorised one, one at a time, beside null
# donors. `tau` is the share of the donor's lead, null where it is not defined.

# %%
patched = mg.patch_across(donor=late, recipient=early, nodes=mg.nodes("head,mlp"), metric="logit_diff")
patched.table()[["donor", "node", "value", "without", "tau", "loss", "kappa"]].round(3).head(15)

# %% [markdown]
# ## A frozen body on a new task
#
# Addition mod 58 with tokens renamed at random; only the embedding and unembedding are trained, for 800
# steps. The grokked body against the memorised body of the same run and a random one.

# %%
folder = Path(tempfile.mkdtemp())
short = {"stop.max_steps": 800, "task.frac_train": 0.4, "threads": 1}
children = {}
for name, donor, change in [("grokked", late, "none"), ("memorised", early, "none"),
                            ("random", late, "random_init")]:
    child = mg.transfer(donor, task="add mod 58, relabelled", train="embedding", change=change, seed=0,
                        run=folder / name, overrides=short, progress=False)
    children[name] = child.evaluations()[-1]
    print(f"{name:10s} train {children[name]['train_acc']:.3f}  test {children[name]['test_acc']:.3f}")
assert children["grokked"]["test_acc"] > 0.9 > 0.7 > max(children[n]["test_acc"] for n in ("memorised", "random"))

# %% [markdown]
# ## Over eight seeds
#
# What the experiment recorded, with its exact paired tests.

# %%
recorded = json.loads(Path("../experiments/circuit_transfer.expected.json").read_text())
print(recorded["paragraph"])
for target in ("T0", "T1", "T3"):
    row = recorded["contrasts"][target]["best control"]
    print(f"{target}: grokked - best control {row['difference']:+.3f} {row['interval']} (n = {row['n']}, p = {row['p']:.4f})")
assert recorded["contrasts"]["T0"]["best control"]["n"] >= 5
