"""What the perturbation study found, as sentences made of its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any


def findings(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first paragraphs of the report."""
    return [f"{len(group['runs'])} runs of {group['group']}" for group in groups]
