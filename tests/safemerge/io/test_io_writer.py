"""What a written checkpoint is, and that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from safemerge.errors import OutputError
from safemerge.io import CheckpointWriter, TensorSpec, copy_sidecars, open_checkpoint


def layout_of(tensors: Mapping[str, torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]


def write(out: Path, tensors: Mapping[str, torch.Tensor], **options: object) -> Path:
    with CheckpointWriter(out, layout=layout_of(tensors), **options) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
    return out


def run(writer: CheckpointWriter, body: Callable[[CheckpointWriter], object]) -> None:
    """Enter a writer and do something in it."""
    with writer:
        body(writer)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def some_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "z.weight": torch.randn(5, 3),
        "a.weight": torch.randn(7, 3).bfloat16(),
        "half": torch.randn(3).half(),
        "position_ids": torch.arange(4),
        "mask": torch.tensor([True, False, True]),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 2),
        'naïve "name"': torch.randn(2, 2, dtype=torch.float64),
    }


def test_a_single_file_is_byte_for_byte_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = some_tensors()
    write(tmp_path / "out", tensors)
    save_file(tensors, tmp_path / "reference", metadata={"format": "pt"})
    written = tmp_path / "out" / "model.safetensors"
    assert written.read_bytes() == (tmp_path / "reference").read_bytes()


def test_safe_open_reads_tensors_and_metadata(tmp_path: Path) -> None:
    out = write(tmp_path / "out", some_tensors())
    with safe_open(out / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        for name, tensor in some_tensors().items():
            assert torch.equal(file.get_tensor(name), tensor)


@pytest.mark.parametrize("shard_bytes", [1, 60, 100, 10**9])
def test_any_sharding_holds_the_same_tensors(tmp_path: Path, shard_bytes: int) -> None:
    tensors = some_tensors()
    out = write(tmp_path / "out", tensors, shard_bytes=shard_bytes)
    found: dict[str, torch.Tensor] = {}
    for file in out.glob("*.safetensors"):
        part = load_file(file)
        size = sum(tensor.nbytes for tensor in part.values())
        assert size <= shard_bytes or sum(tensor.nbytes > 0 for tensor in part.values()) == 1
        found |= part
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert (out / "model.safetensors.index.json").exists() == (shard_bytes < 10**9)


def test_the_index_names_every_tensor_and_the_sizes(tmp_path: Path) -> None:
    tensors = {f"w{i}": torch.ones(10, dtype=torch.bfloat16) for i in range(4)}
    out = write(tmp_path / "out", tensors, shard_bytes=40)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index["weight_map"] == {"w0": first, "w1": first, "w2": second, "w3": second}
    assert index["metadata"] == {"total_parameters": 40, "total_size": 80}


@pytest.mark.parametrize("shard_bytes", [60, 10**9])
def test_same_tensors_same_bytes_in_any_order_of_add(tmp_path: Path, shard_bytes: int) -> None:
    tensors = some_tensors()
    first = write(tmp_path / "first", tensors, shard_bytes=shard_bytes)
    layout = layout_of(tensors)
    out = tmp_path / "second"
    with CheckpointWriter(out, layout=layout, shard_bytes=shard_bytes) as writer:
        for name in reversed(tensors):
            writer.add(name, tensors[name])
    assert digests(first) == digests(tmp_path / "second")


def test_views_and_tensors_with_gradients_are_written_by_value(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    tensors = {
        "transposed": base.T,
        "strided": base[::2, 1:],
        "parameter": torch.nn.Parameter(base.clone()),
    }
    out = write(tmp_path / "out", tensors)
    loaded = load_file(out / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("shard_bytes", [20_000, 10**9])
def test_transformers_loads_the_copy_and_computes_the_same(
    llama: Path, tmp_path: Path, shard_bytes: int
) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = open_checkpoint(llama)
    tensors = {name: checkpoint.load(name) for name in checkpoint.tensors}
    assert "lm_head.weight" not in tensors  # tied
    layout = layout_of(tensors)
    with CheckpointWriter(tmp_path / "out", layout=layout, shard_bytes=shard_bytes) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        copy_sidecars(checkpoint, writer.folder)
    tokens = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
        theirs = AutoModelForCausalLM.from_pretrained(llama, dtype="auto")
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)


def test_a_written_checkpoint_reads_back_with_its_hash(golden: Path, sharded: Path) -> None:
    assert open_checkpoint(sharded).content_hash() == open_checkpoint(golden).content_hash()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_any_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    tensors = some_tensors()

    def add_all_then_fail(writer: CheckpointWriter) -> None:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        raise error

    out = tmp_path / "new" / "deep" / "out"
    with pytest.raises(error):
        run(CheckpointWriter(out, layout=layout_of(tensors)), add_all_then_fail)
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_tensor_leaves_nothing(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path / "out", layout=layout_of(some_tensors()))
    with (
        pytest.raises(OutputError, match=r"7 of 8 tensors were never written, the first is 'a\.w"),
        writer,
    ):
        writer.add("z.weight", some_tensors()["z.weight"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "tensor", "text"),
    [
        ("x", torch.ones(2), "tensor 'x' is not in the output's layout; declare it first"),
        (
            "w",
            torch.ones(3),
            "is torch.float32 [3], and the output's layout declares torch.float32",
        ),
        ("w", torch.ones(2).half(), "tensor 'w' is torch.float16 [2], and the output's layout"),
    ],
)
def test_a_tensor_that_was_not_declared_so(
    tmp_path: Path, name: str, tensor: torch.Tensor, text: str
) -> None:
    writer = CheckpointWriter(tmp_path / "out", layout=[TensorSpec("w", (2,), torch.float32)])
    with pytest.raises(OutputError) as caught, writer:
        writer.add(name, tensor)
    assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_added_twice_is_refused(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path / "out", layout=[TensorSpec("w", (2,), torch.float32)])
    with pytest.raises(OutputError, match="tensor 'w' was written before"):
        run(writer, lambda w: [w.add("w", torch.ones(2)) for _ in range(2)])


def test_a_layout_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    spec = TensorSpec("w", (2,), torch.float32)
    with pytest.raises(OutputError, match="'w' is in the output's layout twice"):
        CheckpointWriter(tmp_path / "out", layout=[spec, spec])
    with pytest.raises(OutputError, match="has no tensors; there is nothing to write"):
        CheckpointWriter(tmp_path / "out", layout=[])
    with pytest.raises(OutputError, match=r"type torch\.complex128, which safetensors cannot hold"):
        CheckpointWriter(tmp_path / "out", layout=[TensorSpec("w", (2,), torch.complex128)])
    with pytest.raises(OutputError, match="shard_bytes is 0; it must be positive"):
        CheckpointWriter(tmp_path / "out", layout=[spec], shard_bytes=0)
    with pytest.raises(OutputError, match="the writer is not open"):
        CheckpointWriter(tmp_path / "out", layout=[spec]).add("w", torch.ones(2))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_not_empty_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="out is not empty; choose another folder") as caught:
        write(tmp_path / "out", some_tensors())
    assert caught.value.exit_code == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("keep")
    with pytest.raises(OutputError, match="out is a file; choose a folder for the output"):
        write(tmp_path / "out", some_tensors())
    with pytest.raises(OutputError, match=r"below cannot be written, since .*out: Not a directory"):
        write(tmp_path / "out" / "below", some_tensors())
    assert (tmp_path / "out").read_text() == "keep"


def test_an_empty_folder_a_link_to_one_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert digests(write(tmp_path / "empty", some_tensors()))
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    write(tmp_path / "link", some_tensors())
    assert (tmp_path / "link").is_symlink()
    assert digests(tmp_path / "other") == digests(tmp_path / "empty")
    assert digests(write(tmp_path / "a" / "b", some_tensors())) == digests(tmp_path / "other")


def test_an_output_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def add_then_fill(writer: CheckpointWriter) -> None:
        writer.add("w", torch.ones(2))
        out.mkdir()
        (out / "mine.txt").write_text("keep")

    with pytest.raises(OutputError, match="out was filled while it was written"):
        run(CheckpointWriter(out, layout=[TensorSpec("w", (2,), torch.float32)]), add_then_fill)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "mine.txt"]


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from safemerge.io import CheckpointWriter, TensorSpec
layout = [TensorSpec(f"w{i}", (1000,), torch.float32) for i in range(4)]
with CheckpointWriter(Path(sys.argv[1]), layout=layout, shard_bytes=4000) as writer:
    for i in range(3):
        writer.add(f"w{i}", torch.ones(1000))
    (writer.folder / "config.json").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_loadable_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.partial-")
    assert not (left / "model.safetensors.index.json").exists()
    assert not (left / "model.safetensors").exists()
    write(out, some_tensors())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_running_writer_is_not_cleaned_up_by_another(tmp_path: Path) -> None:
    tensors = some_tensors()

    def let_another_finish_first(writer: CheckpointWriter) -> None:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        write(tmp_path / "out", tensors)
        assert writer.folder.exists()

    first = CheckpointWriter(tmp_path / "out", layout=layout_of(tensors))
    with pytest.raises(OutputError, match="was filled while it was written"):
        run(first, let_another_finish_first)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


LIMITED = """
import resource, sys, torch
from pathlib import Path
from safemerge.errors import OutputError
from safemerge.io import CheckpointWriter, TensorSpec
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
layout = [TensorSpec(f"w{i}", (1000,), torch.float32) for i in range(10)]
try:
    with CheckpointWriter(Path(sys.argv[1]), layout=layout) as writer:
        for i in range(10):
            writer.add(f"w{i}", torch.ones(1000))
except OutputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_refuses_more_bytes_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"the disk of {tmp_path / 'out'} is full: the output needs 40" in done.stdout
    assert "Nothing was left behind" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; needs permission to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system; root may, and then it runs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_too_little_space_is_found_before_anything_is_written(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"needs 80\d\d\d bytes and 65536 can be used"):
        write(small_disk / "out", {"w": torch.ones(20_000)})
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(small_disk: Path) -> None:
    tensors = {f"w{i}": torch.ones(1000) for i in range(10)}  # 40 kB of 64

    def add_beside_a_greedy_neighbour(writer: CheckpointWriter) -> None:
        (small_disk / "neighbour").write_bytes(bytes(40_000))
        for name, tensor in tensors.items():
            writer.add(name, tensor)

    writer = CheckpointWriter(small_disk / "out", layout=layout_of(tensors))
    with pytest.raises(OutputError, match=r"is full: the output needs 40\d\d\d bytes"):
        run(writer, add_beside_a_greedy_neighbour)
    assert [p.name for p in small_disk.iterdir()] == ["neighbour"]


def test_a_sidecar_that_fills_the_disk_is_the_same_error(small_disk: Path) -> None:
    def add_then_copy(writer: CheckpointWriter) -> None:
        writer.add("w", torch.ones(2))
        (writer.folder / "tokenizer.json").write_bytes(bytes(100_000))

    writer = CheckpointWriter(small_disk / "out", layout=[TensorSpec("w", (2,), torch.float32)])
    with pytest.raises(OutputError, match="is full: the output needs"):
        run(writer, add_then_copy)
    assert list(small_disk.iterdir()) == []


