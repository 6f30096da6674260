"""`mechgrok pull`."""

from pathlib import Path


def command(repo: str, /, run: Path, revision: str | None = None) -> None:
    """Download an exported run from a hub; needs the network.

    Args:
        repo: owner/name.
        run: The new run directory.
        revision: A branch, tag or commit; by default the newest.
    """
    from mechgrok.sharing import pull
    from mechgrok.sharing.origin import describe

    print(describe(pull(repo, run, revision=revision)))
