"""The report: complete, offline, and honest about what does not apply."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from smoke_runs import smoke_run

from mechgrok import discovery, figures
from mechgrok.report import (
    EVERY,
    EXAMPLES,
    FIGURES,
    LAST,
    OF_RUN,
    all_measures,
    analyse,
    summary_table,
    write_report,
)
from mechgrok.runs.result import NotApplicable
from mechgrok.runs.run import Run
from mechgrok.runs.storage import RunError

BUNDLE = re.compile(r'<script data-bundle="\w+">.*?</script>', re.DOTALL)
OTHER_HOST = re.compile(r"""(?:src|href)\s*=\s*["']?\s*(?:\w+:)?//|@import|url\(|\bimport[ (]""")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A reported run of addition."""
    found = smoke_run(tmp_path_factory.mktemp("report") / "tiny")
    write_report(found, progress=False)
    return found


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    """Its report without the inlined bundles."""
    whole = (run.path / "report.html").read_text()
    assert len(BUNDLE.findall(whole)) == 2
    return BUNDLE.sub("", whole)


def drawn(run: Run) -> list[str]:
    """Names of the figures that apply."""
    return [n for n in FIGURES if discovery.load("plots", n)(run).layout.meta is None]


class _Balance(HTMLParser):
    """Checks that elements close in order."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_nothing_outside_the_bundles_names_another_host(page: str) -> None:
    assert OTHER_HOST.search(page) is None
    assert "http://" not in page
    assert "https://" not in page
    assert OTHER_HOST.search('<img src="//a.b/c">')  # the pattern finds what it should
    assert OTHER_HOST.search("<link href='https://a.b'>")


def test_bundles_load_no_module_and_no_style_by_themselves(run: Run) -> None:
    for bundle in BUNDLE.findall((run.path / "report.html").read_text()):
        assert "@import" not in bundle
        assert "sourceMappingURL" not in bundle
        assert bundle.count("</script") == 1


def test_the_page_is_well_formed(page: str) -> None:
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.seen.count("h1") == 1


def test_every_figure_and_measure_is_there(page: str, run: Run) -> None:
    assert page.count("Plotly.newPlot(") == len(drawn(run))
    for name in FIGURES:
        assert f'id="{name}"' in page
    heads = run.config.model.n_heads
    assert page.count("CircuitsVis.render(") == EXAMPLES * heads
    for name in all_measures():
        assert f'<th id="measure-{name}"><a href="#measure-{name}">{name}</a>' in page
        assert f'<td class="value headline">{escape(next(iter(run.result(name).values)))}' in page
    operator = run.result("gini").definition["operator"]
    assert operator in page
    assert "frac_train: 0.3" in page
    assert run.provenance["task_sha256"] in page


def test_every_link_leads_to_a_place_on_the_page(page: str) -> None:
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert {f"measure-{name}" for name in all_measures()} < links
    assert "dose_response" in links
    assert links <= set(re.findall(r'id="([^"]+)"', page))


def test_every_measure_opens_to_values_and_definition(page: str, run: Run) -> None:
    assert page.count("and definition</summary>") == len(all_measures())
    for name in ("spectra_2d", "component_ablation", "attention_spectra"):
        assert escape(run.result(name).definition["operator"]) in page
    absent = run.result("logit_cosines").headline
    assert isinstance(absent, NotApplicable)  # sixty steps give no key frequencies
    assert f"does not apply: {escape(absent.reason)}" in page


def test_the_slider_keeps_its_frames(page: str, run: Run) -> None:
    assert page.count('"frames":[') == 1
    assert f'"name":"{run.steps[-1]}"' in page


def test_plotly_cannot_send_the_figure_away(page: str, run: Run) -> None:
    assert page.count('"showSendToCloud":false') == len(drawn(run))
    assert page.count('"displaylogo":false') == len(drawn(run))


def test_what_does_not_apply_is_a_sentence(tmp_path: Path) -> None:
    run = smoke_run(tmp_path / "divide", **{"task.operation": "divide"})
    text = BUNDLE.sub("", write_report(run, progress=False).read_text())
    assert "Fourier spectra of the weights: does not apply: the table has 272 rows" in text
    assert "does not apply" in summary_table(run)
    assert text.count("Plotly.newPlot(") == len(drawn(run)) == 2  # curves over steps still apply


