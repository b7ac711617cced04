"""A job in a process of its own: `python -m bench.child JOB '{"argument": …}'` prints its numbers as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def do(job: str, **arguments: Any) -> dict[str, float]:
    """Have a job done in a fresh process."""
    numbers: dict[str, float] = json.loads(python("-m", "bench.child", job, json.dumps(arguments)).splitlines()[-1])
    return numbers


def python(*arguments: str) -> str:
    """Run Python from the project's root and give what it prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    from bench.jobs import JOBS

    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
