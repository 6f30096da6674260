"""Push and pull through a hub that is a folder; no network."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError
from mechgrok.sharing import export_run, pull, push


@dataclass
class Hub:
    """Stands in for huggingface_hub.HfApi: repositories are folders."""

    root: Path
    said: list[Any] = field(default_factory=list)

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if "/" not in repo_id:
            raise ValueError("Repo id must be in the form 'namespace/name'\nand more")
        self.said.append((repo_id, private, exist_ok))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        (self.root / repo_id / ".gitattributes").write_text("*.safetensors filter=lfs")
        self.said.append(commit_message)

    def snapshot_download(self, *, repo_id: str, revision: str | None) -> str:
        self.said.append(revision)
        if not (self.root / repo_id).exists():
            raise OSError(f"{repo_id} is not there")
        return str(self.root / repo_id)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


@pytest.fixture
def folder(tiny_run: Run, tmp_path: Path) -> Path:
    return export_run(tiny_run, tmp_path / "folder")


def test_a_pushed_run_is_pulled(folder: Path, hub: Hub, tmp_path: Path, tiny_run: Run) -> None:
    assert push(folder, "me/tiny", api=hub) == "https://hub/me/tiny"
    assert hub.said[0] == ("me/tiny", True, True), "private unless public is asked for"
    back = pull("me/tiny", tmp_path / "back", revision="abc", api=hub)
    assert hub.said[-1] == "abc"
    assert back.steps == tiny_run.steps
    push(folder, "me/other", public=True, api=hub)
    assert ("me/other", False, True) in hub.said


def test_nothing_is_sent_that_is_not_whole(folder: Path, hub: Hub, tiny_run: Run) -> None:
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged"):
        push(folder, "me/tiny", api=hub)
    with pytest.raises(RunError, match=r"has no SHA256SUMS.*mechgrok export"):
        push(tiny_run.path, "me/tiny", api=hub)
    assert hub.said == []


def test_what_a_hub_refuses_is_one_line(folder: Path, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot push .* to tiny: Repo id.*name'; expected owner/"):
        push(folder, "tiny", api=hub)
    with pytest.raises(RunError, match=r"cannot pull me/none: me/none is not there; expected"):
        pull("me/none", tmp_path / "back", api=hub)


def test_a_directory_in_use_is_refused_before_the_download(hub: Hub, tiny_run: Run) -> None:
    with pytest.raises(RunError, match="holds a run already"):
        pull("me/tiny", tiny_run.path, api=hub)
    assert hub.said == []


def test_the_real_api_takes_these_arguments() -> None:
    import inspect

    from huggingface_hub import HfApi

    for name in ("create_repo", "upload_folder", "snapshot_download"):
        ours = set(inspect.signature(getattr(Hub, name)).parameters)
        assert ours <= set(inspect.signature(getattr(HfApi, name)).parameters), name
