"""Fixtures shared by the tests of synth."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_llama import make_model, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture
def model(tokenizer: Any) -> Any:
    return make_model(vocab=len(tokenizer))
