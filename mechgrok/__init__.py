"""Train small models until they grok, and take them apart.

Names are loaded when first used (PEP 562), so that `import mechgrok` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechgrok import circuits, discovery, interventions, measures, models, tasks
    from mechgrok.checkpoint_circuit import circuit
    from mechgrok.config import RunConfig
    from mechgrok.examples import load_example
    from mechgrok.interventions import (
        ablate,
        nodes,
        patch,
        patch_across,
        path_patch,
        transplant,
    )
    from mechgrok.measures.attribution import of_checkpoint as attribution
    from mechgrok.measures.frequency_ablation import measure as frequency_ablation
    from mechgrok.measures.key_frequencies import of_checkpoint as key_frequencies
    from mechgrok.models.shared_prefix import answer_logits
    from mechgrok.plotting import plot
    from mechgrok.presets import preset
    from mechgrok.report import write_report
    from mechgrok.runs.checkpoint import Checkpoint
    from mechgrok.runs.result import NotApplicable, Result
    from mechgrok.runs.run import Run
    from mechgrok.runs.run import Run as load_run
    from mechgrok.runs.runs import Runs
    from mechgrok.training.evaluation import evaluate_model as evaluate
    from mechgrok.training.sweep import sweep
    from mechgrok.training.trainer import train
    from mechgrok.training.transfer import transfer
    from mechgrok.training_spectra import spectra

__version__ = "0.1.0"

_HOME = {
    "Checkpoint": "runs.checkpoint:Checkpoint",
    "NotApplicable": "runs.result:NotApplicable",
    "Result": "runs.result:Result",
    "Run": "runs.run:Run",
    "RunConfig": "config:RunConfig",
    "Runs": "runs.runs:Runs",
    "ablate": "interventions:ablate",
    "answer_logits": "models.shared_prefix:answer_logits",
    "attribution": "measures.attribution:of_checkpoint",
    "circuit": "checkpoint_circuit:circuit",
    "circuits": "circuits",
    "discovery": "discovery",
    "evaluate": "training.evaluation:evaluate_model",
    "frequency_ablation": "measures.frequency_ablation:measure",
    "interventions": "interventions",
    "key_frequencies": "measures.key_frequencies:of_checkpoint",
    "load_example": "examples:load_example",
    "load_run": "runs.run:Run",
    "measures": "measures",
    "models": "models",
    "nodes": "interventions:nodes",
    "patch": "interventions:patch",
    "patch_across": "interventions:patch_across",
    "path_patch": "interventions:path_patch",
    "plot": "plotting:plot",
    "preset": "presets:preset",
    "spectra": "training_spectra:spectra",
    "sweep": "training.sweep:sweep",
    "tasks": "tasks",
    "train": "training.trainer:train",
    "transfer": "training.transfer:transfer",
    "transplant": "interventions:transplant",
    "write_report": "report:write_report",
}

__all__ = [
    "Checkpoint",
    "NotApplicable",
    "Result",
    "Run",
    "RunConfig",
    "Runs",
    "ablate",
    "answer_logits",
    "attribution",
    "circuit",
    "circuits",
    "discovery",
    "evaluate",
    "frequency_ablation",
    "interventions",
    "key_frequencies",
    "load_example",
    "load_run",
    "measures",
    "models",
    "nodes",
    "patch",
    "patch_across",
    "path_patch",
    "plot",
    "preset",
    "spectra",
    "sweep",
    "tasks",
    "train",
    "transfer",
    "transplant",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"mechgrok has no {name!r}; it has {sorted(_HOME)}")
    module, _, member = _HOME[name].partition(":")
    found = importlib.import_module(f"mechgrok.{module}")
    return getattr(found, member) if member else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
