"""What is printed is text: no markup, no control characters, whatever a name or a model says."""

import pytest

from safemerge.score import Score
from search.cli.tables import agreement_tables, progress_bar, say, score_table
from synth.judges import Verdict
from synth.judges.agreement import compare

HOSTILE = "[red]x[/red][link=http://a.b]y\x1b[2J\x07"
SHOWN = r"[red]x[/red][link=http://a.b]y\x1b[2J\x07"


def test_markup_and_control_characters_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(HOSTILE)
    score_table({HOSTILE: {"domain": Score(0.5, 0.1, 4)}}, "title")
    agreement_tables([compare([Verdict.REFUSE], [Verdict.REFUSE], judge=HOSTILE)], [])
    with progress_bar() as report:
        report(HOSTILE, 0, 1, HOSTILE)
    out, err = capsys.readouterr()
    assert "".join(err.split()).count(SHOWN) == 2
    assert "".join(out.split()).count(SHOWN) == 3
    assert not {"\x1b", "\x07"} & set(out + err)
