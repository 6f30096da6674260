"""What a run came to, from its saved results: a short table and a paragraph in plain words."""

from typing import Any

from mechgrok.runs.result import NotApplicable, Result
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError


def rows(run: Run) -> list[tuple[str, str]]:
    """Name and text of each line of the table; `times` must be saved."""
    times = run.result("times")
    found = [
        ("run", f"{run.name}: {run.config.preset}, seed {run.seed}, {_ending(run)}"),
        ("memorised", _moment(times, "memorised")),
        ("generalised", _moment(times, "generalised")),
        ("grokked", _grokked(times)),
    ]
    if not _generalised(times) and not _absent(times):
        found.append(("try", advice(run)))
    return [*found, *_analysis(run), ("time", _time(run))]


def _analysis(run: Run) -> list[tuple[str, str]]:
    try:
        return [
            *_keys(run),
            ("restricted loss", _loss(run.result("restricted_loss"), "all", "all pairs")),
            ("excluded loss", _loss(run.result("excluded_loss"), "train", "train")),
            *_ablation(run.result("frequency_ablation")),
        ]
    except RunError:
        return [("analysis", f"not yet; run: mechgrok report {run.path}")]


def paragraph(run: Run) -> str:
    """The same in sentences."""
    times = run.result("times")
    sentences = [f"{what(run)} It {_ending(run)}."]
    if _absent(times):
        sentences.append(f"When it memorised and generalised is not known: {_absent(times)}.")
        return " ".join([*sentences, *_end(run)])
    if isinstance(times["memorised"], NotApplicable):
        sentences.append("It has not memorised its training set.")
    else:
        sentences.append(f"It memorised its training set {_when(times, 'memorised')}.")
    if _generalised(times):
        sentences.append(f"It generalised {_when(times, 'generalised')}.")
        sentences.append(f"Grokked: {_grokked(times)}.")
    else:
        sentences.append(f"It did not generalise, so it did not grok. To try: {advice(run)}.")
    return " ".join([*sentences, *_end(run)])


def _end(run: Run) -> list[str]:
    return _key_sentences(run) + _ablation_sentences(run.result("frequency_ablation"))


def advice(run: Run) -> str:
    """What to change when a run has not generalised."""
    config: Any = run.config
    decay = config.optim.weight_decay * 3 or 1
    share = vars(config.task).get("frac_train")
    more = f"more steps (--stop.max-steps {2 * config.stop.max_steps} resumes this run)"
    others = [f"more weight decay (--optim.weight-decay {decay:g})"]
    if share is not None:
        wider = min(0.9, round(share + 0.1, 2))
        others.append(f"a larger training fraction (--task.frac-train {wider:g})")
    return f"{more}; in a new --run {' or '.join(others)}"


def milliseconds(run: Run) -> float | None:
    """Wall time per step, evaluations and checkpoints included; None when it is not known.

    Of the last process that trained, or where that took no step, of the last stretch of metrics.
    """
    status = run.status
    if status.get("steps"):
        return 1000 * status["seconds"] / status["steps"]
    last = run.evaluations()[-2:]
    if len(last) < 2 or "seconds" not in last[1] or last[1]["seconds"] <= last[0]["seconds"]:
        return None
    steps = last[1]["step"] - last[0]["step"]
    return 1000 * (last[1]["seconds"] - last[0]["seconds"]) / steps


def what(run: Run) -> str:
    """What was learnt by what, in one sentence."""
    config: Any = run.config
    task = vars(config.task)
    layers = vars(config.model).get("n_layers")
    deep = f", {layers} layer{'s' if layers != 1 else ''}" if layers else ""
    learnt = str(task.get("operation", config.task.name)).replace("_", " ")
    if "group" in task:
        learnt = f"products in {task['group']}"
    if "n" in task:
        learnt += f" mod {task['n']}"
    if "frac_train" in task:
        learnt += f", {100 * task['frac_train']:g} % of the pairs trained on"
    return f"Preset {config.preset}, seed {run.seed}: {learnt}{deep}."


def _ending(run: Run) -> str:
    status = run.status
    reason = f" ({status['reason']})" if status.get("reason") else ""
    verbs = {"running": "is at", "finished": "ended at", "interrupted": "was interrupted at"}
    verbs["imported"] = "was imported at"
    step = run.steps[-1] if status["state"] == "running" else status["step"]
    return f"{verbs.get(status['state'], status['state'] + ' at')} step {step:,}{reason}"


def _absent(times: Result) -> str:
    """Why no moment is known, or nothing."""
    return times.headline.reason if isinstance(times.headline, NotApplicable) else ""


def _generalised(times: Result) -> bool:
    return not isinstance(times["generalised"], NotApplicable)


