"""Bugs by name, each for one measure, and how to plant one.

A plant replaces a piece of one function's source; its code object is swapped, so that every module
that imported the function runs the planted version.
"""

import importlib
import inspect
import textwrap
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Plant:
    """A bug: in `function` (or Class.method) of `module`, `old` becomes `new`."""

    measure: str
    module: str
    function: str
    old: str
    new: str


PLANTS = {
    "sine before cosine": Plant(
        "spectra", "maths.fourier", "fourier_basis", "% 2 == 0)", "% 2 == 1)"
    ),
    "last frequency missing": Plant(
        "spectra",
        "maths.fourier",
        "frequency_power",
        "component_power)[1:]",
        "component_power)[1:-1]",
    ),
    "constant left out of the total": Plant(
        "spectra", "maths.fourier", "power_shares", "/ power.sum()", "/ power[1:].sum()"
    ),
    "gini ranks off by one": Plant("gini", "maths.statistics", "gini", "- n - 1)", "- n)"),
    "gini unsorted": Plant("gini", "maths.statistics", "gini", ".sort().values", ""),
    "cosines not centred": Plant(
        "logit_cosines",
        "measures.logit_cosines",
        "logit_cosines",
        "logits - logits.mean(dim=1, keepdim=True)",
        "logits",
    ),
    "norm of the alternating cosine": Plant(
        "logit_cosines", "maths.fourier", "cosine_coefficients", "p**1.5", "(p**3 / 2) ** 0.5"
    ),
    "diagonal of a - b": Plant(
        "logit_cosines",
        "maths.fourier",
        "sum_index",
        "element[:, None] + element",
        "element[:, None] - element",
    ),
    "keys not centred": Plant(
        "key_frequencies",
        "measures.key_frequencies",
        "key_frequencies",
        "(logits - logits.mean(dim=1, keepdim=True))",
        "logits",
    ),
    "keys without clusters": Plant(
        "key_frequencies",
        "measures.key_frequencies",
        "_is_key",
        'or found.get("cluster_share", 0.0) >= MIN_CLUSTER',
        "",
    ),
    "dead neurons divide by zero": Plant(
        "neuron_clusters",
        "measures.neuron_clusters",
        "neuron_clusters",
        "share = single_frequency_power(acts, p) / torch.where(dead, 1, variance)\n"
        "    fraction, best = torch.where(dead, 0, share)",
        "share = single_frequency_power(acts, p) / variance\n    fraction, best = share",
    ),
    "neurons not centred": Plant(
        "neuron_clusters",
        "measures.neuron_clusters",
        "neuron_clusters",
        "(acts - acts.mean(dim=0))",
        "acts",
    ),
    "linear terms left out": Plant(
        "neuron_clusters",
        "measures.neuron_clusters",
        "single_frequency_power",
        "linear_a + linear_b",
        "linear_b",
    ),
    "bias correction missing": Plant(
        "restricted_loss",
        "measures.restricted_loss",
        "restricted_logits",
        "if not bias_correction",
        "if True",
    ),
    "restricted to a - b": Plant(
        "restricted_loss",
        "maths.fourier",
        "sum_index",
        "element[:, None] + element",
        "element[:, None] - element",
    ),
    "keys kept instead of removed": Plant(
        "excluded_loss",
        "measures.excluded_loss",
        "_Remove.__call__",
        "self.whole[rows] - part",
        "self.whole[rows] * 0 + part",
    ),
    "one key removes all": Plant(
        "excluded_loss",
        "measures.excluded_loss",
        "excluded_loss",
        "remove([k], judged)",
        "remove(keys, judged)",
    ),
    "excluded on all pairs": Plant(
        "excluded_loss", "measures.excluded_loss", "excluded_loss", '"train" in rows', "False"
    ),
    "float32 loss": Plant(
        "losses",
        "measures.losses",
        "losses",
        "row_losses(logits.double()",
        "row_losses(logits.float()",
    ),
    "split ignored": Plant("losses", "measures.losses", "_mean", "x[rows][present[rows]]", "x"),
    "absolute values": Plant(
        "weight_norm", "measures.weight_norm", "weight_norm", ".square()", ".abs()"
    ),
    "root missing": Plant(
        "weight_change", "measures.weight_change", "_ratio", "(moved / size) ** 0.5", "moved / size"
    ),
    "sample deviation": Plant(
        "mean_attention",
        "measures.mean_attention",
        "mean_attention",
        "correction=0",
        "correction=1",
    ),
    "metric without the mean": Plant(
        "attribution",
        "interventions.metrics",
        "correct_minus_mean",
        " - logits.mean(dim=1)",
        "",
    ),
    "sum terms counted twice": Plant(
        "attribution",
        "maths.pair_terms",
        "split_by_frequency",
        "of_keys - of_sums",
        "of_keys",
    ),
    "a and b swapped": Plant(
        "spectra_2d",
        "measures.spectra_2d",
        "_spectrum",
        '"(a b) d -> a b d", a=p',
        '"(b a) d -> a b d", b=p',
    ),
    "2-D spectrum not squared": Plant(
        "spectra_2d", "measures.spectra_2d", "_share", "norms.square()", "norms"
    ),
    "residual squared twice": Plant(
        "rank_2k", "measures.rank_2k", "rank_2k", "residual**2", "residual**4"
    ),
    "read-off of a - b": Plant(
        "rank_2k",
        "maths.fourier",
        "sum_index",
        "element[:, None] + element",
        "element[:, None] - element",
    ),
    "20 terms are 10": Plant(
        "restricted_loss",
        "measures.restricted_loss",
        "restricted_loss",
        'variant == "20 terms"',
        "False",
    ),
    "mean logits not added": Plant(
        "restricted_loss",
        "measures.restricted_loss",
        "_activation_logits",
        " + logits.mean(dim=0)",
        "",
    ),
    "cube of a + b + c": Plant(
        "excluded_loss",
        "measures.excluded_loss",
        "_cosines",
        "element[:, None] - element",
        "element[:, None] + element",
    ),
    "skip path forgotten": Plant(
        "excluded_loss",
        "measures.excluded_loss",
        "_Remove.__init__",
        'variant == "activation without skip"',
        "True",
    ),
    "singular values squared": Plant(
        "embedding_rank",
        "measures.embedding_rank",
        "rank",
        "singular / singular.sum()",
        "power / power.sum()",
    ),
    "controls of another norm": Plant(
        "embedding_rank",
        "measures.embedding_rank",
        "_gaussian_like",
        "draw * (matrix.norm() / draw.norm())",
        "draw",
    ),
    "profile of a + b + c": Plant(
        "logit_cosines",
        "measures.logit_cosines",
        "_by_difference",
        "element[:, None] - element",
        "element[:, None] + element",
    ),
    "examples of one frequency": Plant(
        "neuron_clusters", "measures.neuron_clusters", "examples", "seen[freq[i]] += 1", "pass"
    ),
    "only the key's own component": Plant(
        "embedding_circles",
        "measures.embedding_circles",
        "_circle",
        "points = centred @ plane",
        "points = waves.T @ directions @ plane",
    ),
    "circle of raw tokens": Plant(
        "embedding_circles",
        "measures.embedding_circles",
        "embedding_circles",
        "W_E.double() - W_E.double().mean(dim=0)",
        "W_E.double()",
    ),
    "controls hold keys of the dose": Plant(
        "dose_response",
        "measures.dose_response",
        "dose_response",
        "draw_control(others,",
        "draw_control(range(1, p // 2 + 1),",
    ),
    "half of everything": Plant(
        "dose_response", "measures.dose_response", "_half", "accuracy[-1] / 2", "0.5"
    ),
    "constant counted in a head's total": Plant(
        "attention_spectra",
        "measures.attention_spectra",
        "_spectrum",
        "shares = power / power.sum()",
        "shares = power / to_fourier(table).square().sum()",
    ),
    "mean ablation over components": Plant(
        "component_ablation", "measures.component_ablation", "replace", "mean(dim=0", "mean(dim=1"
    ),
    "accuracy of the least logit": Plant(
        "component_ablation", "measures.losses", "judge", "argmax", "argmin"
    ),
    "cluster added instead of removed": Plant(
        "neuron_ablation",
        "measures.neuron_ablation",
        "neuron_ablation",
        "logits - part",
        "logits + part",
    ),
    "resampled from the same row": Plant(
        "neuron_ablation", "measures.neuron_ablation", "substitute", "part[order]", "part"
    ),
    "controls from the cluster": Plant(
        "neuron_ablation",
        "measures.neuron_ablation",
        "_complement",
        "outside[chosen] = False",
        "outside[:] = False; outside[chosen] = True",
    ),
    "products left out": Plant(
        "polynomial_replacement",
        "maths.pair_terms",
        "polynomial",
        " + product_terms(table, p, [k])",
        "",
    ),
    "squares of another frequency": Plant(
        "polynomial_replacement",
        "maths.pair_terms",
        "polynomial",
        "min(2 * k % p, -2 * k % p)",
        "min(3 * k % p, -3 * k % p)",
    ),
    "neurons in one frequency": Plant(
        "polynomial_replacement",
        "measures.polynomial_replacement",
        "polynomial_replacement",
        "own = freqs == k",
        "own = freqs > 0",
    ),
    "keys excluded as others": Plant(
        "loss_variants",
        "measures.loss_variants",
        "loss_variants",
        "if k not in keys",
        "if k in keys",
    ),
    "variants all the default": Plant(
        "loss_variants",
        "measures.excluded_loss",
        "_Remove.__call__",
        'self.variant == "3-D"',
        "False",
    ),
    "change not per step": Plant(
        "update_norm", "measures.update_norm", "_between", "change / passed", "change"
    ),
    "crossing before the peak": Plant(
        "loss_crossings",
        "measures.loss_crossings",
        "loss_crossings",
        "steps[peak:], test_loss[peak:]",
        "steps, test_loss",
    ),
    "removed twice": Plant(
        "frequency_removal",
        "measures.frequency_removal",
        "frequency_removal",
        "(1 - scale) *",
        "2 *",
    ),
    "classes of all frequencies": Plant(
        "frequency_removal", "measures.frequency_removal", "_of_classes", "@ waves.T @ waves", ""
    ),
    "shares without the p pairs of each sum": Plant(
        "frequency_removal", "measures.frequency_removal", "sum_shares", " * p\n", "\n"
    ),
    "one evaluation is a movement": Plant(
        "lead", "measures.lead", "first_movement", "i : i + CONSECUTIVE", "i : i + 1"
    ),
    "extreme of the whole run": Plant(
        "lead",
        "measures.lead",
        "first_movement",
        "accumulate((sign * x for x in values), min)",
        "[sign * values[-1]] * len(values)",
    ),
    "movement before memorisation": Plant(
        "lead",
        "measures.lead",
        "first_movement",
        "steps = [step for step, _ in points if step >= since]\n"
        "    values = [value for step, value in points if step >= since]",
        "steps, values = zip(*points)",
    ),
    "controls hold keys": Plant(
        "frequency_ablation",
        "measures.frequency_ablation",
        "frequency_ablation",
        "draw_control(others,",
        "draw_control(tuple(range(1, p // 2 + 1)),",
    ),
    "weights not restored": Plant(
        "frequency_ablation",
        "interventions.ablation",
        "ablate_frequencies",
        "weight.copy_(saved)",
        "pass",
    ),
    "wrong frequencies scaled": Plant(
        "frequency_ablation",
        "maths.fourier",
        "frequency_rows",
        "check_frequencies(freqs, n)",
        "[k % (n // 2) + 1 for k in freqs]",
    ),
    "one evaluation is enough": Plant(
        "times", "measures.times", "times", "generalised, CONSECUTIVE", "generalised, 1"
    ),
    "delay not required": Plant("times", "measures.times", "_delayed", ">= DELAY *", ">="),
    "delay from the start": Plant(
        "delay", "measures.delay", "_between", "generalised - memorised", "generalised"
    ),
    "censored runs dropped": Plant(
        "delay", "measures.delay", "delay", "len(known) < len(each)", "not known"
    ),
    "peak before the fit": Plant(
        "phases", "measures.phases", "phases", "range(fitted, len(steps))", "range(len(steps))"
    ),
    "one row too many trained on": Plant(
        "recover_split",
        "measures.recover_split",
        "_split_losses",
        "before = shuffled.cumsum(dim=1)[:, trained - 1]",
        "before = shuffled.cumsum(dim=1)[:, trained]",
    ),
    "test loss ignored": Plant(
        "recover_split", "measures.recover_split", "_best", "amax(dim=0)", "select(0, 0)"
    ),
    "the closest is good enough": Plant(
        "recover_split", "measures.recover_split", "_accepted", "found.error > tolerance", "False"
    ),
    "loss minimised in the box": Plant(
        "sharpness",
        "measures.sharpness",
        "_climb",
        "return (base - value) / scale, -gradient / scale",
        "return (value - base) / scale, gradient / scale",
    ),
    "box without the one": Plant(
        "sharpness", "measures.sharpness", "sharpness", ".abs() + 1)", ".abs())"
    ),
    "directions instead of their inverse": Plant(
        "sharpness",
        "measures.sharpness",
        "_subspace",
        "torch.linalg.pinv(rows)",
        "rows.T",
    ),
    "other bridges include the item's own entities": Plant(
        "bridge_lens",
        "measures.bridge_lens",
        "_others",
        "torch.where(is_own, 0, ",
        "(0 * is_own + ",
    ),
    "a token decoded twice found twice": Plant(
        "bridge_lens",
        "measures.bridge_lens",
        "_others",
        "torch.where(repeated, 0, share.flatten(1).gather(1, index))",
        "share.flatten(1).gather(1, index)",
    ),
    "trivial bridges counted": Plant(
        "bridge_lens",
        "measures.bridge_lens",
        "bridge_lens",
        "rate=hit[kept]",
        "rate=hit",
    ),
    "bridge found where all is decoded": Plant(
        "bridge_lens",
        "measures.bridge_lens",
        "bridge_lens",
        "found=hit.any(dim=(1, 2))",
        "found=hit.any(dim=2).all(dim=1)",
    ),
    "probe fitted on every item": Plant(
        "bridge_probe",
        "measures.bridge_probe",
        "split_by_fact",
        "~(kept[0] | kept[1])",
        "~(kept[0] & kept[1])",
    ),
    "control label of every item": Plant(
        "bridge_probe",
        "measures.bridge_probe",
        "shuffled_bridges",
        "of_fact[order][index]",
        "bridge[torch.randperm(len(bridge), generator=generator)]",
    ),
    "selectivity adds the control": Plant(
        "bridge_probe",
        "measures.bridge_probe",
        "BridgeProbe.selectivity",
        "self.accuracy(rows) - self",
        "self.accuracy(rows) + self",
    ),
    "wrong answers flip": Plant(
        "bridge_tracing",
        "measures.bridge_tracing",
        "bridge_tracing",
        "(answers[..., right] != target[right])",
        "(answers != target)",
    ),
    "replacement with the same result": Plant(
        "bridge_tracing",
        "measures.bridge_tracing",
        "replacements",
        "(via_heads != target[:, None]) & ",
        "",
    ),
    "relations of any fact": Plant(
        "bridge_tracing", "measures.bridge_tracing", "replacements", "known[h] & ", ""
    ),
    "rank from 0": Plant(
        "bridge_tracing", "measures.bridge_tracing", "reciprocal_rank", "1 / (1 + (", "1 / (0 + ("
    ),
    "donor's answer taken for an interchange": Plant(
        "bridge_swap",
        "measures.bridge_swap",
        "_swapped",
        "query[:, 2]",
        "donor[:, 2]",
    ),
    "donors that lead to the same answer": Plant(
        "bridge_swap", "measures.bridge_swap", "donors", "(swapped != own) & ", ""
    ),
    "random bridges include the donor's": Plant(
        "bridge_swap",
        "measures.bridge_swap",
        "_random_bridge",
        "(every != bridge[:, None]) & ",
        "",
    ),
    "stays where the bridge is another": Plant(
        "bridge_swap",
        "measures.bridge_swap",
        "donors",
        "fits &= bridge[:, None] == other[None, :]",
        "pass",
    ),
    "items drawn instead of facts": Plant(
        "two_hop_cells",
        "measures.two_hop_cells",
        "cell",
        "bootstrap_by_group(data, facts,",
        "bootstrap_by_group(data, range(len(data)),",
    ),
    "empty cells kept": Plant(
        "two_hop_cells", "measures.two_hop_cells", "two_hop_cells", "if len(chosen):", "if True:"
    ),
    "knee on the raw loss": Plant("phases", "measures.phases", "_knee", "math.log(x)", "x"),
}


def plant(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap the function's code for its source with the bug in it."""
    module = importlib.import_module(f"mechgrok.{bug.module}")
    owner, _, name = bug.function.rpartition(".")
    holder = vars(vars(module)[owner]) if owner else vars(module)
    function = inspect.unwrap(holder[name])
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(bug.old) == 1, f"{bug.old!r} is not once in {bug.function}"
    scope = dict(vars(module))
    exec(source.replace(bug.old, bug.new), scope)
    monkeypatch.setattr(function, "__code__", inspect.unwrap(scope[name]).__code__)
