"""A spectrum of training as it is saved, from which tables and figures are drawn.

One JSON file holds all of it; eigenvalues.npy beside it are the trusted eigenvalues, for others.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Complex, Float

from mechgrok import discovery
from mechgrok.runs.storage import RunError, read_json, write_bytes, write_json

if TYPE_CHECKING:
    import pandas as pd

SPECTRUM: Final = "spectrum.json"
EIGENVALUES: Final = "eigenvalues.npy"
FORMAT: Final = 1
"""Version of the file; a newer one is refused."""


@dataclass(frozen=True)
class Mode:
    """One eigenvalue of the fitted operator, and what it stands for."""

    eigenvalue: complex
    """Per snapshot; modulus 1 is neutral, below it decays."""
    residual: float
    """|A v - eigenvalue v| of its eigenvector v of length 1: 0 for an exact one."""
    trusted: bool
    """Whether the residual is at most the limit of the settings."""
    growth: float | None
    """log of the modulus per training step, below 0 for a decay; None for an eigenvalue 0."""
    turn: float
    """Radians per training step, -pi / record_every..pi / record_every."""
    half_life: float | None
    """Training steps until it is halved, negative for growth; None for a modulus of exactly 1."""
    amplitudes: tuple[float, ...]
    """Modulus of its share in the first state of each run, in the units of the snapshots."""
    energies: tuple[float, ...]
    """Its energy alone over each run, as a share of the run's; shares need not add up to 1."""
    modulus_interval: tuple[float, float] | None = None
    """95 % of the bootstrap replicates of the modulus; None where none were drawn."""
    angle_interval: tuple[float, float] | None = None
    """The same for the angle, in radians per snapshot."""


@dataclass(frozen=True, eq=False)
class TrainingSpectrum:
    """Eigenvalues of the training of one or several runs, with everything that decided them."""

    settings: Mapping[str, Any]
    """Observable, split, steps, delays, rank, centring, method, filter, resampling."""
    runs: tuple[str, ...]
    """Names of the runs that share the operator."""
    seeds: tuple[int | None, ...]
    """Base seed of each; None for an array."""
    modes: tuple[Mode, ...] = field(repr=False)
    """By falling modulus, conjugates side by side."""
    singular_values: Float[np.ndarray, " n"] = field(repr=False)
    """All singular values of the delayed states, falling."""
    windows: tuple[Mapping[str, Sequence[float]], ...] = field(repr=False)
    """Columns by run: first_step, last_step, residual, absolute, norm, rank, effective_rank,
    leading (see maths.dmd.Windows); empty where a note says why."""
    poles: Mapping[str, float] = field(repr=False)
    """Eigenvalues per snapshot that the optimiser has by itself, by name."""
    evaluations: tuple[Mapping[str, Sequence[float]], ...] = field(repr=False)
    """Columns step, train_acc, test_acc by run, where the run has them."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def eigenvalues(self) -> Complex[np.ndarray, " n"]:
        """Trusted eigenvalues per snapshot."""
        return np.array([m.eigenvalue for m in self.modes if m.trusted], dtype=np.complex128)

    @property
    def rejected(self) -> Complex[np.ndarray, " m"]:
        """Eigenvalues whose residual is above the limit."""
        return np.array([m.eigenvalue for m in self.modes if not m.trusted], dtype=np.complex128)

    def table(self) -> "pd.DataFrame":
        """One row per eigenvalue, the rejected ones too."""
        import pandas as pd

        rows = [
            {
                "modulus": abs(m.eigenvalue),
                "angle": math.atan2(m.eigenvalue.imag, m.eigenvalue.real),
                **{k: v for k, v in asdict(m).items() if k not in ("amplitudes", "energies")},
                "amplitude": max(m.amplitudes),
                "energy": max(m.energies),
            }
            for m in self.modes
        ]
        return pd.DataFrame(rows)

    def plot(self, name: str = "eigenvalues") -> Any:
        """A plotly figure: eigenvalues, singular_values or windowed_residual."""
        return discovery.load("plots", name)(self)

    def save(self, directory: str | Path) -> list[Path]:
        """Write spectrum.json and eigenvalues.npy; returns their paths."""
        paths = [Path(directory) / SPECTRUM, Path(directory) / EIGENVALUES]
        data = asdict(self) | {"format": FORMAT, "singular_values": self.singular_values.tolist()}
        data["modes"] = [_encode(mode) for mode in data["modes"]]
        write_json(paths[0], data)
        buffer = io.BytesIO()
        np.save(buffer, self.eigenvalues, allow_pickle=False)
        write_bytes(paths[1], buffer.getvalue())
        return paths


def read_spectrum(directory: str | Path) -> TrainingSpectrum:
    """The spectrum saved in a folder, or in the analysis folder of a run directory.

    Raises RunError when there is none, naming the command that makes it.
    """
    found = [d for d in (Path(directory), Path(directory) / "analysis") if (d / SPECTRUM).exists()]
    if not found:
        raise RunError(f"{directory} has no saved spectrum; run: mechgrok spectra {directory}")
    path = found[0] / SPECTRUM
    data = read_json(path)
    written = data.pop("format", None)
    if written != FORMAT:
        raise RunError(f"{path} has format {written}, expected {FORMAT}; run mechgrok spectra anew")
    try:
        modes = tuple(_decode(mode) for mode in data.pop("modes"))
        values = np.array(data.pop("singular_values"))
        listed = {k: tuple(data.pop(k)) for k in _LISTS}
        return TrainingSpectrum(modes=modes, singular_values=values, **listed, **data)
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} is incomplete ({error}); run mechgrok spectra anew") from error


_LISTS: Final = ("runs", "seeds", "windows", "evaluations", "notes")
_PAIRS: Final = ("amplitudes", "energies", "modulus_interval", "angle_interval")


def _encode(mode: Mapping[str, Any]) -> dict[str, Any]:
    value = mode["eigenvalue"]
    return {"real": value.real, "imag": value.imag} | {
        k: v for k, v in mode.items() if k != "eigenvalue"
    }


def _decode(mode: Mapping[str, Any]) -> Mode:
    kept = {k: v for k, v in mode.items() if k not in ("real", "imag")}
    kept |= {k: tuple(kept[k]) for k in _PAIRS if kept[k] is not None}
    return Mode(complex(mode["real"], mode["imag"]), **kept)
