"""The model card says what was measured and renders nobody else's markup."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemerge.io import CardRecord, ScoreRow, SourceRecord, write_card
from safemerge.io.card import card_text
from safemerge.score import Score


def record(**changes: object) -> CardRecord:
    values: dict[str, object] = {
        "title": "medic-safe",
        "base": "org/Base-8B@main",
        "sources": (
            SourceRecord(name="base", path="org/Base-8B@main", content="ab" * 32),
            SourceRecord(name="medic", path="./medic", content="cd" * 32),
            SourceRecord(name="guard", path="org/Guard", content="ef" * 32),
        ),
        "method": "resm",
        "recipe_json": '{"method": "resm", "weights": {"default": {"medic": 0.5}}}',
        "rows": (
            ScoreRow(name="search", scores={"domain": Score(0.95, 0.012, 300)}),
            ScoreRow(
                name="base",
                scores={"domain": Score(0.33, 0.027, 300), "honest": Score(0.5, 0.05, 100)},
            ),
        ),
    }
    return CardRecord(**(values | changes))


def front_matter(text: str) -> dict[str, object]:
    import yaml

    _, block, _ = text.split("---\n", 2)
    loaded: dict[str, object] = yaml.safe_load(block)
    return loaded


def test_front_matter_lists_hub_models_and_tags_and_no_licence(tmp_path: Path) -> None:
    path = write_card(tmp_path, record())
    assert path == tmp_path / "README.md"
    assert front_matter(path.read_text()) == {
        "library_name": "transformers",
        "base_model": ["org/Base-8B", "org/Guard"],
        "tags": ["merge", "safemerge"],
    }


def test_the_hub_library_accepts_the_front_matter() -> None:
    from huggingface_hub import ModelCardData

    data = ModelCardData(**front_matter(card_text(record())))
    assert data.base_model == ["org/Base-8B", "org/Guard"]


def test_base_model_is_left_out_when_every_source_is_a_folder() -> None:
    source = SourceRecord(name="base", path="/models/base", content="ab")
    assert "base_model" not in front_matter(
        card_text(record(base="/models/base", sources=[source]))
    )


def test_the_table_has_every_axis_with_error_and_count() -> None:
    lines = card_text(record()).splitlines()
    assert "| model | domain | honest |" in lines
    assert "| search | 95.0 % ± 1.2, n = 300 | not measured |" in lines
    assert "| base | 33.0 % ± 2.7, n = 300 | 50.0 % ± 5.0, n = 100 |" in lines
    assert f"| medic | ./medic | {'cd' * 32} |" in lines


def test_the_recipe_comes_back_from_its_fence() -> None:
    text = card_text(record())
    block = text.split("```json\n")[1].split("\n```")[0]
    assert json.loads(block) == json.loads(record().recipe_json)


def test_a_card_without_measurements_has_no_table_of_them() -> None:
    assert "Measured" not in card_text(record(rows=()))


def test_a_recipe_with_fences_cannot_close_its_own() -> None:
    text = card_text(record(recipe_json=json.dumps({"a": "````\n# owned"})))
    assert "`````json\n" in text
    assert "\n# owned" not in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("`x`", r"\`x\`"),
        ("a\n\n# b", r"a \# b"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("![i](javascript:x)", r"\!\[i\](javascript:x)"),
        ("https://x.org", r"https\://x.org"),
        ("task_arithmetic", r"task\_arithmetic"),
        ("a\u202eb\u2028c", "a b c"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_names_render_as_themselves(name: str, shown: str) -> None:
    text = card_text(record(rows=(ScoreRow(name=name, scores={"domain": Score(1, 0.25, 2)}),)))
    assert f"| {shown} | 100.0 % ± 25.0, n = 2 |" in text.splitlines()


@pytest.mark.parametrize(
    ("note", "shown"), [("- a", r"\- a"), ("1. a", r"1\. a"), ("# a", r"\# a"), ("===", r"\===")]
)
def test_notes_stay_paragraphs(note: str, shown: str) -> None:
    assert f"## Notes\n\n{shown}\n" in card_text(record(notes=(note,)))


@given(text=st.text())
def test_no_text_adds_lines_cells_or_html(text: str) -> None:
    plain = card_text(record(title="x", method="x", notes=("x",)))
    spoiled = card_text(record(title=text, method=text, notes=(text,)))
    assert len(spoiled.splitlines()) == len(plain.splitlines())
    assert spoiled.count("<") == plain.count("<")
    row = record(rows=(ScoreRow(name=text, scores={"domain": Score(1, 0.25, 2)}),))
    (line,) = [line for line in card_text(row).splitlines() if line.endswith("n = 2 |")]
    assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_records_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(FrozenInstanceError):
        record().title = "other"
    with pytest.raises(TypeError):
        record(licence="mit")
