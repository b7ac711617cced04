"""`Graph`: pipelines, compiled and checked, with all that can be done with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from cpgraph.compile import compile_graph
from cpgraph.data import is_saved
from cpgraph.errors import CpgraphError
from cpgraph.events import Stream
from cpgraph.launch import UNSET, Order, launch
from cpgraph.planning import Plan, Planner
from cpgraph.progress import Reporter, origin_of
from cpgraph.runs import Run
from cpgraph.schedule import Settings
from cpgraph.structure import Compiled

__all__ = ["Graph"]


class Graph:
    """A checked graph of pipelines: run it, resume it, plan it, draw it.

    Raises `CompileError` with what is wrong and how to mend it, before anything runs. models: those that no pipeline
    names. params: names of run parameters, or a dict of their defaults. data, dir: defaults for `run` and the command.

    >>> def hello() -> str:
    ...     return "hi"
    >>> Graph(hello).run(dir=None).value(hello)
    'hi'
    """

    def __init__(
        self,
        *pipelines: Any,
        name: str | None = None,
        models: Sequence[type] = (),
        params: Sequence[str] | Mapping[str, Any] = (),
        data: Any = None,
        dir: str | os.PathLike[str] | None = ".cpgraph",
    ) -> None:
        self.compiled: Compiled = compile_graph(pipelines, name=name, models=models, params=params)
        self.name = self.compiled.name
        self.pipelines = pipelines
        self.data = data
        self.dir = dir

    def run(
        self,
        data: Any = None,
        *,
        dir: Any = UNSET,
        params: Mapping[str, Any] | None = None,
        executor: Any = "threads",
        concurrency: int | None = None,
        stream: Stream | None = None,
        redo: Any = (),
        stop: Any = None,
    ) -> Run:
        """Run the graph as the code and the data are now; what the cache has of just that is not computed again."""
        return self._launch(self._order(data, dir, params, executor, concurrency, stream, redo, stop))

    def resume(
        self,
        start: Any = None,
        data: Any = None,
        *,
        dir: Any = UNSET,
        params: Mapping[str, Any] | None = None,
        executor: Any = "threads",
        concurrency: int | None = None,
        stream: Stream | None = None,
        redo: Any = (),
        stop: Any = None,
    ) -> Run:
        """Carry on from the last run, a version or a saved one: what it completed is kept, also if its code was edited."""
        given = UNSET if data is None else data
        return self._launch(self._order(given, dir, params, executor, concurrency, stream, redo, stop, start=start))

    def plan(
        self,
        data: Any = None,
        *,
        dir: Any = UNSET,
        params: Mapping[str, Any] | None = None,
        redo: Any = (),
        resume: bool = False,
        start: Any = None,
    ) -> Plan:
        """Say what `run` would compute, why, and how long it would take; runs nothing.

        With `resume`, a `start`, or the path of a saved version it is what `resume` would compute.
        """
        if start is None and is_saved(data):
            data, start = None, data
        begin = start if resume or start is not None else UNSET
        given = UNSET if data is None and begin is not UNSET else data
        plan: Plan = launch(self._order(given, dir, params, "inline", None, None, redo, None, start=begin, planner=Planner))
        return plan

    def _order(
        self,
        data: Any,
        dir: Any,
        params: Any,
        executor: Any,
        concurrency: Any,
        stream: Any,
        redo: Any,
        stop: Any,
        start: Any = UNSET,
        planner: Any = None,
    ) -> Order:
        directory = self.dir if dir is UNSET else dir
        if params is not None and not isinstance(params, Mapping):
            raise CpgraphError(f"params={params!r} does not say which parameter each value is for", mend='give a dict: {"n": 3}.')
        if stream is not None and not isinstance(stream, Stream):
            raise CpgraphError(f"stream={stream!r} is not a stream", mend="make one: stream = cp.Stream().")
        return Order(
            self.compiled,
            data,
            Path(directory) if directory is not None else None,
            dict(params or {}),
            params is not None,
            Settings(executor, concurrency, stop),
            stream,
            redo,
            start,
            self.data,
            lambda run, path: self.render(path, run=run),
            planner,
        )

    def _launch(self, order: Order) -> Run:
        dir_given = self.dir is None or order.directory != Path(self.dir)
        report = Reporter(origin_of(self, order.directory, dir_given, order.params))
        run: Run = launch(attrs.evolve(order, report=report))
        return run

    def to_networkx(self) -> Any:
        """Give the steps and what they wait for as a `networkx.DiGraph`."""
        import networkx

        made: Any = networkx.DiGraph(name=self.name)
        units = self.compiled.units
        for unit in units:
            if unit.step is not None:
                made.add_node(unit.step.name, step=unit.step)
        for source, target, value in self.compiled.step_edges():
            made.add_edge(source, target, value=value)
        return made

    def render(self, path: str | os.PathLike[str] | None = None, *, run: Run | None = None) -> str:
        """Draw the graph; the suffix says how (.svg .png .pdf .dot .mmd), without a path it is SVG text."""
        from cpgraph.render import render

        return render(self.compiled, path, run)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        try:
            return {"image/svg+xml": self.render(), "text/plain": repr(self)}
        except Exception as error:
            return {"text/plain": f"{self!r} (no picture: {error})"}

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self.compiled.steps)} steps>"
