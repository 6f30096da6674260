"""How often the facts of a test query were seen inside the two-hop queries that are trained on."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from mechgrok.tasks._graph import NONE

CELLS: Final = ("ood_neither", "ood_first", "ood_second", "ood_both")
"""Out-of-distribution queries by which of their facts were trained on in that hop."""
PERCENTILES: Final = (0, 25, 50, 75, 90, 95, 99, 100)
"""Published percentiles of the uses of a fact."""


def uses(
    trained: Int[np.ndarray, "n 2"], facts: int
) -> tuple[Int[np.ndarray, " facts"], Int[np.ndarray, " facts"]]:
    """How many trained two-hop queries use each fact as their first, and as their second hop."""
    first, second = (np.bincount(hop, minlength=facts) for hop in trained.T)
    return first, second


def tags(
    queries: Int[np.ndarray, "rows 2"], trained: Int[np.ndarray, "n 2"], facts: int
) -> dict[str, Int[np.ndarray, " rows"]]:
    """Uses of each row's facts, in their own hop and in any; `exposure` is the place in CELLS.

    NONE where a row has no second hop.
    """
    first, second = uses(trained, facts)
    both = first + second
    two = queries[:, 1] != NONE
    found = {
        "first_uses": first[queries[:, 0]],
        "second_uses": np.where(two, second[queries[:, 1]], NONE),
        "first_uses_any": both[queries[:, 0]],
        "second_uses_any": np.where(two, both[queries[:, 1]], NONE),
    }
    cell = (found["first_uses"] > 0) + 2 * (found["second_uses"] > 0)
    return {**found, "exposure": np.where(two, cell, NONE)}


def report(
    tested: Int[np.ndarray, "items 2"], trained: Int[np.ndarray, "n 2"], facts: int
) -> dict[str, Any]:
    """Exposure of the facts of some two-hop queries, ready for JSON.

    Per hop the distinct facts, how many were trained on in that hop and in any, and percentiles of
    their uses in that hop; queries of each cell; and the trained queries that use one of the facts
    in their first, second or any hop (the released code counts the last as 0, 1 or 2).
    """
    counts = uses(trained, facts)
    distinct = [np.unique(hop) for hop in tested.T]
    anywhere = np.zeros(facts, dtype=bool)
    anywhere[np.concatenate(distinct)] = True
    found: dict[str, Any] = {"queries": len(tested), "trained_queries": len(trained)}
    for name, own, of in zip(("first_hop", "second_hop"), counts, distinct, strict=True):
        found[name] = _hop(own[of], (counts[0] + counts[1])[of])
    cell = tags(tested, trained, facts)["exposure"]
    found["cells"] = {name: int((cell == i).sum()) for i, name in enumerate(CELLS)}
    hits = anywhere[trained]
    found["trained_queries_with_one"] = {
        "first_hop": int(hits[:, 0].sum()),
        "second_hop": int(hits[:, 1].sum()),
        "any_hop": int(hits.any(axis=1).sum()),
    }
    return found


def _hop(own: Int[np.ndarray, " facts"], both: Int[np.ndarray, " facts"]) -> Mapping[str, Any]:
    percentiles = np.percentile(own, PERCENTILES).tolist()
    return {
        "facts": len(own),
        "exposed": int((own > 0).sum()),
        "exposed_in_any_hop": int((both > 0).sum()),
        "uses": int(own.sum()),
        "percentiles": dict(zip(map(str, PERCENTILES), percentiles, strict=True)),
    }
