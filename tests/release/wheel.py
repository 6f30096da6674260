"""What a stranger installs: `python tests/release/wheel.py` builds it, installs it and uses it.

The sdist is made of the checkout and the wheel of the sdist. The wheel goes into an empty virtual
environment outside the checkout, which borrows the packages of the running one, but not mechgrok.
"""

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
USE = """
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch

import mechgrok as mg
from mechgrok import examples
from mechgrok.cli import main

assert Path(mg.__file__).is_relative_to(sys.prefix), mg.__file__
assert {"quick", "two_hop_both_full", "two_hop_natural"} < set(examples.names())
for name in examples.names():
    run = mg.load_example(name)
    early, late, tokens = run.at("initial"), run.at("final"), run.task.tokens
    hook = "cycle.1.hook_z_H" if name.startswith("two_hop") else "blocks.0.hook_resid_post"
    clean, cache = late.model.run_with_cache(tokens, names_filter=hook)
    put = [(hook, lambda x, hook: cache[hook.name])]
    patched = early.model.run_with_hooks(tokens, fwd_hooks=put)
    expected = early.model.unembed(cache[hook])
    assert torch.allclose(patched, expected, atol=1e-4), (patched - expected).abs().max()
    assert not torch.allclose(patched, early.model(tokens), atol=1e-1)
    print(name, len(run), "checkpoints; last test", mg.evaluate(late.model, run.task)["correct"])
for command in (
    "train --preset smoke_p17 --set stop.max_steps=10 --run smoke",
    "measure smoke --names losses --step 0",
    "export smoke --out folder --steps 0",
):
    with redirect_stdout(io.StringIO()):
        assert main(command.split()) == 0, command
"""
COMMANDS = ("presets", "doctor", "import quick --format example --run mine")
"""Of the console script; further ones stand in USE, where they start no process."""


def say(*words: str | Path, cwd: Path) -> str:
    """Run a program without any path into the checkout; fails with its output."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))[:200]}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, made of the sdist that was made of the checkout."""
    tools = folder / "tools"
    say(sys.executable, "-m", "venv", tools, cwd=folder)
    say(tools / "bin/pip", "install", "--quiet", "hatchling>=1.27", cwd=folder)
    hatch = (tools / "bin/python", "-m", "hatchling", "build", "-d", folder / "dist")
    say(*hatch, "-t", "sdist", cwd=ROOT)
    [sdist] = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    say(*hatch, "-t", "wheel", cwd=folder / sdist.name.removesuffix(".tar.gz"))
    [wheel] = (folder / "dist").glob("*.whl")
    return wheel


def check_files(wheel: Path) -> None:
    """Nothing but the package, all of it, and its examples' checkpoints."""
    held = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mechgrok"}, tops
    files = say("git", "ls-files", "mechgrok", cwd=ROOT).split() if (ROOT / ".git").exists() else []
    assert set(files) <= held, sorted(set(files) - held)
    assert sum(name.endswith(".safetensors") for name in held) >= 8
    assert any(name.endswith("licenses/LICENSE") for name in held), "no license"


def main() -> None:
    """Build, install, use."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = build(folder)
        check_files(wheel)
        home = folder / "empty"
        say(sys.executable, "-m", "venv", home, cwd=folder)
        python = home / "bin" / "python"
        site = say(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                   cwd=folder).strip()  # fmt: skip
        Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = (home / "bin" / "pip",)
        say(
            *pip, "uninstall", "--quiet", "--yes", "setuptools", cwd=folder
        )  # the borrowed is newer
        say(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
        print(say(*pip, "check", cwd=folder).strip())
        print(say(python, "-c", USE, cwd=folder).strip())
        for command in COMMANDS:
            say(home / "bin" / "mechgrok", *command.split(), cwd=folder)
        size = wheel.stat().st_size / 1e6
        print(f"{wheel.name}, {size:.1f} MB: built, installed and used in "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
