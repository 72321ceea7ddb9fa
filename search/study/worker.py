"""A worker process, started by `search/study/workers.py`.

`python -m search.study.worker RUN DEVICE NUMBER FIRST ROLE`, ROLE "answers" where its trials may
answer probes, "scores" where they are scored alone. Its standard input is a pipe that closes
when the process that started it ends, however that ends; then this one ends too. Exit codes: 0
nothing is left to do, 1 failed, 130 stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from safemerge.errors import SafemergeError
from search.metrics import ReferenceScores
from search.results.run import read_config
from search.runs.retention import BASE, know_base, read_answers
from search.runs.rundir import BASELINE, RunDir
from search.runs.workbench import open_workbench
from search.samplers.quiet_optuna import quiet_optuna
from search.study.context import StudyContext
from search.study.storage import open_study
from search.study.trials import run_trials
from synth.progress import silent


def main(folder: str, device: str, number: str, first: str, role: str) -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    home = RunDir(folder)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with home.joined():
            config = read_config(home)
            engine = config.engine.model_copy(update={"device": device})
            answers = role == "answers" and config.calibrates
            alone: dict[str, str | None] = {"heldout_judge": None}
            if not answers:  # nothing is judged, and every worker would hold a guard of its own
                alone["judge"] = "phrases"
            probes = config.probes.model_copy(update=alone)
            config = config.model_copy(update={"engine": engine, "probes": probes})
            bench = open_workbench(config)
            if bench.general is not None:
                kept = read_answers(home, BASE)
                know_base(bench, "search", config.probes.max_tokens, bench.judge, kept)
            study = open_study(home, config, worker=int(number))
            baseline = home.require(BASELINE, ReferenceScores)
            context = StudyContext.of(home, study, config, baseline)
            with quiet_optuna():
                run_trials(
                    context,
                    bench,
                    silent,
                    worker=int(number),
                    first=int(first),
                    answers=answers,
                )
    except SafemergeError as error:
        print(f"safemerge: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _end_with_parent() -> None:
    """End as a kill would, which every record is made to survive."""
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock would be missed at the end
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
