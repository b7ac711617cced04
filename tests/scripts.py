"""Scripts as people have them: in a directory of their own, edited between runs, each run in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

PATIENCE = 120  # seconds after which a test gives up; never waited for when things are right

PRELUDE = '''\
import os, signal, sys, threading
import cpgraph as cp

def note(*words):
    """Say in log.txt what ran, whatever process it ran in."""
    with open("log.txt", "a") as log:
        print(*words, file=log)

'''


class Done:
    """How a script, or the command, ended: its status, what it said, and what it noted."""

    def __init__(self, process, log):
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr
        self.log = log

    @property
    def said(self):
        """The library's own lines on stderr: the first, the headlines, the last."""
        return [line.removeprefix("cpgraph: ") for line in self.err.splitlines() if line.startswith("cpgraph: ")]

    @property
    def first(self):
        return self.said[0]

    @property
    def last(self):
        return self.said[-1]

    @property
    def answer(self):
        """What the script printed as JSON in its last line."""
        return json.loads(self.out.splitlines()[-1])


class Script:
    """A script that can be edited and run, as `python job.py …` and by the command."""

    def __init__(self, home, text, name="job.py"):
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.path = self.home / name
        self.write(text)

    def write(self, text):
        self.text = textwrap.dedent(text)
        self.path.write_text(PRELUDE + self.text, encoding="utf-8")

    def edit(self, old, new):
        assert old in self.text, f"{old!r} is not in the script"
        self.write(self.text.replace(old, new))

    def run(self, *args, status=0, **environment):
        """Run it; a status other than the one expected fails the test, with all that was said."""
        return self._ended([sys.executable, self.path.name, *map(str, args)], status, environment)

    def command(self, *args, status=0, **environment):
        """Run the command `cpgraph`."""
        return self._ended([sys.executable, "-m", "cpgraph", *map(str, args)], status, environment)

    def start(self, *args, **environment):
        """Begin it, without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, self.path.name, *map(str, args)],
            cwd=self.home,
            env=self._environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def log(self):
        """What the runs so far noted, since it was last asked."""
        path = self.home / "log.txt"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        path.unlink()
        return lines

    def _ended(self, command, status, environment):
        process = subprocess.run(
            command, cwd=self.home, env=self._environment(environment), capture_output=True, text=True, timeout=PATIENCE
        )
        assert process.returncode == status, f"{command}: {process.returncode}\n{process.stdout}\n{process.stderr}"
        return Done(process, self.log())

    def _environment(self, given):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {**kept, **given}


KILLED = -signal.SIGKILL
