"""The command `cpgraph`: what a script does with a graph, from the shell.

Exit status: 0, 1 if nodes failed, 2 for bad use and whatever else is wrong, 130 if interrupted. What people read goes to stderr
where a run reports itself, and to stdout where it was asked for; with `--json`, stdout has one JSON object and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import attrs
import click

from cpgraph.cleaning import clean
from cpgraph.errors import CpgraphError
from cpgraph.graph import Graph
from cpgraph.launch import UNSET, launch
from cpgraph.planning import Plan, Planner
from cpgraph.progress import Reporter
from cpgraph.reading import (
    difference_lines,
    find_run,
    find_version,
    history_lines,
    run_facts,
    runs_of,
    size_text,
    status_facts,
    status_lines,
    version_lines,
    why_lines,
)
from cpgraph.rows import convert
from cpgraph.runs import Run
from cpgraph.summary import Origin, counted
from cpgraph.targets import TargetError, find_graph
from cpgraph.tellings import some

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])
STATUS: Final = {"ok": 0, "failed": 1, "interrupted": 130}
BAD: Final = 2


class Commands(click.Group):
    """The commands; what goes wrong in any of them is told in the same way."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # nobody reads on: click ends quietly
                raise
            return context.exit(tell(error))


def tell(error: BaseException) -> int:
    """Tell what went wrong, and give the exit status."""
    if isinstance(error, KeyboardInterrupt):
        return STATUS["interrupted"]
    if isinstance(error, CpgraphError):
        trace = error.traceback if isinstance(error, TargetError) else ""
        click.echo(f"{trace}cpgraph: {error}", err=True)
    else:
        import traceback

        traceback.print_exception(error)
    return BAD


def options(*names: str) -> Callable[[F], F]:
    """Add options that several commands have."""

    def add(function: F) -> F:
        for name in reversed(names):
            function = OPTIONS[name](function)
        return function

    return add


OPTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "target": click.argument("target"),
    "data": click.option("--data", metavar="FILE", help="Data to run on: a YAML or JSON file. Default: the graph's own."),
    "dir": click.option("--dir", metavar="DIR", help="Where results are kept. Default: the graph's own, else .cpgraph."),
    "reads": click.option("--dir", metavar="DIR", default=".cpgraph", show_default=True, help="Where results are kept."),
    "set": click.option(
        "--set", "sets", metavar="NAME=VALUE", multiple=True, help="A run parameter; may be given several times."
    ),
    "jobs": click.option("-j", "--jobs", metavar="N", type=click.IntRange(1), help="How many steps may run at once."),
    "executor": click.option(
        "--executor",
        type=click.Choice(["threads", "processes", "inline"]),
        default="threads",
        show_default=True,
        help="What runs them.",
    ),
    "redo": click.option(
        "--redo", metavar="STEP", multiple=True, help="A step or node to be computed anew; may be given several times."
    ),
    "run": click.option("--run", "number", metavar="N", help="Of this run, or `last`."),
    "json": click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
}


