"""What the fingerprint study found, as sentences made of its numbers."""

from collections.abc import Mapping
from typing import Any


def findings(found: Mapping[str, Any]) -> list[str]:
    """The first paragraphs of the report."""
    return [f"{len(found['runs'])} runs"]
