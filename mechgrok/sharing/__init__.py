"""Models as files that go from one place to another: other people's, and runs of our own."""

from mechgrok.sharing.folder import export_run, import_run
from mechgrok.sharing.foreign import import_model, read_settings, run_config
from mechgrok.sharing.hub import pull, push

__all__ = [
    "export_run",
    "import_model",
    "import_run",
    "pull",
    "push",
    "read_settings",
    "run_config",
]
