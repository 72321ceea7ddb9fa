"""What a search will take here: time, memory and disk; the first lines of `search`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safemerge.cache import cache_folder, tensor_store
from safemerge.errors import BadInput
from safemerge.inputs import Inputs
from search.config import SearchConfig
from search.doctor.machine import Machine, this_machine, used_by_process
from search.doctor.memory import HeldInputs, Memory, peak_memory
from search.doctor.rates import measure_rates
from search.doctor.sizes import batch_sizes, decoder_sizes, held_inputs
from search.doctor.times import Times, search_times
from search.doctor.work import Work, count_work
from search.runs.workbench import Workbenches, recipe_template
from search.space.space import Space
from synth.progress import Report, duration, silent

_NUMBER = 24  # bytes of a number in JSON, with what is around it
_LETTERS = 5  # bytes of a token of a reply, at most about
_RECORD = 600  # bytes of an answer beside its reply


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that are written."""

    run: int  # the run directory: trials, answers, tables
    cache: int  # factors, kept for other runs; a search goes on without them
    export: int  # the pick as a checkpoint, written when it is asked for


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one search, its held-out table included and other baselines not."""

    times: Times
    memory: Memory
    disk: Disk
    machine: Machine
    work: Work

    def shortages(self, config: SearchConfig, *, surely: bool = False) -> list[str]:
        """What does not fit, a sentence each with the settings that make it fit.

        `surely` leaves out memory that is reckoned to be short by less than the formula's error.
        """
        margin = _ERROR if surely else 1.0
        found = []
        for name, needed, free in (
            ("this machine", self.memory.host, self.machine.host),
            (f"the device {config.engine.device}", self.memory.device, self.machine.device),
        ):
            if needed is not None and free is not None and needed * margin > free:
                stage = max(self.memory.stages, key=lambda s: self.memory.stages[s])
                found.append(
                    f"the search takes {gigabytes(needed)} of memory and {name} has "
                    f"{gigabytes(free)} free; {_smaller(stage)}"
                )
        short = self.disk.run - self.machine.run_disk
        if short > 0:
            found.append(
                f"the run takes {gigabytes(self.disk.run)} of disk and "
                f"{gigabytes(self.machine.run_disk)} are free there; make room, name another "
                "folder with --run, or set fewer search.trials"
            )
        return found

    def remarks(self) -> list[str]:
        """What is worth knowing and stops nothing."""
        found = []
        if self.disk.cache > self.machine.cache_disk:
            found.append(
                f"{gigabytes(self.disk.cache)} of factors are worth keeping and "
                f"{gigabytes(self.machine.cache_disk)} are free in {cache_folder()}; without them "
                "another run computes them again: name another folder in SAFEMERGE_CACHE"
            )
        if self.disk.run + self.disk.export > self.machine.run_disk >= self.disk.run:
            found.append(
                f"an export takes {gigabytes(self.disk.export)} more than the run, and "
                f"{gigabytes(self.machine.run_disk)} are free there; export to another disk"
            )
        return found

    def foretold(self, config: SearchConfig) -> list[str]:
        """The first lines of a search: what it takes, what may not fit, what is worth knowing."""
        return [*self.lines(), *self.shortages(config), *self.remarks()]

    def lines(self) -> list[str]:
        """Time, memory and disk, for people."""
        times, memory = self.times, self.memory
        parts = {
            "start": times.prepare,
            "warm start": times.warm_start,
            f"{self.work.trials} trials": times.trials,
            "answers": times.answers,
            "held-out table": times.heldout,
        }
        told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
        device = "" if memory.device is None else f", {gigabytes(memory.device)} on the device"
        return [
            f"time    about {duration(times.total)}: {told} ({duration(times.trial)} a trial)",
            f"memory  about {gigabytes(memory.host)}{device}",
            f"disk    about {gigabytes(self.disk.run)} for the run, "
            f"{gigabytes(self.disk.cache)} for the cache, {gigabytes(self.disk.export)} to export",
        ]


_ERROR = 0.75  # of what is reckoned, the least that is then needed


def gigabytes(size: int) -> str:
    """Bytes as people say them, in powers of ten.

    >>> [gigabytes(n) for n in (250_000, 48_000_000, 16_060_000_000)]
    ['0.3 MB', '48 MB', '16.1 GB']
    """
    if size < 9_950_000:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e6:.0f} MB" if size < 995_000_000 else f"{size / 1e9:.1f} GB"


def check_fits(estimate: Estimate, config: SearchConfig) -> None:
    """Refuse a search that surely does not fit; a BadInput with all that is short."""
    short = estimate.shortages(config, surely=True)
    if short:
        raise BadInput("; also, ".join(short))


def estimate_search(
    config: SearchConfig,
    run: Path,
    *,
    benches: Workbenches | None = None,
    machine: Machine | None = None,
    report: Report = silent,
) -> Estimate:
    """Open the models, time a few passes of the base, and reckon. Nothing is written to the run.

    Args:
        run: the run directory, which need not exist.
        benches: keeps what is opened, for the search.
        machine: what there is; by default what this one has.

    Raises:
        BadInput: what is wrong with models, probes or config.
    """
    benches = Workbenches() if benches is None else benches
    process = used_by_process()
    machine = machine or this_machine(config.engine.device, run, cache_folder())
    report("time a few passes", 0, 1, "opening models")
    bench = benches.open(config, prepare=False)
    work = count_work(config, bench.engine, bench.probes, bench.general)
    report("time a few passes", 0, 1, "of the base")
    probes, template = bench.evaluator.probes, recipe_template(config)
    rates = measure_rates(
        bench.engine, bench.inputs, template, work, probes, bench.general, bench.judge
    )
    report("time a few passes", 1, 1, "")
    model, inputs = decoder_sizes(bench.engine), held_inputs(bench.inputs, config)
    memory = peak_memory(
        model,
        inputs,
        batch_sizes(work, model),
        process=process,
        on_cpu=bench.engine.device.type == "cpu",
    )
    return Estimate(
        times=search_times(work, rates, config.search.workers),
        memory=memory,
        disk=_disk(config, work, bench.inputs, inputs, bench.space),
        machine=machine,
        work=work,
    )


def _disk(config: SearchConfig, work: Work, inputs: Inputs, held: HeldInputs, space: Space) -> Disk:
    """What is written: recipes and scores of trials, answers, factors, a checkpoint."""
    numbers = len(space.groups) * len(inputs.sources) + len(space.ranked)
    trial = _NUMBER * (2 * numbers + 3 * work.search.prompts) + 20 * _RECORD
    reply = _RECORD + _LETTERS * work.reply_tokens
    asked = work.answered_prompts.prompts + work.general.prompts
    rows = work.models + work.plain + work.points
    answers = (work.models + work.answered) * asked
    answers += rows * (work.heldout.prompts + work.general.prompts)
    return Disk(
        run=work.trials * trial + reply * answers,
        cache=min(held.factors + 4 * held.selected, int(tensor_store().limit_gb * 1e9)),
        export=held.base,
    )


def _smaller(stage: str) -> str:
    ways: dict[str, Sequence[str]] = {
        "scoring": ("shorter probes",),
        "replies": ("a smaller probes.max_tokens", "fewer probes"),
        "warm start": ("search.warm_start.batch = 1", "search.warm_start.steps = 0"),
        "merging": ("params.rank_limit under [merge]",),
    }
    return f"the most of it beside the models is for {stage}: try {' or '.join(ways[stage])}"
