"""Where and with what a run was made; written beside its config."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mechgrok.config import RunConfig
from mechgrok.runs import layout

PACKAGES = ("mechgrok", "torch", "transformer-lens", "numpy", "scipy", "einops", "safetensors")


def provenance(config: RunConfig, more: dict[str, Any]) -> dict[str, Any]:
    """Layout version, package versions, commit, machine, threads, device, and facts of the task."""
    return {
        "format": layout.FORMAT,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "device": config.device,
        "config_digest": config.digest(),
        **more,
    }


def versions() -> dict[str, str]:
    """Installed versions of what decides a run's numbers."""
    return {name: _version(name) for name in PACKAGES}


def machine() -> str:
    """System, architecture and processor, without names or paths."""
    return f"{platform.system()} {platform.machine()}, {_processor()}"


def commit() -> str | None:
    """Commit of the checkout this package runs from, with `+` when it has changes; else None."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
