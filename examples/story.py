"""How `stdlib_report.py` came to be: a draft that fails on real files, its mend, and an edit later on.

    python examples/story.py [FOLDER]

All of it really happens, with the real command, on a copy in a temporary folder, or in one that is named. What is printed
between the sentences is what the command prints, and how the edits differ.
"""

import difflib
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import cpgraph as cp

SCRIPT = "stdlib_report.py"
FINISHED = Path(__file__).with_name(SCRIPT).read_text(encoding="utf-8")

# Two functions as one writes them at first, before having met all of the files.
DRAFTS = {
    "outline": """
def outline(source: bytes) -> Outline:
    nodes = list(ast.walk(ast.parse(source)))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return Outline(
        functions=[Function(node.name, node.lineno, node.end_lineno or 0) for node in nodes if isinstance(node, functions)],
        classes=[node.name for node in nodes if isinstance(node, ast.ClassDef)],
        imports=tuple(sorted({name.partition(".")[0] for node in nodes for name in imported(node)})),
    )
""",
    "longest": """
@cp.step(sets="longest")
def longest(outline: Outline) -> tuple[int, str]:
    return max((length(function), function.name) for function in outline.functions)
""",
}

# A helper of `outline`, edited later on: nobody imports a module by `from __future__ import …`.
EDITED = {
    "imported": """
def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), level=0) if module != "__future__":
            return [module]
    return []
""",
}


def story() -> None:
    say("The first draft is run on every module of the standard library, and meets some that it was not made for.")
    write(FINISHED, DRAFTS)
    cpgraph("run", SCRIPT, status=1)

    failed = {failure.step for failure in cp.runs()[-1].failures}
    say(f"What worked is kept. What failed is mended: {', '.join(sorted(failed))}.")
    edit({name: function(FINISHED, name) for name in DRAFTS if name in failed})
    say("`resume` carries on: it keeps what worked, though the code is another now, and does the rest.")
    cpgraph("resume", SCRIPT)

    say("`run` means: as the code is now. It computes what `resume` has kept of the draft, to the same end: the report stays.")
    cpgraph("run", SCRIPT)

    say("Later, a helper of `outline` is edited. `plan` says what that touches, and runs nothing.")
    edit(EDITED)
    cpgraph("plan", SCRIPT)
    say("`run` makes the outlines again, and only where one came out different what follows from it.")
    cpgraph("run", SCRIPT)
    changed = next(node.id for node in cp.runs()[-1].nodes if node.step == "imports" and node.ended == "computed")
    for node in (changed.replace("imports", "outline"), changed, "imports[json/decoder.py]"):
        cpgraph("why", node)

    say("The edit is taken back. All results of that code are still there: nothing runs.")
    edit({"imported": function(FINISHED, "imported")})
    cpgraph("run", SCRIPT)


def say(text: str) -> None:
    print("", *textwrap.wrap(text, 100), sep="\n", flush=True)


def cpgraph(*words: str, status: int = 0) -> None:
    """Run the command, and let it print."""
    print(f"\n$ {shlex.join(['cpgraph', *words])}", flush=True)
    ended = subprocess.run([sys.executable, "-m", "cpgraph", *words])
    if ended.returncode != status:
        sys.exit(f"it ended with {ended.returncode}, and the story goes on from {status} only")


def write(text: str, functions: dict[str, str]) -> None:
    """Write the script with these functions in place of those that it has."""
    for name, code in functions.items():
        text = text.replace(function(text, name), code.strip())
    Path(SCRIPT).write_text(text, encoding="utf-8")


def edit(functions: dict[str, str]) -> None:
    """Put these functions into the script, and show what that changes."""
    before = Path(SCRIPT).read_text(encoding="utf-8")
    write(before, functions)
    after = Path(SCRIPT).read_text(encoding="utf-8")
    changed = difflib.unified_diff(before.splitlines(), after.splitlines(), SCRIPT, SCRIPT, n=1, lineterm="")
    print("", *changed, sep="\n", flush=True)


def function(text: str, name: str) -> str:
    """Find a function in a script, with what decorates it."""
    return next(part for part in text.split("\n\n\n") if f"\ndef {name}(" in f"\n{part}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(sys.argv[1] if len(sys.argv) > 1 else temporary)
        story()
        os.chdir(Path(__file__).parent)  # so that the folder can be removed
