"""What the figures of a training spectrum share: where it is saved, and what its subtitle says."""

from mechgrok.runs.run import Run
from mechgrok.runs.training_spectrum import TrainingSpectrum, read_spectrum


def spectrum_of(subject: Run | TrainingSpectrum) -> TrainingSpectrum:
    """The spectrum itself, or the one saved for a run. Raises RunError when there is none."""
    return subject if isinstance(subject, TrainingSpectrum) else read_spectrum(subject.work)


def facts(found: TrainingSpectrum) -> str:
    """Runs, seeds and steps; what was observed; how it was fitted."""
    said = found.settings
    several = len(found.runs) > 1
    seeds = [str(seed) for seed in found.seeds if seed is not None]
    words = [
        f"run{'s' if several else ''} {', '.join(found.runs)}",
        f"seed{'s' if several else ''} {', '.join(seeds)}" if seeds else "",
        f"steps {said['first_step']:,}..{said['last_step']:,} every {said['record_every']:,}",
        f"n = {len(found.runs)} run{'s' if several else ''}",
    ]
    probes = f" of {said['probes']} {said['split']} probes" if said["probes"] else ""
    fit = (
        f"{said['observable']}{probes}; {said['n_delays']} delays, rank {said['rank']}, "
        f"{said['method']}, centring {said['center']}{', as published' if said['legacy'] else ''}"
    )
    return ", ".join(word for word in words if word) + "<br>" + fit
