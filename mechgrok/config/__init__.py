"""Every setting of a run, as frozen dataclasses; the standard library only.

A config is data: it is written to `config.yaml`, read back strictly, and its digest names the run's
checkpoints. Nothing is derived at class definition, so changing `n` or `d_model` changes only that.
"""

from mechgrok.config.error import ConfigError
from mechgrok.config.models import ModelConfig, PostLNModel, TransformerModel, TRMModel
from mechgrok.config.optimisation import (
    AdamW,
    CrossEntropy,
    HaltingCrossEntropy,
    LossConfig,
    OptimConfig,
)
from mechgrok.config.run import (
    FingerprintRecord,
    Perturbation,
    Record,
    RunConfig,
    Schedule,
    Seeds,
    Stop,
    Transfer,
)
from mechgrok.config.tasks import (
    BinaryTask,
    ComparisonTask,
    CompositionTask,
    EquationTask,
    FinetuneSet,
    GroupTask,
    SequencesTask,
    TaskConfig,
)

__all__ = [
    "AdamW",
    "BinaryTask",
    "ComparisonTask",
    "CompositionTask",
    "ConfigError",
    "CrossEntropy",
    "EquationTask",
    "FinetuneSet",
    "FingerprintRecord",
    "GroupTask",
    "HaltingCrossEntropy",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "Perturbation",
    "PostLNModel",
    "Record",
    "RunConfig",
    "Schedule",
    "Seeds",
    "SequencesTask",
    "Stop",
    "TRMModel",
    "TaskConfig",
    "Transfer",
    "TransformerModel",
]
