"""What importing synth brings in."""

from __future__ import annotations

import subprocess
import sys


def test_importing_synth_stays_light() -> None:
    code = (
        "import sys, synth, synth.judges, synth.engines, synth.writing.pipeline; "
        "heavy = {'torch', 'transformers', 'datasets', 'optuna', 'vllm'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
