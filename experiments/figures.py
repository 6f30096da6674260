"""Every picture of figures/ again, from what the repository holds; no run is needed.

    python experiments/figures.py                  # all of them
    python experiments/figures.py modadd_table     # some, by name
    python experiments/figures.py --list           # what each is drawn from

A picture is drawn from the numbers of its experiment's expected.json where these are all it shows,
from a run that comes with the package, or from `figures/<name>.drawn.json.gz`, which the command
that recorded it wrote. One that has none of these is an error with that command.
`figures/<name>.source.json` beside each picture holds the command and the digests of its runs; it
is not touched.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError

if TYPE_CHECKING:
    import plotly.graph_objects as go

HERE = Path(__file__).parent
FIGURES = HERE.parent / "figures"

OF_EXAMPLES = {"grokking_curve": "nanda2023_mainline"}
"""Figures of `mechgrok/plots` that show a run of the package, which the repository holds whole."""

Draw = Callable[[Mapping[str, Any]], "go.Figure"]


def recorded() -> dict[str, tuple[str, Draw]]:
    """Pictures that their experiment's expected.json has all of: the experiment, how to draw."""
    import _fingerprint_report
    import _modadd_picture
    import _perturbation_figures
    import _transfer_figures
    import _two_hop_figures
    import _warning_figures
    import weight_decay_law

    return {
        "modadd_table": ("modadd_table", _modadd_picture.draw),
        "weight_decay_law": ("weight_decay_law", weight_decay_law.draw),
        "fingerprint_study_sensitivity": ("fingerprint_study", _fingerprint_report.rank_and_delays),
        "early_warning_concordance": ("early_warning", _warning_figures.concordances),
        "early_warning_lead_times": ("early_warning", _warning_figures.lead_times),
        "perturbation_study_times": (
            "perturbation_study",
            lambda found: _perturbation_figures.times(found["groups"]),
        ),
        "circuit_transfer": (
            "circuit_transfer",
            lambda found: _transfer_figures.arms_figure(found["arms"]),
        ),
        "circuit_transfer_others": (
            "circuit_transfer",
            lambda found: _transfer_figures.others_figure(found["arms"]),
        ),
        "circuit_transfer_progress": (
            "circuit_transfer",
            lambda found: _transfer_figures.progress_figure(found["progress"]),
        ),
        "two_hop": ("two_hop", lambda found: _two_hop_figures.table_figure(found["pretraining"])),
        "two_hop_finetuning": (
            "two_hop",
            lambda found: _two_hop_figures.finetuning_figure(found["finetuning"]),
        ),
    }


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Render the pictures asked for; those that cannot be are named at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="pictures; all where none is given")
    parser.add_argument("--out", type=Path, default=FIGURES, help="where they are written")
    parser.add_argument("--list", action="store_true", help="say what each is drawn from, and end")
    asked = parser.parse_args(list(arguments))
    known = sorted(path.stem for path in FIGURES.glob("*.png"))
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        raise ConfigError(f"no picture {unknown}; there are {known}")
    lost = []
    for name in asked.names or known:
        origin = source(name)
        if origin is None:
            lost.append(name)
        elif asked.list:
            print(f"{name}: {origin}")
        else:
            print(f"{name}: {origin}, {rendered(name, asked.out)}")
    if lost:
        each = "".join(f"\n  {name}: {command(name)}" for name in lost)
        raise ConfigError(
            f"{len(lost)} pictures need their runs, since what they show was not kept; each is "
            f"drawn, and kept, by its command:{each}"
        )


def source(name: str) -> str | None:
    """The file a picture is drawn from; None where nothing was kept."""
    from mechgrok.drawn import SUFFIX

    if name in OF_EXAMPLES:
        return f"mechgrok/examples/{OF_EXAMPLES[name]}"
    if name in recorded():
        return f"experiments/{recorded()[name][0]}.expected.json"
    return f"figures/{name}{SUFFIX}" if (FIGURES / f"{name}{SUFFIX}").exists() else None


def figure(name: str) -> "go.Figure":
    """The picture as a figure. Raises RunError where nothing was kept."""
    from mechgrok.drawn import read_drawn

    if name in OF_EXAMPLES:
        return _of_example(name)
    if name not in recorded():
        return read_drawn(FIGURES / name)
    experiment, draw = recorded()[name]
    return draw(json.loads((HERE / f"{experiment}.expected.json").read_text()))


def _of_example(name: str) -> "go.Figure":
    """A figure of a run of the package; what it needs is measured first, and phases to shade."""
    from mechgrok import discovery
    from mechgrok.examples import load_example

    run = load_example(OF_EXAMPLES[name])
    for measure in ("phases", *discovery.module("plots", name).NEEDS):
        run.measure(measure)
    return discovery.load("plots", name)(run)


def rendered(name: str, out: Path) -> str:
    """Write the picture; says whether it is the same, byte by byte, as the one that was there."""
    from mechgrok.figures import save_png

    there = out / f"{name}.png"
    before = there.read_bytes() if there.exists() else None
    after = save_png(figure(name), out / name).read_bytes()
    return "new" if before is None else "the same" if before == after else "changed"


def command(name: str) -> str:
    """The command that recorded a picture."""
    found = FIGURES / f"{name}.source.json"
    return json.loads(found.read_text())["command"] if found.exists() else "no command recorded"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
