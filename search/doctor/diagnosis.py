"""Everything that `safemerge doctor` tells of a config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safemerge.errors import SafemergeError
from search.config import SearchConfig
from search.doctor.checks import (
    AxisCounts,
    Finding,
    check_judges,
    check_models,
    check_packages,
    check_probes,
    check_template,
)
from search.doctor.estimate import Estimate, estimate_search
from search.doctor.machine import Machine
from synth.progress import Report, silent


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, and what the search would take where all that it needs is there."""

    findings: tuple[Finding, ...]
    counts: AxisCounts
    estimate: Estimate | None
    short: tuple[str, ...]  # what does not fit, a sentence each
    remarks: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """All that is wrong, a sentence each."""
        return [*(f"{f.what}: {f.told}" for f in self.findings if not f.well), *self.short]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        estimate = self.estimate
        return {
            "findings": self.findings,
            "probes": self.counts.by_axis,
            "problems": self.problems,
            "remarks": self.remarks,
            "seconds": None if estimate is None else estimate.times,
            "total_seconds": None if estimate is None else estimate.times.total,
            "memory": None
            if estimate is None
            else {
                "host": estimate.memory.host,
                "device": estimate.memory.device,
                "held": estimate.memory.held,
                "stages": estimate.memory.stages,
            },
            "disk": None if estimate is None else estimate.disk,
            "free": None if estimate is None else estimate.machine,
        }


def diagnose(
    config: SearchConfig,
    run: Path,
    *,
    machine: Machine | None = None,
    report: Report = silent,
) -> Diagnosis:
    """Check all that a config names, then time and reckon what its search takes.

    Args:
        run: where the search would be kept; nothing is written there.
        machine: what there is; by default what this one has.
    """
    config = config.resolved(Path.cwd())
    report("check", 0, 1, "models, judges and probes")
    probes, counts = check_probes(config)
    findings = [*check_models(config), *check_packages(config)]
    if findings[0].well:
        findings.append(check_template(config))
    findings += [*check_judges(config), *probes]
    report("check", 1, 1, "")
    estimate: Estimate | None = None
    if all(finding.well for finding in findings):
        try:
            estimate = estimate_search(config, run, machine=machine, report=report)
        except SafemergeError as error:
            findings.append(Finding("search", str(error), well=False))
    return Diagnosis(
        findings=tuple(findings),
        counts=counts,
        estimate=estimate,
        short=() if estimate is None else tuple(estimate.shortages(config)),
        remarks=() if estimate is None else tuple(estimate.remarks()),
    )
