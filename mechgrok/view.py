"""One or two checkpoints on one page that works offline: attention, patch grids and the circuit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from mechgrok import _page
from mechgrok.checkpoint_circuit import circuit, rows_to_answer
from mechgrok.circuits import NotResidual, SameRuns
from mechgrok.interventions import changed_operand, metric, nodes, patch
from mechgrok.measures._modular import DoesNotApply
from mechgrok.plots import circuit as circuit_plot
from mechgrok.plots import circuit_errors, circuit_faithfulness, patch_grids
from mechgrok.report import attention_of
from mechgrok.runs.run import Run
from mechgrok.runs.storage import write_text

PATCHED: Final = ("resid_pre", "head", "attn_out", "mlp_out")
"""Components whose clean activations are patched, where the model has them."""
NAMES: Final = ("one", "other")
"""Of the two checkpoints, in the ids of the page."""


def write_view(checkpoints: Sequence[Any], path: Path, *, shifts: int = 1, seed: int = 0) -> Path:
    """Write the page of one checkpoint, or of two beside each other; returns its path.

    The circuit is read where it is saved and computed otherwise, with `shifts` pairs of runs per
    operand. What does not apply to a model is a sentence. Raises ValueError for another number of
    checkpoints.
    """
    if not 1 <= len(checkpoints) <= len(NAMES):
        raise ValueError(f"got {len(checkpoints)} checkpoints, expected one or two")
    title = " against ".join(one.name for one in checkpoints)
    sections = [f"<h1>{_page.escape(title)}</h1>", _page.paragraph(_facts(checkpoints), "facts")]
    bundles: list[str] = []
    parts: dict[str, list[str]] = {"Attention patterns": [], "Activation patching": []}
    parts["Circuit"] = []
    for name, one in zip(NAMES, checkpoints, strict=False):
        body, scripts = attention_of(one, f"at {one.name}", f"attention-{name}")
        bundles = bundles or scripts
        heading = f"<h3>{_page.escape(one.name)}</h3>"
        parts["Attention patterns"].append(_page.card(heading, body))
        parts["Activation patching"].append(_grids(one, f"patches-{name}", seed))
        parts["Circuit"] += _circuit(one, name, shifts, seed)
    sections += [_page.section(heading, *inside) for heading, inside in parts.items()]
    write_text(path, _page.page(title, sections, [_page.plotly_bundle(), *bundles]))
    return path


def _facts(checkpoints: Sequence[Any]) -> str:
    said = []
    for one in checkpoints:
        at = one.task.labels[:, 0], one.answer_logits[:, 0].argmax(dim=-1).cpu()
        shares = [
            f"{name} accuracy {float((at[0][rows] == at[1][rows]).double().mean()):.3f}"
            for name, rows in one.task.splits.items()
            if name in ("train", "test")
        ]
        said.append(f"{one.name}: {', '.join(shares)}")
    return "; ".join(said)


def _circuit(checkpoint: Any, name: str, shifts: int, seed: int) -> list[str]:
    """The circuit, its approximations and its faithfulness, or why there is none."""
    try:
        found = circuit(checkpoint, shifts=shifts, seed=seed)
    except (NotResidual, SameRuns, DoesNotApply) as reason:
        text = f"{checkpoint.name}: does not apply: {reason}"
        return [_page.card(_page.paragraph(text, "absent"))]
    figures = (circuit_plot, circuit_errors, circuit_faithfulness)
    drawn = [
        _page.figure(module.plot(found), f"{module.__name__.rpartition('.')[2]}-{name}")
        for module in figures
    ]
    rows = [(key, str(getattr(found, key))) for key in ("selection", "rule", "corruption", "dtype")]
    return [*drawn, _page.card(_page.pairs(rows))]


def _grids(checkpoint: Any, name: str, seed: int) -> str:
    """Patch grids with each operand corrupted, or why there are none."""
    at, tables = _components(checkpoint.model), {}
    try:
        tokens, labels = rows_to_answer(checkpoint)
        for position in [i for i, x in enumerate(tokens.T) if bool((x != x[0]).any())]:
            chance = torch.Generator().manual_seed(seed)
            rows = changed_operand(tokens.cpu(), labels.cpu(), position, chance)
            by = metric("logit_diff", labels, labels[rows])
            found = patch(checkpoint.model, nodes(at, position="each"), tokens, tokens[rows], by)
            tables[f"position {position} corrupted"] = found.table()
    except (ValueError, DoesNotApply) as reason:
        return _page.card(_page.paragraph(f"Does not apply: {reason}", "absent"))
    columns = [f"{i}" for i in range(tokens.shape[1] - 1)] + ["answer"]
    facts = f"{checkpoint.name}, seed {checkpoint.seed}, n = 1 run"
    return _page.figure(patch_grids.plot(tables, columns, facts), name)


def _components(model: Any) -> list[str]:
    """Those of PATCHED that the model has; heads instead of attention as a whole."""
    ends = {name.rpartition("hook_")[2] for name in model.hook_dict}
    heads = "z" in ends
    own = [x for x in PATCHED if x in ends or (x == "head" and heads)]
    return [x for x in own if not (x == "attn_out" and heads)]


def view_run(
    run: Path,
    step: int | None = None,
    against: Path | None = None,
    against_step: int | None = None,
    out: Path | None = None,
    shifts: int = 1,
) -> Path:
    """The page of a run's checkpoint, its last by default; errors as a run's own."""
    opened = Run(run)
    chosen = [opened[-1] if step is None else opened.checkpoint(step)]
    if against is not None or against_step is not None:
        other = opened if against is None else Run(against)
        chosen.append(other[-1] if against_step is None else other.checkpoint(against_step))
    return write_view(chosen, opened.work / "view.html" if out is None else out, shifts=shifts)
