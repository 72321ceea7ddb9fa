"""What is printed is text: no markup, no control characters, whatever a name or a model says."""

import pytest

from safemerge.score import Score
from search.cli.score_tables import likelihood_table, rate_table
from search.cli.tables import agreement_tables, say
from synth.judges import Verdict
from synth.judges.agreement import compare

HOSTILE = "[red]x[/red][link=http://a.b]y\x1b[2J\x07"
SHOWN = r"[red]x[/red][link=http://a.b]y\x1b[2J\x07"


def test_markup_and_control_characters_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(HOSTILE)
    rate_table({HOSTILE: {"domain": Score(0.5, 0.2, 4)}}, "title")
    agreement_tables([compare([Verdict.REFUSE], [Verdict.REFUSE], judge=HOSTILE)], [])
    out, err = capsys.readouterr()
    assert "".join(err.split()).count(SHOWN) == 1
    assert "".join(out.split()).count(SHOWN) == 5  # wide tables have two parts
    assert not {"\x1b", "\x07"} & set(out + err)


ROW = {
    "domain": Score(0.8325, 0.05, 20),
    "over_refusal": Score(0.25, 0.1, 20),
    "degenerate": Score(0.0, 0.1, 16),
}


def test_likelihoods_are_numbers_and_rates_of_replies_are_percent_with_n(
    capsys: pytest.CaptureFixture[str],
) -> None:
    likelihood_table({"trial 3": ROW}, "by likelihood")
    shown = capsys.readouterr().out
    assert "0.833 ± 0.050" in shown
    assert "begins" in shown  # over_refusal is no rate of replies there
    assert "over" not in shown
    assert shown.count("%") == 1  # sentinels do reply
    assert "degenerate, %" in shown
    assert "0.0 ± 10.0, n = 16" in shown
    rate_table({"trial 3": ROW, "other": {"domain": Score(0.5, 0.2, 20)}}, "by replies")
    shown = capsys.readouterr().out
    assert "83.2 ± 5.0" in shown
    assert "domain, %" in shown
    assert "n = 20" in shown
    assert "over" in shown
    assert "0.833" not in shown


def test_a_score_of_one_probe_shows_no_error_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = {"domain": Score(1.0, 0.0, 1), "honest": Score(0.5, 0.1, 8)}
    likelihood_table({"a": one}, "by likelihood")
    rate_table({"a": one, "b": {"domain": Score(1.0, 0.1, 6)}}, "by replies")
    shown = capsys.readouterr().out
    assert "1.000, one probe" in shown
    assert "100.0, one probe" in shown
    assert "100.0 ± 10.0, n = 6" in shown


def test_tables_fit_80_columns_and_lose_no_cell(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = ("domain", "harmless", "helpful", "honest", "over_refusal", "degenerate")
    row = {metric: Score(0.1 * (i + 1), 0.031, 250 + i) for i, metric in enumerate(metrics)}
    names = ("base", "search without safety", "random search (outside its limits)")
    rate_table(dict.fromkeys(names, row), "title " * 30)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for i, score in enumerate(row.values()):
        assert text.count(f"{10.0 * (i + 1):.1f} ± 3.1") == len(names), score
        assert f"n = {score.n}" in text
    assert text.count("base") == 2  # every part of a table has the names