def test_analysis_is_kept_and_resumed(run: Run) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in (run.path / "analysis").iterdir()}
    found = analyse(run, progress=False)
    assert before == {p.name: p.stat().st_mtime_ns for p in (run.path / "analysis").iterdir()}
    assert {r.measure for r in found} == {*EVERY, *LAST, *OF_RUN}
    assert len([r for r in found if r.measure == "gini"]) == len(run.steps)


def test_one_step_can_be_analysed_alone(tmp_path: Path) -> None:
    run = smoke_run(tmp_path / "one")
    found = analyse(run, [30], progress=False)
    assert {r.step for r in found} == {30, None}
    assert run.result("spectra", step=30).step == 30


def test_a_run_without_checkpoints_is_refused(run: Run, tmp_path: Path) -> None:
    for name in ("config.yaml", "provenance.json"):
        shutil.copy(run.path / name, tmp_path / name)
    with pytest.raises(RunError, match="run: mechgrok train --preset smoke_p17"):
        write_report(Run(tmp_path), progress=False)


def test_the_table_says_what_to_try(run: Run) -> None:
    table = summary_table(run)
    assert "not by step 60" in table
    assert "--stop.max-steps 120" in table
    assert "--optim.weight-decay 3" in table
    assert "--task.frac-train 0.4" in table
    assert "ms per step" in table
    assert "failed: " in table
    assert str(run.path / "report.html") in table


def test_the_table_before_the_analysis(tmp_path: Path) -> None:
    run = smoke_run(tmp_path / "bare")
    table = summary_table(run)
    assert f"not yet; run: mechgrok report {run.path}" in table
    assert "not written" in table
    assert not (run.path / "analysis" / "gini.json").exists()


def test_progress_is_plain_lines_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mechgrok.report.LINE_EVERY", 0.0)
    analyse(smoke_run(tmp_path / "lines"))
    assert "measured 3 of 3 checkpoints" in capsys.readouterr().out


def test_all_measures_are_of_checkpoints_or_runs() -> None:
    assert sorted((*EVERY, *LAST, *OF_RUN)) == sorted(all_measures())  # the report shows every one
    assert "weight_change" not in all_measures()


needs_browser = pytest.mark.skipif(
    figures.browser() is None, reason="needs a browser: apt install chromium, or set BROWSER_PATH"
)


@dataclass(frozen=True)
class Seen:
    """What a browser without network made of a page."""

    dom: str
    console: list[str]
    requests: list[str]
    """Events of requests that the page made, not those of the browser itself."""


def open_offline(page: Path, profile: Path) -> Seen:
    """Open a page in a headless browser whose every request fails."""
    command = [
        str(figures.browser()),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--proxy-server=127.0.0.1:9",  # nobody listens there
        "--virtual-time-budget=20000",
        "--window-size=1200,3000",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={profile / 'profile'}",
        f"--log-net-log={profile / 'net.json'}",
        "--dump-dom",
        page.resolve().as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = (profile / "net.json").read_text().splitlines()
    # a file has the opaque origin "null"; the browser's own requests have none
    requests = [event for event in events if '"initiator":"null"' in event]
    return Seen(BUNDLE.sub("", done.stdout), console, requests)


@needs_browser
def test_a_browser_without_network_draws_everything(run: Run, tmp_path: Path) -> None:
    seen = open_offline(run.path / "report.html", tmp_path)
    assert seen.console == []
    assert seen.requests == []
    plots = re.findall(r'<div id="(\w+)" class="plot js-plotly-plot"', seen.dom)
    assert plots == drawn(run)
    assert seen.dom.count('class="main-svg"') >= len(plots)
    assert seen.dom.count('class="slider-group"') >= 1
    assert seen.dom.count("<canvas") == EXAMPLES * run.config.model.n_heads


@needs_browser
def test_the_browser_would_notice(run: Run, tmp_path: Path) -> None:
    html = (run.path / "report.html").read_text()
    planted = '<img src="https://example.com/a.png"><script>console.error("planted")</script><h1>'
    bad = tmp_path / "bad.html"
    bad.write_text(html.replace("<h1>", planted, 1))
    seen = open_offline(bad, tmp_path)
    assert any("planted" in line for line in seen.console)
    assert any("https://example.com/a.png" in event for event in seen.requests)