def _interval(times: Result, name: str) -> tuple[int | None, int] | None:
    found = times[f"{name}_interval"]
    if not isinstance(found, list | tuple):
        return None
    after, by = found
    return (None if after is None else int(str(after))), int(str(by))


def _moment(times: Result, name: str) -> str:
    interval = _interval(times, name)
    if _absent(times):
        return f"not known: {_absent(times)}"
    if interval is None:
        return f"not by step {times['last_step']:,}"
    after, by = interval
    text = f"in steps ({after:,}, {by:,}]" if after is not None else f"by step {by:,}"
    back = times[f"{name}_fell_back_at"]
    return text if isinstance(back, NotApplicable) else f"{text}; fell back at {back:,}"


def _when(times: Result, name: str) -> str:
    interval = _interval(times, name)
    if interval is None or interval[0] is None:
        return _moment(times, name)
    return f"between steps {interval[0]:,} and {interval[1]:,}"


def _grokked(times: Result) -> str:
    if _absent(times):
        return f"not known: {_absent(times)}"
    ratio = times["ratio"]
    later = f"generalised {ratio:.3g} times later than memorised" if _is(ratio) else ""
    if times["grokked"]:
        return f"yes, {later}" if later else "yes"
    return f"no: {later}, ten times is called grokking" if later else "no"


def _is(value: object) -> bool:
    return isinstance(value, int | float)


def _freqs(result: Result) -> list[int]:
    found = result["freqs"]
    return [int(str(k)) for k in found] if isinstance(found, list | tuple) else []


def _share(result: Result) -> float:
    """Share of the embedding's power at the keys."""
    return sum(float(str(result.values.get(f"embedding_share_{k}", 0))) for k in _freqs(result))


def _keys(run: Run) -> list[tuple[str, str]]:
    result = run.result("key_frequencies")
    if isinstance(result.headline, NotApplicable):
        return [("key frequencies", f"does not apply: {result.headline.reason}")]
    freqs = _freqs(result)
    if not freqs:
        return [("key frequencies", "none")]
    share = f"{100 * _share(result):.1f} % of the embedding's power"
    return [("key frequencies", ", ".join(map(str, freqs))), ("their share", share)]


def _key_sentences(run: Run) -> list[str]:
    result = run.result("key_frequencies")
    if isinstance(result.headline, NotApplicable):
        return [f"Key frequencies do not apply: {result.headline.reason}."]
    freqs = _freqs(result)
    if not freqs:
        return ["No frequency is key by the robust rule: there is no Fourier circuit to describe."]
    listed, share = ", ".join(map(str, freqs)), 100 * _share(result)
    return [f"Its key frequencies {listed} hold {share:.1f} % of the embedding's power."]


def _loss(result: Result, value: str, split: str) -> str:
    found = result.values[value]
    if isinstance(found, NotApplicable):
        return f"does not apply: {found.reason}"
    return f"{found:.3g} nats on {split}"


def _ablation(result: Result) -> list[tuple[str, str]]:
    if isinstance(result.headline, NotApplicable):
        return [("ablation check", f"does not apply: {result.headline.reason}")]
    without = (
        f"accuracy {result['keys_accuracy']:.3f} on {_split(result)}, intact "
        f"{result['original_accuracy']:.3f}"
    )
    controls = (
        f"size-matched {result['controls_mean_accuracy']:.3f} on average, lowest "
        f"{result['controls_min_accuracy']:.3f}; all non-keys {result['non_keys_accuracy']:.3f}"
    )
    lines = _failed(result)
    check = "failed: " + "; ".join(lines) if lines else "passed"
    return [("without the keys", without), ("controls", controls), ("ablation check", check)]


def _ablation_sentences(result: Result) -> list[str]:
    if isinstance(result.headline, NotApplicable):
        return [f"The ablation check does not apply: {result.headline.reason}."]
    stand_in = str(result.definition.get("selection", "")).startswith("no key")
    which = "the frequencies of most embedding power" if stand_in else "the key frequencies"
    lines = _failed(result)
    verdict = "failed by " + "; ".join(lines) if lines else "passed"
    return [
        f"Removing {which} leaves accuracy {result['keys_accuracy']:.3f} on the {_split(result)} "
        f"split, size-matched controls leave {result['controls_mean_accuracy']:.3f} on average: "
        f"the ablation check {verdict}."
    ]


def _failed(result: Result) -> list[str]:
    lines = result["failed_lines"]
    return [str(line) for line in lines] if isinstance(lines, list | tuple) else []


def _split(result: Result) -> str:
    return str(result.definition.get("split", "train")).split(" ")[0]


def _time(run: Run) -> str:
    found = milliseconds(run)
    if found is None:
        return "not recorded"
    threads = run.provenance.get("threads")
    plural = "" if threads == 1 else "s"
    return f"{found:.1f} ms per step, {threads} thread{plural}, evaluations included"
