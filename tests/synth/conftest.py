"""Fixtures shared by the tests of synth."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from tiny_llama import make_model, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture
def model(tokenizer: Any) -> Any:
    return make_model(vocab=len(tokenizer))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs vLLM where it cannot be imported."""
    if find_spec("vllm") is None:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason="needs vLLM; run `make test-vllm`"))
