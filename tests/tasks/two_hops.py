"""A small world for tests of `composition`, and its facts read off the text of the rows."""

from mechgrok.config import CompositionTask, Seeds
from mechgrok.tasks.composition import Task

SMALL = {
    "entities": 12, "relations": 8, "out_degree": 5, "ood_share": 0.2, "iid_share": 0.05,
    "phi": 2.5, "injected": 3,
}  # fmt: skip

Fact = tuple[str, str, str]


def make(seeds: Seeds | None = None, **fields: object) -> Task:
    return Task.make(CompositionTask(**(SMALL | fields)), seeds or Seeds())


def facts(task: Task, split: str) -> set[Fact]:
    """Facts of a split of atomic queries."""
    found = [line.split() for line in task.text(split)]
    assert all(end == ["</a>"] for *_, end in ([*f[:3], f[3:]] for f in found))
    return {(h, r, t) for h, r, t, _ in found}


def table(known: set[Fact]) -> dict[tuple[str, str], str]:
    """(head, relation) -> tail."""
    found = {(h, r): t for h, r, t in known}
    assert len(found) == len(known), "two tails"
    return found


def hops(line: str, tails: dict[tuple[str, str], str]) -> tuple[Fact, Fact]:
    """Both facts of a two-hop query, whose answer must follow from them."""
    h, r1, r2, t, end = line.split()
    b = tails[h, r1]
    assert (tails[b, r2], end) == (t, "</a>")
    return (h, r1, b), (b, r2, t)


def two_hop(task: Task, split: str) -> list[str]:
    """Lines of a split's two-hop queries."""
    return [line for line in task.text(split) if len(line.split()) == 5]
