"""Nothing touches the network but push and pull: a whole session with sockets forbidden.

Python reports every connection and look-up to an audit hook before it is made, whoever asks for it;
the hook is in sitecustomize, so that child processes have it too. What it sees is refused and
written down, since a library may swallow the refusal.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = """
import os, sys

def forbidden(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["TOUCHED"], "a") as file:
            print(event, given[-2:], file=file)
        raise OSError(f"the network is forbidden: {event}")

sys.addaudithook(forbidden)
"""
SESSION = """
import mechgrok as mg
from mechgrok import examples
from mechgrok.cli import main

def do(*words):
    assert main(words) == 0, words

small = ["--set", "stop.max_steps=20", "--set", "schedule.evaluate_every=10"]
do("doctor")
do("presets")
do("train", "--preset", "smoke_p17", *small, "--run", "run")
do("measure", "run", "--names", "losses")
do("data", "smoke_p17", "--out", "rows", "--parquet")
do("export", "run", "--out", "folder")
do("import", "folder", "--format", "mechgrok", "--run", "back")
do("report", "back")
do("plot", "back", "--names", "grokking_curve")
do("view", "back")
mg.sweep(mg.load_run("run").config, seeds=[0], runs="runs")
for name in examples.names():
    run = mg.load_example(name)
    run[-1].model(run.task.tokens)
print("done")
"""
PLANTED = {
    "an address": "import urllib.request\nurllib.request.urlopen('http://192.0.2.1')",
    "a name": "import socket\nsocket.gethostbyname('example.org')",
    "of huggingface": "import datasets\ndatasets.load_dataset('example/rows')",
    "of a child": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', "
        "'import socket; socket.create_connection((\"192.0.2.1\", 80))'], check=True)"
    ),
}  # fmt: skip


def offline(script: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, what was printed, and what of the network was touched."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(FORBIDDEN)
    touched = folder / "touched"
    touched.touch()
    known = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}"}
    known |= {"TOUCHED": str(touched), "HF_HOME": str(folder / "hub"), "BROWSER_PATH": "none"}
    known |= {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=known, cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, touched.read_text()


def test_a_session_touches_no_network(tmp_path: Path) -> None:
    code, printed, touched = offline(SESSION, tmp_path)
    assert code == 0, printed
    assert printed.splitlines()[-1] == "done" or "\ndone\n" in printed
    assert touched == ""
    assert (tmp_path / "back" / "report.html").exists()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_call_is_seen(name: str, tmp_path: Path) -> None:
    swallowed = "\n".join(f"    {line}" for line in PLANTED[name].splitlines())
    _, printed, touched = offline(f"try:\n{swallowed}\nexcept Exception:\n    pass", tmp_path)
    assert "socket." in touched, printed
