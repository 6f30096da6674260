"""Figures by name, of a run, a set of runs or a series."""

from typing import TYPE_CHECKING, Any

from mechgrok import discovery

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def plot(subject: Any, name: str, **options: Any) -> "Figure":
    """The figure `mechgrok/plots/<name>.py` (or a dotted path) of saved results.

    Raises ConfigError for an unknown figure, and RunError, with the command that makes it, for a
    result that was not saved.
    """
    return discovery.load("plots", name)(subject, **options)
