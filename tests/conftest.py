"""Shapes and types of the whole package are checked in every test; warnings are errors."""

import jaxtyping

jaxtyping.install_import_hook(
    "mechgrok", "typecheck.check"
)  # before anything of mechgrok is imported

import pytest  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402

from mechgrok.runs.run import Run  # noqa: E402

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "slow: minutes rather than seconds; run with --slow or -m slow"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or config.getoption("-m"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow tier; un-skip with --slow"))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of addition mod 7; tests only read it, or work on a copy."""
    return tiny.train(tiny.config(), tmp_path_factory.mktemp("runs") / "tiny")
