"""The normal form of one function's code: what it does, and nothing of how it is written.

Comments, docstrings, formatting, local names, annotations of locals, and the place in the file are left out. A name from
outside (a global, a closure's variable, an import in the body) is not written as its text: the caller is asked
what it stands for, so that renaming a helper alters nothing, and rebinding it does. Attributes, keywords, the
names of parameters that can be given by keyword, and constants with their types are kept.

The form is made from the syntax tree, which is the same in all versions of Python, if compiling the source gives the code that
is loaded (rule K2). Where there is no such source it is made from the code object itself.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any, Final, Protocol

import attrs

from cpgraph.digest import Walk, digest_many

__all__ = ["ITERABLE_COROUTINE", "Function", "Lookup", "code_form", "identity", "names_in", "tree_form"]

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SEES_LOCALS: Final = frozenset({"eval", "exec", "locals", "vars", "dir"})  # code that calls one of these can tell local names
HAS_DOCSTRING: Final = 0x4000000  # a flag, as of Python 3.13
ITERABLE_COROUTINE: Final = 0x100  # a flag that a decorator sets
DEEPEST: Final = 120  # levels of a tree
NOT_CODE: Final = frozenset({"ctx", "kind", "type_comment"})


class Lookup(Protocol):
    """Tells what names from outside stand for: the bytes to write, and how many of the attributes after a name they cover."""

    def name(self, name: str, attributes: tuple[str, ...]) -> tuple[bytes, int]: ...

    def imported(self, module: str, level: int, name: str | None, attributes: tuple[str, ...]) -> tuple[bytes, int]:
        """Tell what an import in the body binds: `name` of the module, or, without, the module."""


# The form of a syntax tree


@attrs.frozen
class _Import:
    """A local name that is bound by one import statement and nothing else: it stands for what is imported."""

    module: str
    level: int
    name: str | None


@attrs.define
class _Scope:
    names: dict[str, _Import | None]
    outward: frozenset[str] = frozenset()  # declared `global`
    is_class: bool = False
    numbers: dict[str, int] = attrs.field(factory=dict)


class _Names(dict[str, _Import | None]):
    """The names bound in one scope; one that is bound twice is no longer an import."""

    def bind(self, name: str, to: _Import | None = None) -> None:
        self[name] = to if name not in self or self[name] == to else None


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, _Import]]:
    for item in node.names:
        if isinstance(node, ast.ImportFrom):
            yield item.asname or item.name, _Import(node.module or "", node.level, item.name)
        elif item.asname:
            yield item.asname, _Import(item.name, 0, None)
        else:
            top = item.name.partition(".")[0]  # `import a.b` binds `a`
            yield top, _Import(top, 0, None)


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    optional = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional]


def _bound(body: Iterable[ast.AST]) -> tuple[_Names, frozenset[str]]:
    """Find the names that a scope binds, and those it declares global."""
    names, declared, outward = _Names(), set[str](), set[str]()
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                names.bind(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.bind(node.name)
                waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
                continue
            case ast.Lambda():
                waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
                continue
            case ast.ClassDef():
                names.bind(node.name)
                waiting += [*node.decorator_list, *node.bases, *node.keywords]
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                for inner in ast.walk(node):  # `:=` binds in the function around it
                    if isinstance(inner, ast.NamedExpr) and isinstance(inner.target, ast.Name):
                        names.bind(inner.target.id)
                continue
            case ast.Import() | ast.ImportFrom():
                for name, imported in _imports(node):
                    names.bind(name, imported)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.bind(name)
            case ast.MatchMapping(rest=str(name)):
                names.bind(name)
            case ast.Global():
                outward.update(node.names)
            case ast.Nonlocal():
                declared.update(node.names)
        waiting += ast.iter_child_nodes(node)
    for name in outward | declared:
        names.pop(name, None)
    return names, frozenset(outward)


def tree_form(tree: Function, names: Collection[str], lookup: Lookup) -> bytes:
    """Give the normal form of a function; local names are kept if it can see them itself.

    Raises `RecursionError` for a tree that is too deep, the same one in every process.
    """
    form = _Form(lookup, as_text=not SEES_LOCALS.isdisjoint(names))
    form.function(tree)
    return b"".join(form.out)


class _Form:
    """Writes trees as bytes."""

    def __init__(self, lookup: Lookup, as_text: bool) -> None:
        self.lookup = lookup
        self.as_text = as_text
        self.out: list[bytes] = []
        self.scopes: list[_Scope] = []
        self.count = self.depth = 0
        self.encode = Walk().encode

    # Names

    def scope_of(self, name: str) -> _Scope | None:
        """Find the scope that binds a name; None if it is from outside of the function."""
        for depth, scope in enumerate(reversed(self.scopes)):
            if name in scope.outward:
                return None
            if name in scope.names and (depth == 0 or not scope.is_class):
                return scope
        return None

    def local(self, name: str, scope: _Scope | None) -> None:
        """Write a bound name: as the number of its first appearance, or as text where its text can be seen."""
        if scope is None or scope.is_class or self.as_text:
            self.out.append(b"=" + self.encode(name))
            return
        if name not in scope.numbers:
            self.count += 1
            scope.numbers[name] = self.count
        self.out.append(b"$" + self.encode(scope.numbers[name]))

    def reference(self, node: ast.expr) -> None:
        """Write a name with the attributes asked of it."""
        attributes: list[str] = []
        base = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        given, token = 0, b""
        scope = self.scope_of(base.id) if isinstance(base, ast.Name) else None
        if isinstance(base, ast.Name) and isinstance(base.ctx, ast.Load):
            asked = tuple(attributes if isinstance(getattr(node, "ctx", None), ast.Load) else attributes[:-1])
            imported = scope.names[base.id] if scope else None
            if imported is not None:
                token, given = self.lookup.imported(imported.module, imported.level, imported.name, asked)
            elif scope is None:
                token, given = self.lookup.name(base.id, asked)
        rest = attributes[given:]
        if rest:
            self.out.append(b"." + self.encode(tuple(rest)))
        if token:
            self.out.append(token)
        elif isinstance(base, ast.Name):
            self.local(base.id, scope)
        else:
            self.node(base)

    # Nodes

    def node(self, node: ast.AST) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecursionError
        special = _SPECIAL.get(type(node))
        if special:
            special(self, node)
        else:
            self.plain(node)
        self.depth -= 1

    def plain(self, node: ast.AST, without: str = "") -> None:
        """Write a node as its kind and its fields; what is empty is left out, so that new fields of new Pythons are no change."""
        self.out.append(b"(" + type(node).__name__.encode())
        for field in node._fields:
            value = getattr(node, field, None)
            if value is not None and value != [] and field not in NOT_CODE and field != without:
                self.out.append(b" " + field.encode() + b":")
                self.value(value)
        self.out.append(b")")

    def value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list):
            self.out.append(b"[")
            for item in value:
                self.value(item)
            self.out.append(b"]")
        else:
            self.out.append(self.encode(value))

    def function(self, node: Function) -> None:
        """Write a function without its defaults and decorators, which belong to the code around it."""
        arguments = node.args
        named = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
        counts = (len(arguments.posonlyargs), len(arguments.kwonlyargs), bool(arguments.vararg), bool(arguments.kwarg))
        self.out.append(b"(" + type(node).__name__.encode() + self.encode(counts))
        inner = bool(self.scopes)
        self.out.append(self.encode(tuple(named) if inner else len(named)))  # outermost: see `parameter_names`
        body = node.body if isinstance(node.body, list) else [node.body]
        names, outward = _bound(body)
        parameters = [argument.arg for argument in _parameters(arguments)]
        for name in parameters:
            names[name] = None
        self.scopes.append(_Scope(names, outward))
        for name in parameters:
            self.local(name, self.scopes[-1])
        self.value(body)
        self.scopes.pop()
        self.out.append(b")")

    def inner_function(self, node: Function) -> None:
        """Write a function made inside the one that is written."""
        for expressions in (getattr(node, "decorator_list", []), node.args.defaults, node.args.kw_defaults):
            self.value(expressions)
        if not isinstance(node, ast.Lambda):
            self.local(node.name, self.scope_of(node.name))
        self.function(node)

    def inner_class(self, node: ast.ClassDef) -> None:
        """Write a class made inside a function: its attributes can be seen, so names count."""
        self.local(node.name, self.scope_of(node.name))
        self.out.append(b"(ClassDef" + self.encode(node.name))
        for expressions in (node.decorator_list, node.bases, node.keywords):
            self.value(expressions)
        names, outward = _bound(node.body)
        self.scopes.append(_Scope(dict.fromkeys(names), outward, is_class=True))
        self.value(node.body)
        self.scopes.pop()
        self.out.append(b")")

    def comprehension(self, node: Any) -> None:
        """Write a comprehension; only its first iterable is seen from outside."""
        first = node.generators[0]
        self.out.append(b"(" + type(node).__name__.encode() + self.encode(len(node.generators)))
        self.node(first.iter)
        names = _Names()
        for generator in node.generators:
            for target in ast.walk(generator.target):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    names.bind(target.id)
        self.scopes.append(_Scope(names))
        for generator in node.generators:
            self.node(generator.target)
            if generator is not first:
                self.node(generator.iter)
            self.value(generator.ifs)
            self.value(generator.is_async)
        for part in ("elt", "key", "value"):
            if hasattr(node, part):
                self.node(getattr(node, part))
        self.scopes.pop()
        self.out.append(b")")

    def nothing(self, node: ast.AST) -> None:
        """Leave out what does nothing when it runs."""

    def statement(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # docstrings, and other texts that stand alone
            self.plain(node)

    def annotated(self, node: ast.AnnAssign) -> None:
        """Write an assignment without its annotation, unless in a class, where the annotation can be seen."""
        if self.scopes[-1].is_class:
            self.plain(node)
        elif node.value is not None:
            self.plain(ast.Assign(targets=[node.target], value=node.value))

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        """Write an import only where its name is bound to other things too; else it is what the name stands for."""
        for name, imported in _imports(node):
            scope = self.scope_of(name)
            if scope is None or scope.names[name] is None:
                self.out.append(b"(import" + self.lookup.imported(imported.module, imported.level, imported.name, ())[0])
                self.local(name, scope)
                self.out.append(b")")

    def constant(self, node: ast.Constant) -> None:
        self.out.append(self.encode(node.value))

    def text(self, node: ast.JoinedStr) -> None:
        """Write an f-string; some Pythons add empty pieces to it."""
        values = [value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")]
        self.plain(ast.JoinedStr(values))

    def handler(self, node: Any) -> None:
        """Write a node that has a bound name as a plain string."""
        field = "rest" if isinstance(node, ast.MatchMapping) else "name"
        name = getattr(node, field)
        if name is not None:
            self.local(name, self.scope_of(name))
        self.plain(node, without=field)


_SPECIAL: Final[Mapping[type, Callable[[_Form, Any], None]]] = {
    ast.Name: _Form.reference,
    ast.Attribute: _Form.reference,
    ast.Constant: _Form.constant,
    ast.FunctionDef: _Form.inner_function,
    ast.AsyncFunctionDef: _Form.inner_function,
    ast.Lambda: _Form.inner_function,
    ast.ClassDef: _Form.inner_class,
    **dict.fromkeys(COMPREHENSIONS, _Form.comprehension),
    ast.Expr: _Form.statement,
    ast.JoinedStr: _Form.text,
    ast.AnnAssign: _Form.annotated,
    ast.Import: _Form.imports,
    ast.ImportFrom: _Form.imports,
    **dict.fromkeys((ast.Pass, ast.Global, ast.Nonlocal), _Form.nothing),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _Form.handler),
}


# The form of a code object


def names_in(code: CodeType) -> frozenset[str]:
    """Give all names a function asks for, in the code inside it too."""
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def code_form(code: CodeType, lookup: Lookup, bound: frozenset[str] = frozenset()) -> bytes:
    """Give the normal form of a function from its instructions; `bound` are variables of the functions it is made in."""
    import dis

    encode = _Constants(lookup, bound.union(code.co_cellvars)).encode
    free = set(code.co_freevars) - bound
    kept = [item for item in dis.get_instructions(code) if item.opname not in ("CACHE", "EXTENDED_ARG", "NOP", "RESUME")]
    places = {item.offset: place for place, item in enumerate(kept)}
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    out = [b"(code", encode(counts)]
    place = 0
    while place < len(kept):
        item = kept[place]
        place += 1
        attributes = []
        for after in kept[place:]:
            if after.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                break
            attributes.append(str(after.argval))
        out.append(encode(item.opname))
        if item.opcode in dis.hasconst:
            out.append(encode(item.argval))
        elif item.opname in ("LOAD_GLOBAL", "LOAD_NAME") or (item.opcode in dis.hasfree and item.argval in free):
            token, given = lookup.name(item.argval, tuple(attributes))
            out.append(token)
            place += given
        elif item.opname == "IMPORT_NAME":
            level, names = kept[place - 3].argval, kept[place - 2].argval  # the two constants loaded before it
            module = item.argval if names or level else item.argval.partition(".")[0]
            for name in names or (None,):
                out.append(lookup.imported(module, level, name, ())[0])
        elif item.opcode in dis.hasname:
            out.append(encode(str(item.argval)))
        elif item.opcode in dis.hasjrel or item.opcode in dis.hasjabs:
            out.append(encode(places.get(item.argval, item.argval)))
        else:
            out.append(encode(item.arg))
    return b"".join([*out, encode(code.co_exceptiontable), b")"])


class _Constants(Walk):
    """Encodes constants, among them code: as its form, or, without a lookup, by its identity."""

    def __init__(self, lookup: Lookup | None = None, bound: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.lookup = lookup
        self.bound = bound

    def special(self, value: Any) -> bytes | None:
        if not isinstance(value, CodeType):
            return None
        return code_form(value, self.lookup, self.bound) if self.lookup else b"C" + identity(value)


def identity(code: CodeType) -> bytes:
    """Give what is the same for code objects that do the same, whatever their positions and docstrings."""
    import dis

    encode = _Constants().encode
    flags = code.co_flags & ~(HAS_DOCSTRING | ITERABLE_COROUTINE)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    parts = [encode((counts, names)), code.co_exceptiontable]
    for item in dis.get_instructions(code):  # constants by value, as a docstring is one more of them and moves the others
        parts.append(item.opname.encode())
        parts.append(encode(item.argval if item.opcode in dis.hasconst else item.arg))
    return digest_many(parts)
