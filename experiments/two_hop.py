"""What is a grokked two-hop circuit worth? He et al. 2026, arXiv 2601.09049, with its controls.

    python experiments/two_hop.py --stage pretrain     # two_hop_small: 13 runs and 4 baselines
    python experiments/two_hop.py --stage finetune     # new and edited facts, from what is there
    python experiments/two_hop.py --stage analyse      # what all finished runs show; no training
    python experiments/two_hop.py --small              # all three in seconds, to see that it runs

A Tiny Recursive Model answers `(h, r1, r2)`, whose facts it is also taught one by one; 10 % of the
facts are in no two-hop query of `natural`. Other regimes put them back beside an in-distribution
fact, as first hop, second hop or both (`both_full`), and `both_full_sham` adds as many queries of
in-distribution facts. All regimes of a seed have one graph. Three seeds of both_full (500 steps
beyond .95 OOD, at most 6,000), its sham (4,500 steps) and natural (5,000; seed 0 goes on to
30,000), two of one hop augmented (9,000), and GPT-2's shape, plain (three seeds of both_full, at
most 4,000) and with its blocks run twice (one): 4 layers, width 128, lr 1e-3, decay and warm-up of
`two_hop_small`. It goes on where it was stopped.

Fine-tuning: 60 new facts or 60 edited ones, by their atomic query alone, beside 3,700 old queries;
500 steps of 256 rows at lr 1e-3 in every arm (planned as 1,000: cut when the first three arms, run
again since, knew every fact by step 400): from both_full's last weights, from natural's at the
checkpoint nearest in step with at least as high a training accuracy, and from scratch on either's
data; with new facts also trained in the embeddings and head alone, and in the recursion alone.
Averaged weights are started from and evaluated, as published; the average is over 100 steps, not
1,000, which would be most of so short a run. Read when the taught facts first are at .99, and at
the end.

Rival predictions, written before it ran. Of pretraining, each on every seed:
- Recombination: both_full answers out-of-distribution (OOD) queries because every hop of them was
  trained in other queries. OOD is at .95 within twice the steps that training takes, and the sham
  is at most .2 there.
- More data: the sham does as well, within .1 at that step.
- Shared circuit (He et al.): the path is the same, grokked or not. In both_full and in natural the
  bridge is decoded with excess >= .8, and swapped with excess >= .5.
- Another basis: excess below .1 under the lens, while the probe's selectivity is >= .5 and the swap
  answers (b', r2) with excess >= .5.
- Association: accuracy follows exposure of the second hop alone. second_hop is at .8 OOD, first_hop
  at most at .2, and with the swap half of the answers of second_hop stay.
Of fine-tuning, by means over seeds at the end, where the facts themselves are at .95:
- Paper: a new fact is used in the first hop (>= .9) and not in the second (<= .1) by every
  pretrained arm, whereas scratch uses it in the first about .3 of the time (at most .5).
- Edits in both_full: one fact store follows them in both hops (>= .5 each), a store per hop in the
  first alone, and a shortcut in neither.
- Pretraining as such: natural at matched accuracy is within .1 of both_full in both cells.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _transfer_arms import Jobs
from _two_hop_arms import SCRATCH, STARTS, arms, few, finetuning, ready, start_of
from _two_hop_design import MODELS, PRESETS, REGIMES, config_of, pretrainings

from mechgrok.cli import explain_errors
from mechgrok.config import ConfigError, RunConfig

EXPECTED = Path(__file__).with_suffix(".expected.json")
FIGURES = Path(__file__).parents[1] / "figures"
STAGES = ("pretrain", "finetune", "analyse")


@explain_errors
def main(arguments: Sequence[str]) -> None:
    """Train or resume what the stages ask for, then say what all finished runs show."""
    asked = parsed(arguments)
    if "pretrain" in asked.stages:
        pretrain(asked)
    if "finetune" in asked.stages:
        finetune(asked)
    if "analyse" in asked.stages:
        from _two_hop_report import record, report

        earlier = EXPECTED if asked.record and EXPECTED.exists() else None
        found = report(asked.runs, asked.preset, earlier)
        if asked.record:
            record(found, asked.runs, EXPECTED, FIGURES)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default=PRESETS[0])
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--regime", help=f"some of {','.join(REGIMES)}; all that are designed")
    parser.add_argument("--model", help=f"some of {','.join(MODELS)} to pretrain; all")
    parser.add_argument("--seeds", help="0:3 or 0,2; as designed for each regime")
    parser.add_argument("--max-steps", type=int, help="of every run; as designed for each")
    parser.add_argument("--runs", type=Path, help="default results/two_hop/<preset>")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--device", default="cpu", help="of the runs; cpu is what was tested")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile and bfloat16 products in the TRM's steps",
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes and few steps")
    parser.add_argument("--record", action="store_true", help=f"write {EXPECTED.name}, pictures")
    asked = parser.parse_args(list(arguments))
    if asked.small and asked.record:
        parser.error("--record is for runs of full size; leave out --small")
    asked.stages = STAGES if asked.stage == "all" else (asked.stage,)
    asked.regimes = _some(parser, asked.regime, REGIMES)
    asked.models = _some(parser, asked.model, MODELS)
    asked.runs = asked.runs or Path("results/two_hop") / asked.preset
    if asked.seeds is not None:
        from mechgrok.training.plan import read_seeds

        asked.seeds = read_seeds(asked.seeds)
    if asked.small:
        asked.seeds = asked.seeds or [0]
        asked.regimes = asked.regimes or ["both_full", "natural"]
        asked.models = asked.models or ["trm", "gpt2_twice"]
    return asked


def _some(
    parser: argparse.ArgumentParser, given: str | None, known: Sequence[str]
) -> list[str] | None:
    if given is None:
        return None
    unknown = [name for name in given.split(",") if name not in known]
    if unknown:
        parser.error(f"unknown {unknown}; expected some of {list(known)}")
    return given.split(",")


def pretrain(asked: argparse.Namespace) -> None:
    """Train what of the regimes has not ended."""
    wanted = pretrainings(asked.preset, asked.regimes, asked.models, asked.seeds, asked.max_steps)
    configs = [
        (one.name, config_of(asked.preset, one, asked.small, asked.device, asked.compile))
        for one in wanted
    ]
    train(configs, asked.runs / "pretrain", asked.workers)


def finetune(asked: argparse.Namespace) -> None:
    """Train what of the arms has not ended; those whose pretraining is not done are named."""
    from _two_hop_findings import pretrained

    runs = pretrained(asked.runs / "pretrain")
    own = {(regime, seed): run for (model, regime, seed), run in runs.items() if model == "trm"}
    designed = STARTS.get(asked.preset, tuple(dict.fromkeys(regime for regime, _ in own)))
    listed = arms(asked.preset, asked.regimes or designed)
    seeds = asked.seeds or sorted({seed for _, seed in own})
    configs = []
    for seed in seeds:
        for arm in few(listed) if asked.small else listed:
            start = None
            if arm.start != SCRATCH:
                run, both = own.get((arm.start, seed)), own.get(("both_full", seed))
                waits = [(arm.start, run)] + [("both_full", both)] * (arm.start == "natural")
                left = [n for n, r in waits if r is None or not ready(asked.preset, n, r)]
                if left or run is None:
                    print(f"left out: {arm.name} at seed {seed}; {left} not pretrained yet")
                    continue
                start = start_of(asked.preset, arm.start, run, both)
            settings = (asked.small, asked.max_steps, asked.device, asked.compile)
            config = finetuning(asked.preset, arm, seed, start, *settings)
            configs.append((f"{arm.name}__seed{seed}", config))
    train(configs, asked.runs / "finetune", asked.workers)


def train(listed: Sequence[tuple[str, RunConfig]], directory: Path, workers: int) -> None:
    """Train some runs by name; what fails is named and does not stop the others."""
    from mechgrok.training import sweep

    if not listed:
        raise ConfigError("the options leave nothing to train; see --help")
    plan = Jobs(listed[0][1], (), {}, tuple(listed))
    print(f"{directory}: {len(listed)} runs", flush=True)
    for run, reason in sweep.run_plan(plan, directory, workers).items():
        print(f"failed: {run}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
