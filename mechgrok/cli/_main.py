"""Finds the command that is asked for, and turns its errors into one line and an exit code."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence

from mechgrok import discovery
from mechgrok.config import ConfigError

CLOSED_PIPE = 141
"""Exit code where the reader of the output has gone (`mechgrok ... | head`), as a shell gives."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of the command line; returns the exit code."""
    return explain_errors(_dispatch)(sys.argv[1:] if arguments is None else arguments)


def explain_errors(command: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], int]:
    """A command's exit code: an error that explains itself is one line on stderr, and 1."""

    def run(arguments: Sequence[str]) -> int:
        try:
            command(arguments)
            sys.stdout.flush()  # a reader that has gone is noticed here, not while Python ends
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED_PIPE
        except Exception as error:
            if not _is_ours(error):
                raise
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return run


def _dispatch(given: Sequence[str]) -> None:
    known = discovery.names("cli")
    if not given or given[0] in ("-h", "--help"):
        return _help(known)
    name, rest = given[0], given[1:]
    if name not in known:
        raise ConfigError(f"unknown command {name!r}; expected one of {known}")
    command = discovery.load("cli", name)
    if _reads_its_arguments(command):
        return command(*rest)
    import tyro

    tyro.cli(command, args=rest, prog=f"mechgrok {name}")


def _help(known: Sequence[str]) -> None:
    print("usage: mechgrok COMMAND [...]; `mechgrok COMMAND --help` says more\n")
    for name in known:
        line = (discovery.load("cli", name).__doc__ or "").splitlines()[0]
        print(f"  {name:<9} {line}")


def _reads_its_arguments(command: Callable[..., None]) -> bool:
    parameters = inspect.signature(command).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


def _is_ours(error: Exception) -> bool:
    """Errors that explain themselves; anything else is a bug and keeps its traceback."""
    own = ("ConfigError", "RunError", "TrainingDiverged", "HookError", "PublishedError")
    return type(error).__name__ in own and type(error).__module__.startswith("mechgrok.")