@click.group("cpgraph", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cpgraph", prog_name="cpgraph")
def main() -> None:
    """Run graphs of steps, and go on from where they stood.

    TARGET is a script (orders.py), a graph in it (orders.py:graph), or one of a module (shop.orders:graph).
    """


# Running


@main.command()
@options("target", "data", "dir", "set", "jobs", "executor", "redo", "json")
def run(**asked: Any) -> None:
    """Run the graph of TARGET as code and data are now.

    What is known of just that code and data is not computed again.
    """
    _start("run", **asked)


@main.command()
@options("target", "data", "dir", "set", "jobs", "executor", "redo", "json")
@click.argument("start", required=False)
def resume(**asked: Any) -> None:
    """Carry on from the last run of TARGET, or from START.

    What worked is kept, also where its code was edited since; what failed and what is new runs. START is a version (v1041) or
    the file of a saved one.
    """
    _start("resume", **asked)


def _start(
    verb: str,
    target: str,
    data: str | None,
    dir: str | None,
    sets: tuple[str, ...],
    jobs: int | None,
    executor: str,
    redo: tuple[str, ...],
    as_json: bool,
    start: str | None = None,
) -> None:
    with _answering(as_json) as answer:
        graph = find_graph(target)
        directory = graph.dir if dir is None else dir
        begin = UNSET if verb == "run" else _start_of(start, directory)
        given = data if data is not None or verb == "run" else UNSET
        order = graph._order(given, directory, _parameters(graph, sets), executor, jobs, None, redo, None, start=begin)
        repeated = [*(("--dir", dir) if dir is not None else ()), *(part for text in sets for part in ("--set", text))]
        origin = Origin(target, "", tuple(repeated), (), None if directory is None else str(directory))
        found: Run = launch(attrs.evolve(order, report=Reporter(origin)))
        answer(lambda: run_facts(found))
    click.get_current_context().exit(STATUS[found.status])


def _start_of(start: str | None, directory: Any) -> Any:
    """Find what a resume goes on from: None for the last run."""
    if start is None or os.path.exists(start):
        return start
    if not start.removeprefix("v").isdigit():
        raise CpgraphError(
            f"there is no file {start!r}, and it is not a version",
            mend="give a version, such as v1041, or the file of a saved one.",
        )
    if directory is None:
        raise CpgraphError(
            "this graph keeps its results in memory: there is no version to go on from", mend="say where: --dir DIR."
        )
    return find_version(runs_of(directory, plain=False), start, directory)


def _parameters(graph: Graph, sets: Iterable[str]) -> dict[str, Any] | None:
    """Read `name=value`. Where no annotation says what a value has to be, its default does."""
    found: dict[str, Any] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not of the form name=value.", param_hint="--set")
        default = graph.compiled.parameters.get(name)
        bare = name not in graph.compiled.annotations and type(default) in (bool, int, float)
        found[name] = convert(value, type(default), f"parameter {name!r}") if bare else value
    return found or None


@main.command()
@click.option("--resume", "resumes", is_flag=True, help="Say what `resume` would do.")
@options("target", "data", "dir", "set", "redo", "json")
@click.argument("start", required=False)
def plan(
    target: str,
    resumes: bool,
    start: str | None,
    data: str | None,
    dir: str | None,
    sets: tuple[str, ...],
    redo: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what `run` would compute, and why.

    And about how long that takes; runs nothing. With START, a version (v1041) or the file of a saved one: what `resume` from
    there would compute.
    """
    with _answering(as_json) as answer:
        graph = find_graph(target)
        resumes = resumes or start is not None
        given = data if data is not None or not resumes else UNSET
        directory = graph.dir if dir is None else dir
        begin = _start_of(start, directory) if resumes else UNSET
        params = _parameters(graph, sets)
        order = graph._order(given, directory, params, "inline", None, None, redo, None, start=begin, planner=Planner)
        found: Plan = launch(order)
        answer(lambda: _plan_facts(found), str(found))


def _plan_facts(found: Plan) -> dict[str, Any]:
    steps = {name: {**attrs.asdict(step), "products": step.products.strip()} for name, step in found.steps.items()}
    facts = {"line": found.line, "computed": found.computed, "seconds": found.seconds, "steps": steps}
    return {**facts, "unseen": list(found.unseen), "failures": list(found.failures)}


@main.command()
@click.option("-o", "--output", metavar="FILE", help="A .svg, .png, .pdf, .dot or .mmd file. Default: SVG on stdout.")
@options("target", "dir", "run")
def render(target: str, output: str | None, dir: str | None, number: str | None) -> None:
    """Draw the graph of TARGET, or a run of it."""
    with _answering(True) as answer:
        graph = find_graph(target)
        directory = graph.dir if dir is None else dir
        drawn: Run | None = None
        if number is not None:
            mine = [run for run in runs_of(directory) if run.graph == graph.name] if directory is not None else []
            if not mine:
                raise CpgraphError(
                    f"{graph.name!r} has not run in {directory} yet", mend="say run first, or draw the graph alone."
                )
            drawn = find_run(mine, number, directory)
        picture = graph.render(output, run=drawn)
        if output is None:
            answer(None, picture)


# Reading


@main.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@options("reads", "run")
def history(a: str | None, b: str | None, dir: str, number: str | None) -> None:
    """Show versions and what they changed.

    Without A and B all of the last run, with A that one, with both what differs between them.
    """
    runs = _runs(dir)
    if not runs:
        return
    chosen = [find_run(runs, number, dir)] if number is not None else runs
    if a is None:
        _print(history_lines(chosen[-1]))
    elif b is None:
        _print(version_lines(find_version(chosen, a, dir)))
    else:
        _print(difference_lines(find_version(chosen, a, dir), find_version(chosen, b, dir)))


@main.command()
@click.argument("node")
@options("reads", "run")
def why(node: str, dir: str, number: str | None) -> None:
    """Say why a node ran, or did not.

    NODE as it is printed, such as parse[7]; of a step alone, what nodes it has.
    """
    runs = _runs(dir)
    if runs:
        _print(why_lines([find_run(runs, number, dir)] if number is not None else runs, node, dir))


@main.command()
@click.option("--check/--no-check", default=None, help="Read everything to find damage. Default: up to 1 GB.")
@options("reads", "json")
def status(dir: str, check: bool | None, as_json: bool) -> None:
    """List runs, their size, and what is damaged."""
    with _answering(as_json) as answer:
        facts = status_facts(dir, check=check)
        answer(lambda: facts, "\n".join(status_lines(facts)))


@main.command()
@click.option(
    "--keep", metavar="N", type=click.IntRange(0), help="Keep the last N runs of each graph. Default: those of 30 days."
)
@options("reads")
def gc(dir: str, keep: int | None) -> None:
    """Remove results that no kept run needs.

    The last run of each graph is always kept, and what a `resume` of it needs.
    """
    cleaned = clean(dir, keep)
    if cleaned is None:
        click.echo(f"nothing has run in {dir} yet")
    elif cleaned.going or cleaned.freed.held:
        going = f"run {some([str(run) for run in cleaned.going])} goes on" if cleaned.going else "something was written meanwhile"
        click.echo(f"{going}: not all was removed; say gc again when it has ended")
    else:
        what = f"{counted(len(cleaned.removed), 'run')}, {counted(cleaned.freed.results, 'result')}"
        kept = counted(len(cleaned.kept), "run")
        click.echo(f"removed {what}: {size_text(cleaned.freed.bytes)} freed; kept {kept}")


def _runs(directory: str) -> list[Run]:
    runs = runs_of(directory)
    if not runs:
        click.echo(f"nothing has run in {directory} yet")
    return runs


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


# Answering


@contextlib.contextmanager
def _answering(alone: bool) -> Iterator[Callable[..., None]]:
    """Give what prints the answer: a text, or one JSON object. alone: whatever else is printed goes to stderr."""
    out, kept = sys.stdout, -1
    if alone:
        out.flush()
        with contextlib.suppress(OSError, ValueError):  # a stdout that is no file: then what is printed by others is not ours
            kept = os.dup(out.fileno())
            os.dup2(2, out.fileno())

    def answer(facts: Callable[[], Any] | None, text: str = "") -> None:
        if alone and facts is not None:
            text = json.dumps(facts(), ensure_ascii=False, default=str)
        if kept >= 0:
            out.flush()
            os.dup2(kept, out.fileno())
        if text:
            print(text, file=out, flush=True)

    try:
        with contextlib.redirect_stdout(sys.stderr) if alone else contextlib.nullcontext():
            yield answer
    finally:
        if kept >= 0:
            out.flush()
            os.dup2(kept, out.fileno())
            os.close(kept)
