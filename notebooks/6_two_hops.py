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
# # Two hops in a recursive model
#
# A query names a head and two relations; its answer takes two facts, and the entity between them, the
# bridge, is never written. Two Tiny Recursive Models of one initialisation and one graph, at the same
# step, differ in their training queries alone. Where is the bridge, is it used, and what does the data
# change? One seed each; what holds over seeds is for `experiments/two_hop.py`. Nothing is trained here.

# %%
import pandas as pd
import torch

import mechgrok as mg

both, natural = mg.load_example("two_hop_both_full"), mg.load_example("two_hop_natural")
runs = {"both_full": both, "natural": natural}
assert both.steps == natural.steps
print(*both.task.text("ood_atomic")[:2], *both.task.text("test_inferred_ood")[:2], sep="\n")

# %% [markdown]
# ## What was seen composed
#
# A tenth of the facts is taught one by one alone in `natural`. `both_full` adds queries in which each of
# them is composed with a fact of the other nine tenths, as first hop and as second. The test composes
# two of the tenth with each other: no regime trains on that. A query's cell says which of its hops was
# seen composed.

# %%
cells = pd.DataFrame({name: run.task.exposure()["cells"] for name, run in runs.items()})
ood = both.task.splits["test_inferred_ood"]
tokens, labels = both.task.tokens[ood], both.task.labels[ood, 0]
assert torch.equal(tokens, natural.task.tokens[natural.task.splits["test_inferred_ood"]])
assert cells.both_full["ood_both"] == cells.natural["ood_neither"] == len(tokens)
cells

# %% [markdown]
# ## One cache of all cycles
#
# One network updates a state z_L twice and a state z_H once, in each of two cycles. Every application has
# hook names of its own, so one forward pass gives them all. The last z_H is what is unembedded.

# %%
models = {name: run[-1].model for name, run in runs.items()}
caches = {}
for name, model in models.items():
    logits, caches[name] = model.run_with_cache(tokens, names_filter=lambda hook: hook.endswith(("z_L", "z_H")))
    assert torch.equal(model.unembed(caches[name]["cycle.1.hook_z_H"]), logits)
states = [hook for hook in caches["both_full"] if hook.startswith("cycle")]
{hook: tuple(caches["both_full"][hook].shape) for hook in states}

# %% [markdown]
# ## Out-of-distribution accuracy
#
# Both know every fact and compose those of training. The two facts of a test query are known to `natural`
# too (`ood_atomic`), and it does not compose them.

# %%
measured = {name: run.measure("two_hop_cells") for name, run in runs.items()}
kinds = ["id_atomic", "ood_atomic", "train_inferred", "test_inferred_iid", "test_inferred_ood"]
accuracy = pd.DataFrame({name: [found[f"{kind}_exact_match"] for kind in kinds] for name, found in measured.items()}, kinds)
assert accuracy.loc[kinds[:4]].min().min() > 0.95
assert accuracy.both_full["test_inferred_ood"] > 0.95 > 0.1 > accuracy.natural["test_inferred_ood"]
accuracy.round(3)

# %% [markdown]
# ## The logit lens
#
# Every state unembedded, and how often the bridge is what comes out. Control: the bridges of other
# queries on the same tokens. `both_full` answers nearly every query, and the lens shows no more of its
# bridge than of any other.

# %%
lens = {name: run.measure("bridge_lens") for name, run in runs.items()}
mg.plot(both, "bridge_lens").show()
for name, found in lens.items():
    print(f"{name:9s} bridge found {found['test_inferred_ood_bridge_found']:.3f}, other bridges "
          f"{found['test_inferred_ood_control']:.3f}, the target {found['test_inferred_ood_target_found']:.3f}")
    assert abs(found["test_inferred_ood_excess"]) < 0.1
assert lens["both_full"]["test_inferred_ood_target_found"] > 0.95  # the lens does see what is there to see

# %% [markdown]
# ## A probe
#
# A linear map fitted at every place to training queries, tested on queries that share no fact with those.
# Control: the same probe for labels that mean nothing. On held-out facts both models hold the bridge in
# the answer's place before the last update; on out-of-distribution ones `both_full` alone does.

# %%
probes = {name: run.measure("bridge_probe") for name, run in runs.items()}
mg.plot(both, "bridge_probe").show()
mg.plot(natural, "bridge_probe").show()
for name, found in probes.items():
    print(f"{name:9s} {found['stage']} at {found['position']}: held-out facts {found['held_out_accuracy']:.3f} "
          f"(control {found['held_out_control_accuracy']:.3f}), out of distribution {found['ood_accuracy']:.3f} "
          f"(control {found['ood_control_accuracy']:.3f})")
    assert found["held_out_selectivity"] > 0.8
assert probes["both_full"]["ood_selectivity"] > 0.8 > 0.1 > abs(probes["natural"]["ood_selectivity"])

# %% [markdown]
# ## Is it used?
#
# A state of another query is copied in. If it holds the bridge and the second hop reads it, the answer is
# that of the other bridge under the query's own relation. Controls: random bridges in its place, a donor
# with the same bridge, after which the answer should stay, and the untrained model. The place is chosen
# on other queries than it is judged on. The bridge is used, and no single state is the bridge alone:
# elsewhere the answer stays, is the donor's own, or is lost.

# %%
swaps = {name: run.measure("bridge_swap") for name, run in runs.items()}
swaps["untrained"] = both.measure("bridge_swap", step=0)
mg.plot(both, "bridge_swap", step=both.steps[-1]).show()
shown = ["interchange", "random_bridge", "excess", "stays", "donor", "other", "same_bridge_stays"]
for name in runs:
    assert swaps[name]["excess"] > 0.1 > 0.05 > abs(swaps["untrained"]["excess"])
pd.DataFrame({name: [found[x] for x in ["stage", "position"]] + [round(found[x], 3) for x in shown]
              for name, found in swaps.items()}, ["stage", "position", *shown])

# %% [markdown]
# ## From one model into the other
#
# The same hooks, between models: a state of `both_full` for one query goes into a pass over another, and
# we count answers to the first. Inside `both_full` itself, this says how much the state carries; inside
# `natural`, how much of that is in a code it reads. Controls: `natural`'s own state, which must change
# nothing, and that of an untrained model.

# %%
untrained = both[-1].untrained(seed=1).model.run_with_cache(tokens)[1]
place = int(both.task.answer_positions[ood[0], 0])
other = labels.roll(1)  # what the query whose state is put in would be answered
carried = pd.DataFrame(0.0, states, ["both_full in itself", "both_full in natural", "untrained in natural"])
for column, (source, into) in zip(carried, [(caches["both_full"], "both_full"), (caches["both_full"], "natural"),
                                            (untrained, "natural")], strict=True):
    for state in states:
        put = [(state, lambda x, hook: source[hook.name].roll(1, 0))]
        answers = models[into].run_with_hooks(tokens, fwd_hooks=put)[:, place].argmax(-1)
        carried.loc[state, column] = (answers == other).double().mean().item()
own = [(states[-2], lambda x, hook: caches["natural"][hook.name])]
assert torch.equal(models["natural"].run_with_hooks(tokens, fwd_hooks=own), logits)
carried.round(3)

# %% [markdown]
# The answer's code is common to both, so `natural` reads off `both_full`'s last state what it could not
# work out. The last thinking state, in which `both_full` has most of what it needs, means nothing to it.

# %%
thought, said = carried.loc[states[-2]], carried.loc[states[-1]]
assert said["both_full in natural"] > 0.8 > 0.1 > said["untrained in natural"]
assert thought["both_full in itself"] > 0.4 > 0.2 > thought["both_full in natural"]
