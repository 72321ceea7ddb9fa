"""TensorStore: what was computed once, and a limit that holds."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor

from safemerge.cache import tensor_store
from safemerge.errors import ConfigError
from safemerge.store import TensorStore, content_key


def numbers(seed: int) -> dict[str, Tensor]:
    """Tensors whose file has about 1.6 kB."""
    return {"x": torch.randn(380, generator=torch.Generator().manual_seed(seed))}


def ask(store: TensorStore, seed: int = 0) -> dict[str, Tensor]:
    return store.kept(f"{seed:064x}", lambda: numbers(seed))


def forbidden() -> NoReturn:
    raise AssertionError("computed a second time")


def filled(folder: Path, count: int) -> list[Path]:
    """That many files, the first one oldest."""
    paths: list[Path] = []
    for seed in range(count):
        ask(TensorStore(folder), seed)
        (new,) = set(folder.iterdir()) - set(paths)
        os.utime(new, (1000.0 + seed, 1000.0 + seed))
        paths.append(new)
    return paths


def test_what_was_computed_comes_back_with_its_shapes_and_types(tmp_path: Path) -> None:
    parts = {
        "empty": torch.empty(0, 3),
        "number": torch.tensor(0.1, dtype=torch.float64),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.ones(2, 2, dtype=torch.bfloat16),
    }
    store = TensorStore(tmp_path)
    store.kept("k", lambda: parts)
    again = store.kept("k", forbidden)
    assert again.keys() == parts.keys()
    for name, part in parts.items():
        assert again[name].dtype == part.dtype
        assert torch.equal(again[name], part)


def test_keys_tell_names_shapes_types_values_and_settings_apart() -> None:
    x = torch.zeros(4)
    keys = {
        content_key({"x": x}, 1),
        content_key({"y": x}, 1),
        content_key({"x": x[None]}, 1),
        content_key({"x": x.int()}, 1),
        content_key({"x": x + 1}, 1),
        content_key({"x": x}, 2),
        content_key({}, 1),
        content_key({"x": torch.tensor(0.0)}, 1),
    }
    assert len(keys) == 8
    assert content_key({"x": x.clone()}, 1) in keys
    turned = torch.arange(6.0).reshape(2, 3).T
    assert content_key({"x": turned}, 0) == content_key({"x": turned.contiguous()}, 0)


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    good = ask(store)["x"].clone()  # what was returned is mapped
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(ask(store)["x"], good)
    assert torch.equal(store.kept(f"{0:064x}", forbidden)["x"], good)


def test_a_file_that_is_deleted_while_it_is_opened_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = filled(tmp_path, 1)
    open_storage = torch.UntypedStorage.from_file

    def deleted_before(file: str, *args: object, **kwargs: object) -> object:
        Path(file).unlink()
        return open_storage(file, *args, **kwargs)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", deleted_before)
    again = TensorStore(tmp_path).kept(path.stem, lambda: numbers(0))
    assert torch.equal(again["x"], numbers(0)["x"])


def test_over_the_limit_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    paths = filled(tmp_path, 4)
    limit_gb = 4.5e-9 * paths[0].stat().st_size
    ask(TensorStore(tmp_path, limit_gb), 0)  # used again: now the second one is the oldest
    ask(TensorStore(tmp_path, limit_gb), 9)
    assert [path.exists() for path in paths] == [True, False, True, True]
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_run_has_asked_for_is_never_deleted_by_it(tmp_path: Path) -> None:
    paths = filled(tmp_path, 3)
    store = TensorStore(tmp_path, 3.5e-9 * paths[0].stat().st_size)
    for seed in (0, 1, 2, 7, 8):
        assert torch.equal(ask(store, seed)["x"], numbers(seed)["x"])
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_no_room_at_all_is_no_obstacle(tmp_path: Path) -> None:
    assert ask(TensorStore(tmp_path, 0.0))["x"].shape == (380,)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_behind_is_removed_for_room(tmp_path: Path) -> None:
    (abandoned := tmp_path / "x.partial-1234").write_bytes(bytes(5000))
    os.utime(abandoned, (1000.0, 1000.0))
    (growing := tmp_path / "y.partial-5678").write_bytes(bytes(10))
    ask(TensorStore(tmp_path, 5e-6))
    assert not abandoned.exists()
    assert growing.exists()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("blocked", [Path.mkdir, os.replace], ids=["no folder", "no file"])
def test_where_nothing_can_be_written_it_is_said_and_the_run_goes_on(
    blocked: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    owner = Path if blocked is Path.mkdir else os
    monkeypatch.setattr(owner, blocked.__name__, refused)
    assert ask(TensorStore(tmp_path / "cache"))["x"].shape == (380,)
    assert "results are not kept: cannot write" in caplog.text
    assert not list(tmp_path.rglob("*.*"))


def test_a_shared_store_that_is_read_only_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = filled(tmp_path, 1)

    def refused(*args: object, **kwargs: object) -> NoReturn:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refused)
    assert TensorStore(tmp_path).kept(path.stem, forbidden)["x"].shape == (380,)
    assert path.exists()


def test_two_processes_at_the_limit_do_not_disturb_each_other(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from safemerge.store import TensorStore\n"
        "for turn in range(40):\n"
        "    store = TensorStore(Path(sys.argv[1]), 8e-6)\n"
        "    for i in range(9):\n"
        "        seed = (i + turn) % 9\n"
        "        whole = torch.full((380,), float(seed))\n"
        "        assert torch.equal(store.kept(str(seed), lambda: {'x': whole})['x'], whole)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    talk = [run.communicate(timeout=120)[1] for run in runs]
    assert talk == ["", ""]
    assert [run.returncode for run in runs] == [0, 0]
    files = list(tmp_path.iterdir())
    assert files
    assert all(path.suffix == ".safetensors" for path in files)
    # Both may have found room for the same bytes at once.
    assert sum(path.stat().st_size for path in files) <= 8000 + 2000


def test_the_limit_of_the_users_cache_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SAFEMERGE_CACHE_GB", raising=False)
    assert tensor_store().limit_gb == 20.0
    monkeypatch.setenv("SAFEMERGE_CACHE_GB", "1.5")
    assert tensor_store().limit_gb == 1.5
    for wrong in ("lots", "-1", "nan"):
        monkeypatch.setenv("SAFEMERGE_CACHE_GB", wrong)
        with pytest.raises(ConfigError, match=r"SAFEMERGE_CACHE_GB is .* gigabytes, 0 or more"):
            tensor_store()
