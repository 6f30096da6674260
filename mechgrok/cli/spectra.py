"""`mechgrok spectra`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mechgrok.runs.training_spectrum import TrainingSpectrum


def command(
    run: Path,
    /,
    observable: Literal["answer_log_prob", "margin", "end_log_prob", "hidden"] = "answer_log_prob",
    split: str | None = None,
    n_delays: int = 32,
    rank: int | None = 10,
    center: Literal[
        "none", "temporal_mean", "per_snapshot_mean", "relative_to_t0", "affine"
    ] = "affine",
    method: Literal["pcr", "exact", "rrr", "rayleigh"] = "rayleigh",
    residual_limit: float | None = 0.1,
    components: int | None = None,
    min_step: int | None = None,
    max_step: int | None = None,
    record_every: int | None = None,
    window: int | None = None,
    resamples: int = 200,
    seed: int = 0,
    legacy: bool = False,
    out: Path | None = None,
) -> None:
    """Eigenvalues of a run's training, from its fingerprints, with figures.

    Writes eigenvalues.npy, spectrum.json and three figures: into analysis/ and figures/ of the run,
    or all into --out.

    Args:
        run: A run directory, one in the published format, or a .npy file of steps x features.
        observable: What of the probes is looked at.
        split: Only the probes of this split.
        n_delays: Blocks of a delayed state; 1 is no delay.
        rank: Eigenvalues; None for the optimal hard threshold's, at most 12.
        center: What is subtracted from the snapshots; affine adds a constant instead.
        method: pcr and exact (projected DMD), rrr (reduced-rank regression), or rayleigh.
        residual_limit: Eigenvalues above it are rejected; None for none.
        components: Principal directions the snapshots are cut to; 10 for hidden states.
        min_step: First step; by default twice the warm-up of a run, 0 otherwise.
        max_step: Last step.
        record_every: Steps between two rows of a .npy file.
        window: Snapshots of a window; by default 250, or half of a short run.
        resamples: Bootstrap replicates behind the intervals; 0 for none.
        seed: Of the replicates.
        legacy: The published computation: end_log_prob, temporal_mean, 32 blocks, rank 10, pcr.
        out: A folder for all that is written.
    """
    options = {k: v for k, v in locals().items() if k not in ("run", "out")}
    from mechgrok.runs.storage import RunError
    from mechgrok.training_spectra import FIGURES, spectra

    try:
        found = spectra(run, **options)
    except ValueError as error:  # data without a spectrum, explained where they are looked at
        raise RunError(f"{run}: {error}") from error
    for line in lines(found):
        print(line)
    data, pictures = _folders(run, out)
    for path in [*found.save(data), *_draw(found, FIGURES, pictures)]:
        print(path)


def lines(found: "TrainingSpectrum") -> list[str]:
    """What was fitted, a line per eigenvalue (of a pair one), and what was left out."""
    said = found.settings
    probes = f" of {said['probes']} {said['split']} probes" if said["probes"] else ""
    shown = [
        f"{', '.join(found.runs)}: {said['observable']}{probes}, "
        f"{sum(said['snapshots']):,} snapshots, steps {said['first_step']:,}.."
        f"{said['last_step']:,} every {said['record_every']:,}",
        f"{said['n_delays']} delays, rank {said['rank']} (rule: {said['optimal_rank']}), "
        f"{said['center']}, {said['method']}; one-step residual {said['one_step_residual']:.2e}",
        f"{'modulus':>9} {'95 % interval':>19} {'period':>10} {'half-life':>10} {'residual':>9} "
        f"{'energy':>8}",
    ]
    upper = [mode for mode in found.modes if mode.eigenvalue.imag >= 0]
    shown += [_row(mode) for mode in upper]
    limit = said["residual_limit"]
    filtered = f"residual at most {limit:g}" if limit else "none filtered"
    shown += [f"{len(found.eigenvalues)} of {len(found.modes)} eigenvalues trusted ({filtered})"]
    if said["resampled"]:
        shown += [f"intervals: {said['resamples']} replicates over {said['resampled']}"]
    return [*shown, *(f"reference: {k} {v:.6g}" for k, v in found.poles.items()), *found.notes]


def _row(mode: Any) -> str:
    import math

    between = "-"
    if mode.modulus_interval is not None:
        between = "{:.5f}..{:.5f}".format(*mode.modulus_interval)
    period = f"{2 * math.pi / mode.turn:,.1f}" if mode.turn > 0 else "-"
    half = "-" if mode.half_life is None else f"{mode.half_life:,.1f}"
    end = "" if mode.trusted else "  rejected"
    return (
        f"{abs(mode.eigenvalue):9.5f} {between:>19} {period:>10} {half:>10} {mode.residual:9.2e} "
        f"{max(mode.energies):8.2g}{end}"
    )


def _folders(run: Path, out: Path | None) -> tuple[Path, Path]:
    """Where results and figures go; what belongs to a file goes into a folder beside it."""
    if out is not None:
        return out, out
    home = run.with_name(f"{run.stem}_spectrum") if run.suffix == ".npy" else run
    return home / "analysis", home / "figures"


def _draw(found: "TrainingSpectrum", names: tuple[str, ...], folder: Path) -> list[Path]:
    from mechgrok.figures import save_figure

    return [path for name in names for path in save_figure(found.plot(name), folder / name)]
