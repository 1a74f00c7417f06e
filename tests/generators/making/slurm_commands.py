"""`sbatch`, `srun`, `sacct` and `scancel` for one machine: enough of Slurm for submitit to work with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_COMMANDS = {
    # A job's number is that of its first process, which leads its group.
    "sbatch": """
cp "$1" "$SLURM_HERE/script"
(export SLURM_JOB_ID=$BASHPID; exec setsid bash "$1") >/dev/null 2>&1 &
echo $! >> "$SLURM_HERE/started"
echo "Submitted batch job $!"
""",
    # --unbuffered --output FILE --error FILE COMMAND...
    "srun": """
shift; out=${2//%j/$SLURM_JOB_ID}; err=${4//%j/$SLURM_JOB_ID}; shift 4
exec "$@" > "${out//%t/0}" 2> "${err//%t/0}"
""",
    "sacct": """
echo "JobID|State|NodeList"
while read -r job; do
  if kill -0 "$job" 2>/dev/null; then echo "$job|RUNNING|here"; else echo "$job|NODE_FAIL|here"; fi
done < "$SLURM_HERE/started"
""",
    "scancel": """
echo "$1" >> "$SLURM_HERE/cancelled"
kill -TERM -- "-$1" 2>/dev/null
""",
}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the commands on the PATH; returns the folder of what they note: script, started, cancelled."""
    commands, notes = folder / "commands", folder / "notes"
    commands.mkdir()
    notes.mkdir()
    for name, text in _COMMANDS.items():
        (commands / name).write_text(f"#!/bin/bash{text}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_HERE", str(notes))
    return notes
