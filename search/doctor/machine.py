"""What this machine has left: memory of host and device, and disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes that are free; None where they are not known, or there is no such device."""

    host: int | None
    device: int | None
    run_disk: int  # where the run is kept
    cache_disk: int  # where factors are kept


def this_machine(device: str, run: Path, cache: Path) -> Machine:
    """Of the process, its container included.

    Args:
        device: torch's name of it.
        run: the run directory, which need not exist.
        cache: the folder of factors, likewise.
    """
    free = None
    if torch.device(device).type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
    return Machine(_host_bytes(), free, _free_disk(run), _free_disk(cache))


def used_by_process() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * 4096


def _host_bytes() -> int | None:
    """What can still be had: of the machine, or of the container's limit where that is less."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no container, another system, or "max": no limit
        return free
    return min(free, limit - used)


def _free_disk(path: Path) -> int:
    nearest = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
    return shutil.disk_usage(nearest).free
