"""Exported runs to a hub and back, through huggingface_hub, only when asked for.

Nothing else of the package touches the network.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mechgrok.runs.checksums import check_sums
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.sharing.folder import import_run
from mechgrok.sharing.origin import refuse_used

T = TypeVar("T")


def push(folder: str | Path, repo: str, *, public: bool = False, api: Any = None) -> str:
    """Upload an exported folder as a model repository (`owner/name`); returns its address.

    A new repository is private unless `public`. `api` is a `huggingface_hub.HfApi`, by default one
    with the login of this machine. Raises RunError for a folder that is not whole, and for what the
    hub refuses.
    """
    path = Path(folder)
    name = Run(path).name
    check_sums(path)
    hub = _hub() if api is None else api
    message = f"Run {name}, exported by mechgrok"

    def upload() -> str:
        address = hub.create_repo(repo, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=path, commit_message=message)
        return str(address)

    return _asked(upload, f"push {path} to {repo}")


def pull(repo: str, run: str | Path, *, revision: str | None = None, api: Any = None) -> Run:
    """Download an exported run and make a run directory of it; errors as `push` and `import_run`.

    `revision` is a branch, tag or commit; give a commit to get the same files always.
    """
    refuse_used(Path(run))
    hub = _hub() if api is None else api
    folder = _asked(lambda: hub.snapshot_download(repo_id=repo, revision=revision), f"pull {repo}")
    return import_run(folder, run)


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _asked(call: Callable[[], T], what: str) -> T:
    try:
        return call()
    except Exception as error:  # no network, no login, no such repository: a hub fails in many ways
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"cannot {what}: {reason[0]}; expected owner/name, a network, and `hf auth login` "
            f"for what is private or written"
        ) from error
