"""Finished runs that come with the package, made by `experiments/make_examples.py`.

Each folder here is an exported run. It is opened where it lies and never written to.
"""

import hashlib
import os
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from mechgrok.runs import checksums
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

FOLDER: Final = Path(__file__).parent
ADVICE: Final = "install mechgrok again (pip install --force-reinstall)"


def names() -> list[str]:
    """The examples there are."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.yaml"))


def load_example(name: str) -> Run:
    """A finished run that comes with the package: every checkpoint checked by its sha256.

    `run.at("initial")`, `"memorised"` and `"final"` are there, `"generalised"` in those of modular
    addition, and some between. `two_hop_both_full` and `two_hop_natural`, one recursive model in
    two data regimes, are kept at the same steps, with averaged weights alone.
    Results, figures and pages go to `run.work`, a folder of the user's cache (XDG_CACHE_HOME, by
    default ~/.cache), or a temporary one where that cannot be written. `mechgrok import NAME
    --format example --run DIR` makes a run directory of it.

    Raises RunError for an unknown name, and for a file that is missing, damaged or edited.
    """
    if name not in names():
        near = get_close_matches(name, names(), n=3) or names()
        raise RunError(f"no example {name!r}; expected one of {near}")
    folder = FOLDER / name
    checksums.check_sums(folder, ADVICE)
    return Run(folder, _work(folder))


def _work(folder: Path) -> Path:
    """A folder for results of exactly these files."""
    digest = hashlib.sha256((folder / checksums.NAME).read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    work = cache / "mechgrok" / f"{folder.name}-{digest}"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"mechgrok-{folder.name}-"))
    return work
