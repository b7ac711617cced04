"""Shell commands in steps: both streams apart, line by line while the command runs; a command that fails is told with its output.

It prints:

    count out: 1
    count out: 2
    grumble err: no such thing
    {'count': 2, 'flood': 100000}
    command[grumble]: Failed: exit status 3: no such thing
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

import cpgraph as cp

COMMANDS = {
    "count": "print(1); print(2)",
    "flood": "import sys; print('much\\n' * 99_999); print('more\\n' * 99_999, file=sys.stderr)",
    "grumble": "import sys; print('no such thing', file=sys.stderr); sys.exit(3)",
}


class Failed(Exception):
    """A command that did not end with 0, and what it said."""


def shell(words: list[str], tell: Callable[[str, str], None]) -> list[str]:
    """Run a command, tell each line as it comes, and give those of stdout.

    Each stream is read by a thread of its own, so that a command may say as much as it likes on either.
    """
    said: dict[str, list[str]] = {"out": [], "err": []}

    def read(which: str, pipe: IO[str]) -> None:
        for line in pipe:
            said[which].append(line.rstrip())
            tell(which, line.rstrip())

    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pipes = {"out": process.stdout, "err": process.stderr}
        readers = [threading.Thread(target=read, args=pair) for pair in pipes.items()]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    if process.returncode:
        raise Failed(f"exit status {process.returncode}: {' / '.join(said['err'] or said['out'])}")
    return said["out"]


def command(name: str, stream: cp.Stream) -> list[str]:
    return shell([sys.executable, "-c", COMMANDS[name]], lambda which, line: stream.push("line", (name, which, line)))


graph = cp.Graph(cp.pipeline(command, each={"name": list(COMMANDS)}, concurrency=1))

if __name__ == "__main__":
    stream = cp.Stream()

    @stream.on("line")
    def show(said: tuple[str, str, str]) -> None:
        name, which, line = said
        if name != "flood":
            print(f"{name} {which}: {line}")

    run = graph.run(dir=None, stream=stream)
    print({name: len(lines) for name, lines in run.values(command).items()})
    print(*run.failures)
