"""The command line: `mechgrok COMMAND`, one file per command with its function `command`.

Adding a command is adding a file. The first line of the function's docstring is its line of the
help, its signature its flags (tyro's); one that takes `*arguments: str` reads them itself. Heavy
packages are imported inside the functions, so that `--help` is instant. Experiments use
`read_train` and `explain_errors`.
"""

from mechgrok.cli._main import explain_errors, main
from mechgrok.cli._settings import Train, read_train

__all__ = ["Train", "explain_errors", "main", "read_train"]
