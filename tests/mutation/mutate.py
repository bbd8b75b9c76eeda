"""Automatic mistakes: every small change of a function's syntax tree, put in force in memory alone.

A mutant is one changed expression: an operator exchanged, an operand left out, two operands swapped, a sign
flipped, a constant or an axis off by one, a call or one of its options left out, the cotangent ignored. Its
code takes the place of the function's own, so that whoever holds the function runs the mutant.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from types import CodeType
from typing import Any

import jax

OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.FloorDiv: (ast.Mult,),
}
ORDERED = (ast.Sub, ast.Div, ast.Pow, ast.MatMult, ast.FloorDiv)
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
RENAMED = {"mean": "sum", "sum": "mean", "max": "min", "min": "max", "exp": "log1p", "abs": "square"}
MODULES = frozenset(("jnp", "jax", "lax", "math", "np", "self"))
COTANGENTS = frozenset(("dy", "dz", "dh", "dp"))


@dataclass(frozen=True)
class Mutant:
    """A function and the code of a changed version; `change` says what became what."""

    function: Any
    code: CodeType
    change: str

    def __repr__(self) -> str:
        return f"{name_of(self.function)}: {self.change}"

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Run the mutant wherever the function is called, until the block ends."""
        right = self.function.__code__
        self.function.__code__ = self.code
        self._forget()
        try:
            yield
        finally:
            self.function.__code__ = right
            self._forget()

    def _forget(self) -> None:
        """Let go of traces where the package keeps them: of activations, and of dense layers."""
        if self.function.__module__.startswith(("fnn.activations.", "fnn.layers.")):
            jax.clear_caches()


def name_of(function: Any) -> str:
    """Give the name that tells a function apart: after its class or its module."""
    name = function.__qualname__
    return name if "." in name else f"{function.__module__.rpartition('.')[2]}.{name}"


@cache
def mutants(function: Callable[..., Any]) -> tuple[Mutant, ...]:
    """Give every mutant of a function, each change once."""
    function = inspect.unwrap(function)
    path = inspect.getsourcefile(function) or ""
    module = ast.parse(inspect.getsource(inspect.getmodule(function) or function))
    definition = _definition(module, function.__qualname__)
    alone = _alone(definition, function.__qualname__)
    found: dict[str, Mutant] = {}
    for parent, field, node in _expressions(definition):
        for variant in _variants(node):
            _put(parent, field, node, variant)
            code = _code(compile(ast.fix_missing_locations(alone), path, "exec"), function.__qualname__)
            _put(parent, field, variant, node)
            assert code is not None, f"no code for {function.__qualname__}"
            change = f"{ast.unparse(node)} -> {ast.unparse(variant)}"
            change = next(c for n in count(1) if (c := change + f" ({n})" * (n > 1)) not in found)
            found[change] = Mutant(function, code, change)
    return tuple(found.values())


def _definition(module: ast.Module, qualname: str) -> ast.FunctionDef:
    scope: Any = module
    for name in qualname.split("."):
        scope = next(n for n in scope.body if getattr(n, "name", None) == name)
    return scope


def _alone(definition: ast.FunctionDef, qualname: str) -> ast.Module:
    """Give a module with nothing but the function, in an empty class where it is a method."""
    body: list[ast.stmt] = [definition]
    for name in reversed(qualname.split(".")[:-1]):
        body = [ast.ClassDef(name, [], [], body, [])]
    return ast.Module(body, [])


def _code(code: CodeType, qualname: str) -> CodeType | None:
    """Find the code of the function among the constants of its module's."""
    if code.co_qualname == qualname:
        return code
    inner = (_code(c, qualname) for c in code.co_consts if isinstance(c, CodeType))
    return next((c for c in inner if c is not None), None)


def _expressions(node: ast.AST) -> Iterator[tuple[ast.AST, tuple[str, int | None], Any]]:
    """Give every expression with the place where its parent holds it; guards and annotations are no rule."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and isinstance(
            node, ast.FunctionDef | ast.arg | ast.AnnAssign
        ):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_guard(child):
                continue
            if isinstance(child, ast.expr) and not _is_shape(node):
                yield node, (name, i), child
            yield from _expressions(child)


def _is_shape(parent: ast.AST) -> bool:
    """Whether only the shape or the dtype of an array is asked for: its values are no matter there."""
    return isinstance(parent, ast.Attribute) and parent.attr in ("shape", "dtype", "ndim")


def _is_guard(node: ast.AST) -> bool:
    """Whether a statement only turns bad input away, or says where it is."""
    if isinstance(node, ast.Assert | ast.Raise | ast.withitem | ast.JoinedStr):
        return True
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    name = getattr(called, "id", getattr(called, "attr", ""))
    return isinstance(node, ast.Expr) and (name.lstrip("_").startswith("check") or called is None)


def _put(parent: ast.AST, field: tuple[str, int | None], old: ast.AST, new: ast.AST) -> None:
    name, i = field
    if i is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[i] = new
    ast.copy_location(new, old)


def _variants(node: Any) -> Iterator[Any]:
    match node:
        case ast.BinOp(left, op, right):
            for other in OPERATORS.get(type(op), ()):
                yield ast.BinOp(left, other(), right)
            yield from (left, right, ast.UnaryOp(ast.USub(), node)) if not _is_tree(op) else (left, right)
            if isinstance(op, ORDERED):
                yield ast.BinOp(right, op, left)
        case ast.UnaryOp(ast.USub() | ast.Invert() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, [op], [right]):
            for other in COMPARISONS.get(type(op), ()):
                yield ast.Compare(left, [other()], [right])
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Attribute(value, "T"):
            yield value
        case ast.Name(name, ast.Load()) if name in COTANGENTS:
            yield ast.UnaryOp(ast.USub(), node)
            yield ast.BinOp(ast.BinOp(node, ast.Mult(), ast.Constant(0)), ast.Add(), ast.Constant(1))
        case ast.Call():
            yield from _calls(node)


def _is_tree(op: ast.operator) -> bool:
    return isinstance(op, ast.BitOr | ast.BitAnd)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    func, args, keywords = node.func, node.args, node.keywords
    for i in range(len(args) - 1):
        swapped = [*args[:i], args[i + 1], args[i], *args[i + 2 :]]
        if ast.dump(args[i]) != ast.dump(args[i + 1]) and not any(isinstance(a, ast.Starred) for a in args):
            yield ast.Call(func, swapped, keywords)
    for i in range(len(keywords)):
        yield ast.Call(func, args, [*keywords[:i], *keywords[i + 1 :]])
    if isinstance(func, ast.Attribute):
        if not (isinstance(func.value, ast.Name) and func.value.id in MODULES):
            yield func.value
        if func.attr in RENAMED:
            yield ast.Call(ast.Attribute(func.value, RENAMED[func.attr], ast.Load()), args, keywords)
    name = getattr(func, "attr", getattr(func, "id", ""))
    kept = name in ("read", "tuple", "range", "list", "map", "len")
    if len(args) == 1 and not kept and not isinstance(args[0], ast.Starred):
        yield args[0]
