"""What a node gets, and the digests of it: arguments for the call, parts for the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from cpgraph.contents import as_data, looked_up, met
from cpgraph.copies import ATOMIC, isolated
from cpgraph.digest import dict_digest, digest, digest_many, list_digest
from cpgraph.errors import CpgraphError
from cpgraph.execute import STREAM, Joined
from cpgraph.fanout import items_of
from cpgraph.fingerprint import CodeOfValues, code_in
from cpgraph.instances import Asker, Fan, Instance, World
from cpgraph.models import Change, Files, Result
from cpgraph.nodes import node_id
from cpgraph.records import Row
from cpgraph.results import DEFAULT_PART
from cpgraph.steps import EMPTY
from cpgraph.store import Store
from cpgraph.structure import Binding, Compiled, Unit
from cpgraph.views import View

__all__ = ["Deleted", "Inputs", "Parameter"]


class Deleted(Exception):
    """The record a node stands on was deleted by a node before it (rule C5); its text names that node."""

    def __init__(self, row: Row) -> None:
        write = next(write for write in reversed(row.writes) if write.kind == "delete")
        unit = write.instance.world.compiled.units[write.unit]
        super().__init__(f"{row.table.name} {row.id!r} was deleted by {node_id(unit.name, write.instance.key)}")


@attrs.frozen
class Parameter:
    """The value of a run parameter; `default`: nobody gave it. `digest`: empty if it holds files, which each node looks at.

    `code`: the user's classes and functions in it.
    """

    value: Any
    digest: bytes
    default: bool
    code: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Any, default: bool) -> Parameter:
        value, before = looked_up(value), met.count
        address = as_data(value)
        return cls(value, address if met.count == before else b"", default, code_in(value))


class Inputs:
    """Binds the parameters of nodes of one run."""

    def __init__(
        self,
        world: World,
        parameters: Mapping[str, Parameter],
        defaults: Mapping[tuple[str, str], Parameter],
        code: CodeOfValues,
    ) -> None:
        self.world = world
        self.compiled: Compiled = world.compiled
        self.parameters = parameters
        self.defaults = defaults
        self.code = code
        world.records.code = code

    def gather(self, unit: Unit, instance: Instance, asker: Asker | None = None) -> tuple[list[Any], list[bytes], list[bytes]]:
        """Give the arguments, the digests that go into the key, and those that are kept with the result.

        A parameter left at its default is marked with zeros in the last (else both are the same list); with a stated version it
        is in no key (N9). A file's content is not the code's: it counts also where it is the default. `met` tells whether there
        were files. What the user's classes and functions do that are in the arguments is a digest of its own, the last.
        """
        args: list[Any] = []
        parts: list[bytes] = []
        kept = parts
        code: list[str] = []
        view: View | None = None
        step = unit.step
        assert step is not None
        for binding in unit.bindings:
            kind = binding.kind
            if kind == "field" or kind == "record":
                row = instance.chain[binding.level - 1].row
                assert row is not None
                if row.writes:
                    if view is None:
                        view = (asker or Asker(self.world, unit.index, instance)).view()
                    state = view.state(row)
                    if state is None:
                        raise Deleted(row)
                else:
                    state = row.base
                    assert state is not None
                if kind == "record":
                    args.append(state.record)
                    part = state.digest
                    code += self.code.of_state(state)
                else:
                    value = getattr(state.record, binding.field)
                    args.append(value)
                    if type(value) in ATOMIC:
                        part = digest(value)
                    else:
                        part, names = self.code.digest_of(value)
                        code += names
            elif kind == "item":
                inner = instance.chain[binding.level - 1]
                args.append(inner.item)
                part = inner.item_digest or digest(inner.item)
                if type(inner.item) not in ATOMIC:
                    if inner.item_code is None:
                        inner.item_code = self.code.names(inner.item)
                    code += inner.item_code
            elif kind == "step":
                source = self.compiled.units[binding.unit]
                level = self.compiled.scopes[source.scope].level
                inner = instance if level == instance.scope.level else instance.around(level)
                value = inner.values[source.slot]
                args.append(value)
                part = value.digest
                code += value.code
                if value.has_files:
                    met.count += 1
            elif kind == "joined":
                joined, part = self.joined(unit, instance, binding, asker, code)
                args.append(joined)
            elif kind == "param":
                given = self.parameters.get(binding.name)
                if given is None or given.default:
                    given = self.defaults[step.name, binding.name]
                    if given.digest:
                        code += given.code
                        args.append(given.value)
                        kept = [*kept, DEFAULT_PART]
                        if step.options.version is None:
                            parts.append(given.digest)
                        continue
                args.append(given.value)
                part = given.digest or digest(given.value)
                code += given.code
            else:
                args.append(STREAM if kind == "stream" else None)
                continue
            parts.append(part)
            if kept is not parts:
                kept.append(part)
        if code and step.options.version is None:
            part = digest_many([self.code.digest(name) for name in sorted({*code})])
            parts, kept = [*parts, part], [*kept, part]
        return args, parts, kept

    def gone(self, unit: Unit, instance: Instance) -> str:
        """Say which node before deleted a record that a node stands on (rule C5); nothing if none did."""
        view: View | None = None
        for inner in instance.chain:
            row = inner.row
            if row is None or not row.writes or not row.table.deletes:
                continue
            view = view or Asker(self.world, unit.index, instance).view()
            if view.state(row) is None:
                return str(Deleted(row))
        return ""

    def value(self, source: int, instance: Instance) -> Any:
        """Give the value of a step of this instance, or of one around it."""
        unit = self.compiled.units[source]
        level = self.compiled.scopes[unit.scope].level
        return instance.around(level).values[unit.slot]

    def ask(
        self,
        function: Callable[..., Any],
        bindings: Sequence[Binding],
        unit: Unit,
        instance: Instance,
        first: tuple[Any, ...] = (),
        store: Store | None = None,
        stream: Any = None,
    ) -> Any:
        """Ask a condition, guard or predicate, with what it names; `unit` says whose view it has."""
        view: View | None = None
        given: dict[str, Any] = {}
        for binding in bindings:
            kind = binding.kind
            if kind == "store":
                given[binding.name] = store
            elif kind == "stream":
                given[binding.name] = stream
            elif kind in ("field", "record"):
                view = view or Asker(self.world, unit.index, instance).view()
                row = instance.chain[binding.level - 1].row
                assert row is not None
                state = view.state(row)
                if state is None:
                    raise Deleted(row)
                given[binding.name] = isolated(state.record if kind == "record" else getattr(state.record, binding.field))
            elif kind == "item":
                given[binding.name] = isolated(instance.chain[binding.level - 1].item)
            elif kind == "step":
                given[binding.name] = self.value(binding.unit, instance).load()
            elif kind == "joined":
                given[binding.name] = self.joined(unit, instance, binding, None)[0].load()
            elif kind == "param":
                known = self.parameters.get(binding.name)
                own = binding.default is not EMPTY and binding.name not in self.compiled.declared
                default = binding.default if own else self.compiled.parameters.get(binding.name)
                given[binding.name] = isolated(default if known is None or known.default else known.value)
        answer = function(*first, **given)
        if isinstance(answer, Change | Result):
            mend = "answer yes or no, and write in a step."
            raise CpgraphError("a condition, guard or predicate cannot write, and this one returned a change", mend=mend)
        return answer

    # Joins (rules V2, E4)

    def joined(
        self, unit: Unit, instance: Instance, binding: Binding, asker: Asker | None, code: list[str] | None = None
    ) -> tuple[Joined, bytes]:
        """Give the values of a finished `each`, in order, with the digest made of theirs; `code` gets what code is in them."""
        source = self.compiled.units[binding.unit]
        chain = self.compiled.scopes[source.scope].chain
        shared = len(chain) - binding.levels
        asker = asker or Asker(self.world, unit.index, instance)
        return self._join(unit, instance.around(shared), chain[shared:], source, binding, asker, [] if code is None else code)

    def _join(
        self,
        unit: Unit,
        outer: Instance,
        chain: Sequence[int],
        source: Unit,
        binding: Binding,
        asker: Asker,
        code: list[str],
    ) -> tuple[Joined, bytes]:
        values: list[Any] = []
        ids: list[Any] = []
        digests: list[bytes] = []
        scope = self.compiled.scopes[chain[0]]
        start = scope.place.start
        fan = outer.fans.get(start) if outer.fans is not None and start is not None else None
        wanted = () if binding.as_dict else self._wanted(unit, scope.index)
        for inner in self.members(fan, asker) if fan is not None else ():
            if any(inner.values[slot] is None for slot in wanted):
                continue
            if len(chain) > 1:
                value, part = self._join(unit, inner, chain[1:], source, binding, asker, code)
            else:
                value = inner.values[source.slot]
                if value is None:
                    continue
                part = value.digest
                code += value.code
                met.count += value.has_files
            values.append(value)
            ids.append(inner.key[-1])
            digests.append(part)
        if binding.as_dict:
            return Joined(values, ids), dict_digest(list(zip(ids, digests, strict=True)))
        return Joined(values), list_digest(digests)

    def members(self, fan: Fan, asker: Asker) -> list[Instance]:
        """Give the instances that a node after an `each` joins: none failed, none deleted, all homes before it."""
        view: View | None = None
        found = []
        for inner in fan.ordered():
            if inner.failed or (inner.home is not None and not asker.joins(inner)):
                continue
            if inner.row is not None and inner.row.table.deletes and inner.row.writes:
                view = view or asker.view()
                if view.state(inner.row) is None:
                    continue
            found.append(inner)
        if fan.shared:
            rank = (view or asker.view()).rank
            found.sort(key=lambda inner: rank(inner.row) if inner.row is not None else inner.rank)
        return found

    def missing(self, unit: Unit, instance: Instance, binding: Binding) -> tuple[int, int]:
        """Tell how many instances a join goes on without, because they failed, and how many there were."""
        chain = self.compiled.scopes[self.compiled.units[binding.unit].scope].chain
        scope = self.compiled.scopes[chain[len(chain) - binding.levels]]
        outer = instance.around(len(chain) - binding.levels)
        fan = outer.fans.get(scope.place.start) if outer.fans is not None and scope.place.start is not None else None
        if fan is None:
            return 0, 0
        return sum(inner.failed for inner in fan.instances), len(fan.instances)

    def items(self, fan: Fan) -> list[tuple[Any, Any, bytes]] | None:
        """Give the items of an `each`, as (id, item, digest); None if the step that gives them has no value."""
        source = fan.scope.source
        what = f"each={{{fan.scope.item!r}: …}}"
        if isinstance(source, Files):
            return items_of(source.expand(), what)
        if not isinstance(source, Binding):
            return items_of(source, what)
        start = self.compiled.units[fan.scope.place.start or 0]
        if source.kind == "joined":
            loaded = self.joined(start, fan.instance, source, None)[0].load()
        else:
            value = self.value(source.unit, fan.instance)
            if value is None:
                return None
            loaded = value.load()
        return items_of(loaded, what)

    def _wanted(self, unit: Unit, scope: int) -> list[int]:
        """Give the slots of a scope whose values a unit asks for as lists: those lists are parallel."""
        return [
            self.compiled.units[binding.unit].slot
            for binding in unit.bindings
            if binding.kind == "joined" and not binding.as_dict and self.compiled.units[binding.unit].scope == scope
        ]
