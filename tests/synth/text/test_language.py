"""Which texts are surely not English."""

from __future__ import annotations

import pytest

from synth.text.language import is_foreign, known_languages, language_shares


@pytest.mark.parametrize(
    "text",
    [
        "Das ist ein ganz gewöhnlicher deutscher Satz.",
        "La capitale de l'Australie est Canberra.",
        "Esta es una respuesta en otro idioma.",
        "你好，这是一个答案。",
        "कृपया दरवाज़ा खोलें",
        "Это ответ.",
    ],
)
def test_other_languages(text: str) -> None:
    assert is_foreign(text)


@pytest.mark.parametrize(
    "text",
    [
        "The capital of Australia is Canberra.",
        "Aung San Suu Kyi was born on July 19, 1945.",
        "beta blocker",
        "Atenolol is; ramipril isn't.",
        "I'm sorry, but I can't help with that.",
        "Use `kill -9 $(pgrep -f script.py)`.",
        "42",
        "",
        "Müller",
    ],
)
def test_english_and_what_is_too_short_to_tell(text: str) -> None:
    assert not is_foreign(text)


def test_shares_are_a_distribution_over_the_known_languages() -> None:
    shares = language_shares("The weather is nice today.")
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == set(known_languages())
    assert next(iter(shares)) == "en"
