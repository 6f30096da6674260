"""`mechgrok push`."""

from pathlib import Path


def command(folder: Path, repo: str, /, public: bool = False) -> None:
    """Upload an exported run to a hub; needs the network and a login.

    Args:
        folder: What `mechgrok export` wrote.
        repo: owner/name.
        public: Make a new repository public; by default it is private.
    """
    from mechgrok.sharing import push

    print(push(folder, repo, public=public))
