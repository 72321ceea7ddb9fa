"""Work in threads within a budget, freed memory that stays, and merges that end cleanly."""

import json
import platform
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from safemerge import ModelRef, Recipe, merge
from safemerge.errors import CheckpointError, OutputError, RecipeError
from safemerge.merging import plan
from safemerge.streaming import kept_heap, spread, work_through


def recipe(goldens: Path, method: str = "task_arithmetic", **changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "base": ModelRef(name="base", path=str(goldens / "models/base")),
        "sources": [ModelRef(name=n, path=str(goldens / "models" / n)) for n in "abc"],
        "method": method,
        "weights": {"default": {"a": 0.5, "b": 0.3, "c": 0.4}},
    }
    return Recipe.model_validate(fields | changes)


@given(costs=st.lists(st.integers(1, 12), max_size=12), budget=st.integers(1, 20))
@settings(max_examples=30)
def test_every_item_is_worked_on_once_and_within_the_budget(costs: list[int], budget: int) -> None:
    lock = threading.Lock()
    held: list[int] = []
    begun: list[int] = []
    done: list[int] = []

    def work(index: int) -> None:
        with lock:
            held.append(costs[index])
            begun.append(index)
            assert len(held) == 1 or sum(held) <= budget
        time.sleep(0.0005)
        with lock:
            held.remove(costs[index])

    work_through(range(len(costs)), work, cost=costs.__getitem__, budget=budget, done=done.append)
    assert sorted(begun) == sorted(done) == list(range(len(costs)))