def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(
        OutputError, match=r"out cannot be written, since .*: Read-only file system"
    ):
        write(small_disk / "out", some_tensors())


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A folder for a user who is not the superuser, who may write anywhere: root becomes nobody."""
    folder = Path(tempfile.mkdtemp())  # pytest's own may be entered by its owner only
    folder.chmod(0o755)
    root = os.geteuid() == 0
    (folder / "locked").mkdir(mode=0o555)
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_parent_that_is_not_writable_is_refused(nobodys_folder: Path) -> None:
    with pytest.raises(OutputError, match=r"written to .*locked: Permission denied"):
        write(nobodys_folder / "locked" / "out", some_tensors())


STREAMED = """
import resource, sys, torch
from pathlib import Path
from safemerge.io import CheckpointWriter, TensorSpec, open_checkpoint
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
checkpoint = open_checkpoint(sys.argv[1])
layout = [TensorSpec(i.name, i.shape, i.dtype) for i in checkpoint.tensors.values()]
with CheckpointWriter(Path(sys.argv[2]), layout=layout) as writer:
    for name in checkpoint.tensors:
        writer.add(name, checkpoint.load(name))
checkpoint.content_hash()
print((peak() - before) // 1024)
"""


def test_copying_and_hashing_hold_one_tensor_in_memory(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make("big", {f"w{i}": torch.ones(2**20) for i in range(32)})  # 128 MiB in one file
    command = [sys.executable, "-c", STREAMED, str(folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32  # MiB; a tensor has 4
