"""The report in a real browser: hostile text is text, figures draw, nothing leaves the page."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path

import pytest
from chromium import BINARY, chromium

from search.results.report import write_report
from search.results.run import Run
from synth.probes.probe import ProbeSet

HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    '<img src="http://evil.example/a.png" onerror="window.hit=1">',
    '"><svg onload=window.hit=1>',
    "[go](javascript:window.hit=1) ![x](http://evil.example/b.png)",
    "<style>@import 'http://evil.example/c.css'</style>",
    "<!--<script>",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt;",
    "\u202egnp.exe \x1b[2J\x07 a\u2028b",
)
SOURCE = "sa<img src=x onerror=window.hit=1>fe"

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="no Chromium: `apt-get install chromium`"),
    pytest.mark.xdist_group("measured"),
]


@pytest.fixture(scope="module")
def report(measured_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run whose probes, categories, answers and one source's name attack the page."""
    home = shutil.copytree(measured_run, tmp_path_factory.mktemp("hostile") / "<b>run")
    texts, ids, written = itertools.cycle(HOSTILE), {}, []
    old = Run.load(home).config.probes.path
    for probe in ProbeSet.from_jsonl(old):
        prompt = f"{probe.prompt} {next(texts)}"
        new = probe.model_copy(update={"prompt": prompt, "category": f"a {HOSTILE[2]}"})
        ids[probe.id] = new.id
        written.append(new)
    ProbeSet(tuple(written)).to_jsonl(home / "probes.jsonl")
    for file in [*home.rglob("*.json"), *home.rglob("*.toml")]:
        text = file.read_text(encoding="utf-8").replace('"safe"', json.dumps(SOURCE))
        file.write_text(text.replace(old, str(home / "probes.jsonl")), encoding="utf-8")
    for file in (home / "heldout").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for i, row in enumerate(rows):
            row["id"], row["reply"] = ids[row["id"]], next(texts)
            row["correct"] = (i % 2 == 0) == file.name.startswith("trial")
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return write_report(Run.load(home), home / "report.html")


def test_a_hostile_report_runs_nothing_draws_everything_and_asks_nobody(report: Path) -> None:
    with chromium() as page:
        page.open(report, "document.documentElement?.dataset.drawn === 'yes'")
        assert page.js("document.querySelectorAll('.plot').length") >= 10
        drawn = "[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
        assert page.js(drawn)
        # Shown as it was written, control characters spelled out.
        shown = page.js("document.getElementById('answer-list').textContent")
        for text in HOSTILE[:-1]:
            assert text in shown
        assert r"\u202egnp.exe \x1b[2J\x07 a\u2028b" in shown
        assert SOURCE in page.js("document.body.textContent")
        folded = "[...document.querySelectorAll('.flip details')].filter(d => d.open).length"
        assert page.js(folded) == 0
        page.js("document.querySelectorAll('details').forEach(d => { d.open = true })")

        # Hover over the star of the first figure: its numbers are said.
        place = page.js(
            "(() => { const p = document.querySelector('.plot'), l = p._fullLayout;"
            "p.scrollIntoView({block: 'center'}); const t = p.data.at(-1);"
            "const r = p.getBoundingClientRect(), s = l._size;"
            "return [r.x + s.l + l.xaxis.c2p(t.x[0] ?? p.calcdata.at(-1)[0].x),"
            " r.y + s.t + l.yaxis.c2p(t.y[0] ?? p.calcdata.at(-1)[0].y)] })()"
        )
        said = ""
        for step in range(200):
            page.mouse(place[0] + step % 2, place[1], "mouseMoved")
            said = page.js("document.querySelector('.plot .hoverlayer').textContent")
            if said:
                break
            time.sleep(0.1)
        assert "domain" in said

        # The filter leaves the rows that hold the word.
        page.js("document.querySelector('[data-filter=answer-list]').focus()")
        page("Input.insertText", text="honest")
        rows = "[...document.querySelectorAll('#answer-list [data-row]')]"
        kept = page.js(f"{rows}.filter(r => !r.hidden).map(r => r.textContent.toLowerCase())")
        assert kept
        assert all("honest" in text for text in kept)
        assert len(kept) < page.js(f"{rows}.length")

        # The theme's button, pressed with the keyboard, changes page and figures.
        ground = "getComputedStyle(document.body).backgroundColor"
        ink = "document.querySelector('.plot')._fullLayout.font.color"
        before = page.js(f"[{ground}, {ink}]")
        page.js("document.getElementById('theme').focus()")
        for kind in ("keyDown", "keyUp"):
            page(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                windowsVirtualKeyCode=13,
                text="\r",
            )
        after = page.js(f"[{ground}, {ink}]")
        assert before[0] != after[0]
        assert before[1] != after[1]

        assert page.js("window.hit") is None
        urls = [event["request"]["url"] for event in page.told("Network.requestWillBeSent")]
        assert {url for url in urls if not url.startswith("data:")} == {report.as_uri()}
        assert page.told("Runtime.exceptionThrown") == []
        errors = [e["entry"]["text"] for e in page.told("Log.entryAdded")]
        assert errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(report: Path, width: int) -> None:
    with chromium() as page:
        page(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        page.open(report, "document.documentElement?.dataset.drawn === 'yes'")
        assert page.js("document.documentElement.scrollWidth") <= width