def test_two_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=10)  # breaks unless two threads meet in it
    work_through(range(2), lambda _: both.wait() and None, cost=lambda _: 1, budget=2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_the_work_with_no_thread_left(error: type[BaseException]) -> None:
    before = threading.active_count()
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise error

    with pytest.raises(error):
        work_through(range(100), work, cost=lambda _: 1, budget=100)
    assert threading.active_count() == before
    assert len(begun) < 100


def test_torch_keeps_its_number_of_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    inside: list[int] = []
    try:
        work_through([0], lambda _: inside.append(torch.get_num_threads()), cost=int, budget=1)
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
    assert inside == [2]  # four tensors at once, eight threads


@pytest.mark.parametrize(("threads", "items", "each"), [(3, 3, 1), (8, 4, 2)])
def test_spread_shares_out_the_threads_that_torch_may_use(
    threads: int, items: int, each: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    together = threading.Barrier(items, timeout=10)  # breaks unless so many threads meet in it
    inside: list[int] = []
    try:
        spread(range(items), lambda _: inside.append(together.wait() * 0 + torch.get_num_threads()))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert inside == [each] * items


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_what_is_spread_with_no_thread_left(error: type[BaseException]) -> None:
    before, allowed = threading.active_count(), torch.get_num_threads()
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise error
        time.sleep(0.001)

    with pytest.raises(error):
        spread(range(100), work)
    assert threading.active_count() == before
    assert torch.get_num_threads() == allowed
    assert len(begun) < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_serves_the_next_tensor() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(16):
            torch.ones(2**22), torch.ones(2**22)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with kept_heap():
        faults()
        inside = faults()
    pages = 2**24 // resource.getpagesize()
    assert inside < 2 * pages  # of 32 tensors of so many pages each


@pytest.mark.parametrize(
    "method", ["task_arithmetic", "dare_linear", "dare_ties", "della", "ties", "sce"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pieces_and_whole_tensors_merge_to_the_same_bytes(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, method: str
) -> None:
    one = recipe(goldens, method, dtype=dtype)
    merge(one, tmp_path / "whole")
    monkeypatch.setattr("safemerge.merge_tensor.PIECE_ENTRIES", 100)
    merge(one, tmp_path / "held pieces")
    monkeypatch.setattr("safemerge.merging.HELD_BYTES", 0)
    merge(one, tmp_path / "pieces read twice")
    files = [out / "model.safetensors" for out in sorted(tmp_path.iterdir())]
    assert len(files) == 3
    assert len({file.read_bytes() for file in files}) == 1


def test_progress_counts_every_tensor_once(goldens: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    merge(recipe(goldens), tmp_path / "out", progress=lambda *step: seen.append(step))
    written = load_file(tmp_path / "out/model.safetensors")
    assert {name for name, _, _ in seen} == written.keys()
    assert [(done, total) for _, done, total in seen] == [
        (i + 1, len(written)) for i in range(len(written))
    ]


def test_ctrl_c_in_the_middle_leaves_nothing(goldens: Path, tmp_path: Path) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        merge(recipe(goldens), tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_middle_leaves_nothing(goldens: Path, tmp_path: Path) -> None:
    models = tmp_path / "goldens" / "models"
    shutil.copytree(goldens / "models", models)
    tensors = load_file(models / "c" / "model.safetensors")
    tensors[sorted(tensors)[-1]][...] = torch.nan  # found when its turn comes
    save_file(tensors, models / "c" / "model.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        merge(recipe(models.parent), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["goldens"]


def test_a_plan_says_what_the_merge_then_does(goldens: Path, tmp_path: Path) -> None:
    planned = plan(recipe(goldens), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    merge(recipe(goldens), tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    assert planned.tensors == len(written)
    assert planned.written_bytes == sum(tensor.nbytes for tensor in written.values())
    assert planned.read_bytes == 4 * planned.written_bytes  # base and three sources
    assert planned.largest in {"model.embed_tokens.weight", "lm_head.weight"}
    assert planned.free_bytes > 0


def test_a_method_with_a_pass_for_densities_reads_its_matrices_twice(goldens: Path) -> None:
    once, twice = (plan(recipe(goldens, m), Path("out")) for m in ("task_arithmetic", "resm"))
    tensors = load_file(goldens / "models/base/model.safetensors")
    matrices = [t for name, t in tensors.items() if "layers" in name and t.dim() == 2]
    assert twice.read_bytes - once.read_bytes == 4 * sum(t.nbytes for t in matrices)


def test_a_plan_refuses_what_the_merge_would_refuse(goldens: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="is not empty"):
        plan(recipe(goldens), tmp_path)
    with pytest.raises(RecipeError, match="place group 'layer'"):
        plan(recipe(goldens, weights={"layer": {"a": 1.0}}), tmp_path / "out")


# VmHWM and not ru_maxrss, which begins with what the parent held when it forked.
MEASURED = """
import json, re, sys
from pathlib import Path
from safemerge.merging import merge, plan
from safemerge.recipe import Recipe
one = Recipe.load(Path(sys.argv[1]) / "recipe.json")
planned = plan(one, sys.argv[2]).peak_bytes
merge(one, sys.argv[2])
status = Path("/proc/self/status").read_text()
print(json.dumps([int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024, planned]))
"""


def peak_of_merge(folder: Path, tensors: int, method: str) -> tuple[int, int]:
    """Measured and planned peak of a merge of three sources, in a process of its own."""
    random = torch.Generator().manual_seed(0)
    for model in ("base", "a", "b", "c"):
        (folder / model).mkdir(parents=True)
        (folder / model / "config.json").write_text("{}")
        weights = {
            f"model.layers.{i}.mlp.up_proj.weight": torch.randn(1024, 1024, generator=random)
            for i in range(tensors)
        }
        save_file(weights, folder / model / "model.safetensors")
    refs = [ModelRef(name=name, path=str(folder / name)) for name in ("base", "a", "b", "c")]
    weights_of = {"default": {"a": 0.5, "b": 0.3, "c": 0.4}}
    Recipe(base=refs[0], sources=tuple(refs[1:]), method=method, weights=weights_of).save(
        folder / "recipe.json"
    )
    command = [sys.executable, "-c", MEASURED, str(folder), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured, planned = json.loads(done.stdout)
    return measured, planned


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_model_and_is_what_the_plan_says(tmp_path: Path) -> None:
    # Enough tensors that as many as ever are in progress at once, also on a busy machine.
    few, planned = peak_of_merge(tmp_path / "few", 10, "task_arithmetic")
    many, planned_for_many = peak_of_merge(tmp_path / "many", 24, "task_arithmetic")
    assert many - few < 28 * 2**20  # the larger models have 224 MiB more
    assert many <= planned_for_many
    assert abs(planned_for_many - planned) < 8 * 2**20
