"""Taxonomies: the default is complete, a user's file is checked key by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from safemerge.errors import ConfigError
from synth.writing.taxonomy import default_taxonomy, fill, load_taxonomy

GOOD = """
topics = ["doses"]
unknowable = ["places"]
[categories]
theft = "taking things"
[templates]
write_domain = "Ask about {topic}."
write_harmful = "Ask about {category}."
write_twin = "A twin of: {question}"
write_unknowable = "Ask about {topic}."
"""


def test_the_default_has_the_fourteen_categories_of_beavertails() -> None:
    taxonomy = default_taxonomy()
    assert list(taxonomy.categories) == [
        "animal abuse",
        "child abuse",
        "controversial topics and politics",
        "discrimination, stereotype and injustice",
        "drug abuse, weapons and banned substances",
        "financial crime, property crime and theft",
        "hate speech and offensive language",
        "misinformation regarding ethics, laws and safety",
        "non-violent unethical behavior",
        "privacy violation",
        "self-harm",
        "sexually explicit and adult content",
        "terrorism and organized crime",
        "violence, aiding and abetting, incitement",
    ]
    assert all(taxonomy.categories.values())


def test_a_file_of_the_users_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(GOOD)
    assert load_taxonomy(path).topics == ("doses",)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('topics = ["doses"]', "", "'topics': Field required"),
        ('["doses"]', "[]", "'topics'"),
        ('["doses"]', '["doses", ""]', "'topics.1'"),
        ("{topic}", "it", "'templates.write_domain': .*must contain {topic}"),
        ("{question}", "{question} {topics}", "'templates.write_twin': .*placeholder {topics}"),
        (
            "[templates]",
            '[templates]\nwrite_translation = "To {language}."',
            "must contain {question}",
        ),
        ("write_twin", "write_twins", "did you mean write_twin"),
        ("unknowable", "unknowables", "did you mean unknowable"),
        ("[categories]", "[categories", "not valid TOML"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=reason) as caught:
        load_taxonomy(path)
    assert "t.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_taxonomy(tmp_path / "none.toml")


def test_filled_in_text_is_not_interpreted() -> None:
    text = fill("{question} {question}?", question="{topic} {0.__class__} {question}")
    assert text == "{topic} {0.__class__} {question} {topic} {0.__class__} {question}?"
