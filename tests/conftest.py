"""Fixtures that several folders share. Nothing here touches the user's own cache or runs."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from synth.zoo import Zoo, ZooSpec, build_zoo

# The same examples on every run: a change is judged by what it changed. HYPOTHESIS_PROFILE=search
# draws new ones; what it finds is written down as an @example. No deadline, and slow examples are
# no failure: machines are shared.
slow = [HealthCheck.too_slow]
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("search", deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

GOLDENS = Path(__file__).parent / "data" / "goldens"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Factor files go to a temporary folder."""
    before = os.environ.get("SAFEMERGE_CACHE")
    os.environ["SAFEMERGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["SAFEMERGE_CACHE"]
    else:
        os.environ["SAFEMERGE_CACHE"] = before


@pytest.fixture(autouse=True, scope="session")
def _heed_ctrl_c() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Tiny float32 Llama checkpoints and what the reference implementation merged from them."""
    return GOLDENS / "fp32"


@pytest.fixture(scope="session")
def raw_zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The small world, hardly trained: every part works, nothing is learned."""
    return shared_zoo(tmp_path_factory, width=32, effort=0.02)


def shared_zoo(factory: pytest.TempPathFactory, *, width: int, effort: float) -> Zoo:
    """A zoo built once for all test processes of this run."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "shared-zoo"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_zoo(folder, ZooSpec(width=width, effort=effort), processes=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs vLLM where it cannot be imported."""
    if find_spec("vllm") is None:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(
                    pytest.mark.skip(reason="needs vLLM; run `make test-vllm`, as .ci/run does")
                )
