"""Compiling and running a chat template in jinja2's sandbox, within a Budget.

jinja2's sandbox keeps a template from reaching outside; it does not keep it from running for ever.
Here every way to spend time or memory is put behind the budget:

    template --parse--> nodes --_Guards--> nodes --compile--> code, run by _Sandbox
                          loop bodies and conditions: a step       operators, calls, attributes
                          a ~ b, [a, b], {…}, a[1:]: charged       filters and tests (chat_filters)
                          a == b, a in b: weighed                  each printed value, the result

Only the methods listed in METHODS can be reached on plain values. Left out: imports and includes
(there is one template), autoescaping of a whole template. Loaded at first use: it imports jinja2.

Source: our own, on `jinja2.sandbox.ImmutableSandboxedEnvironment`; settings and the generation
block as in Hugging Face transformers utils/chat_template_utils.py.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.runtime import (
    BlockReference,
    Context,
    LoopContext,
    Macro,
    TemplateReference,
    Undefined,
    markup_join,
    str_join,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

from .chat_filters import guarded_filters, guarded_tests
from .chat_limits import NODE, Budget, LimitReached, method_room, operator_room

__all__ = ["render_template", "template_line"]

MAX_TEMPLATE = 1 << 16  # characters; the largest templates of known models have 30,000
MAX_CONSTANT = 1 << 12  # bytes of a value that is computed when a template is compiled
MAX_DEPTH = 80  # calls in calls
STEP, CHARGED, WEIGHED, JOINED = "a step", "a charge", "a weight", "a join"  # no template's names

METHODS = {
    str: "capitalize casefold center count endswith expandtabs find format index isalnum isalpha "
    "isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper "
    "join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust "
    "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill",
    dict: "copy get items keys values",
    list: "copy count index",
    tuple: "count index",
    int: "bit_length",
    float: "is_integer",
}
METHODS = {kind: frozenset(names.split()) for kind, names in METHODS.items()}
RUNTIME = (BlockReference, Cycler, Joiner, LoopContext, Macro, Namespace, TemplateReference)
MADE_BY_CALLS = (Cycler, Joiner, Namespace, dict)
BINARY = frozenset(("+", "-", "*", "/", "//", "**", "%"))


def render_template(
    text: str, functions: Mapping[str, Callable], variables: Mapping[str, Any]
) -> str:
    """Render a template.

    functions: name -> what the template may call; variables: plain values (None, bool, int, float,
    str, list, dict).
    Raises: LimitReached, errors of jinja2, and whatever the template's operations raise; the
    tracebacks lead to the template (`template_line`).
    """
    budget = Budget()
    sandbox = _Sandbox(budget, functions)
    template = Template.from_code(sandbox, _code(text), sandbox.make_globals(None))
    context = template.new_context(dict(variables))
    return sandbox.concat(template.root_render_func(context))


def template_line(error: BaseException) -> int | None:
    """The line of the template that an error comes from."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


@lru_cache(maxsize=16)
def _code(text: str) -> CodeType:
    if len(text) > MAX_TEMPLATE:
        raise LimitReached(f"more than {MAX_TEMPLATE:,} characters")
    with warnings.catch_warnings():  # Python's, about "a"()
        warnings.simplefilter("ignore", SyntaxWarning)
        return _Sandbox(Budget(MAX_CONSTANT), {}).compile(text, filename="<chat template>")


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` marks the model's own text and changes nothing."""

    tags = frozenset(("generation",))

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = nodes.Call(nodes.EnvironmentAttribute("passed_on"), [], [], None, None)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)


class _Guards(NodeTransformer):
    """Puts the budget into the nodes of a template."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        step = _filter(nodes.Const(True), STEP, node)
        node.body = [nodes.ExprStmt(step).set_lineno(node.lineno), *node.body]
        if node.test is not None:
            node.test = nodes.And(step, node.test).set_lineno(node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes), JOINED, node)

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, CHARGED, node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, CHARGED, node) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _weighed(pair.key)
        return _filter(node, CHARGED, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, CHARGED, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        if not _constant(node.expr):
            self.generic_visit(node)
            node.expr = _weighed(node.expr)
        for operand in node.ops:
            if not _constant(operand.expr):
                operand.expr = _weighed(self.visit(operand.expr))
        return node


def _filter(value: nodes.Expr, name: str, at: nodes.Node) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None).set_lineno(at.lineno)


def _constant(node: nodes.Expr) -> bool:
    """Whether comparing with it is cheap: a constant, or a short list of constants."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return len(node.items) < 100 and all(isinstance(i, nodes.Const) for i in node.items)
    return isinstance(node, nodes.Const)


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(node, WEIGHED, node)


class _Sandbox(ImmutableSandboxedEnvironment):
    """One rendering's environment."""

    intercepted_binops = BINARY

    def __init__(self, budget: Budget, functions: Mapping[str, Callable]):
        extensions = [_Generation, LoopControls]
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=extensions, cache_size=0
        )  # fmt: skip
        self._budget, self._depth = budget, 0
        self.finalize = self._printed
        self.filters = guarded_filters(budget) | self._guards()
        self.tests = guarded_tests(budget)
        self._functions = {self.globals["range"], *functions.values()}
        self.globals = {
            "range": self.globals["range"], "dict": dict, "cycler": Cycler, "joiner": Joiner,
            "namespace": Namespace, **functions,
        }  # fmt: skip

    def _guards(self) -> dict[str, Callable]:
        budget = self._budget

        def step(context: Context, value: Any) -> Any:
            budget.tick()
            return value

        def weighed(context: Context, value: Any) -> Any:
            budget.tick()
            if not isinstance(value, dict):  # comparing with a mapping hashes, or fails
                budget.weigh(value)
            return value

        def joined(context: Context, values: list) -> str:
            budget.tick()
            for value in values:
                budget.text_room(value)
            join = markup_join if context.eval_ctx.autoescape else str_join
            budget.room(sum(len(v) for v in values if isinstance(v, str)))
            return budget.charge(join(values))

        def charged(context: Context, value: Any) -> Any:
            budget.tick()
            return budget.charge(value)

        # what is passed the context is never computed while the template is compiled
        guards = {STEP: step, WEIGHED: weighed, JOINED: joined, CHARGED: charged}
        return {name: pass_context(guard) for name, guard in guards.items()}

    def _generate(self, source, name, filename, defer_init=False):
        return super()._generate(_Guards().visit(source), name, filename, defer_init)

    def _printed(self, value: Any) -> Any:
        """A value on its way into the output."""
        self._budget.tick()
        self._budget.text_room(value)
        return self._budget.charge(value if isinstance(value, str) else str(value))

    def concat(self, parts: Iterable[str]) -> str:
        """Join the parts of an output."""
        kept, n_bytes = [], 0
        for part in parts:
            kept.append(part)
            n_bytes += len(part) if isinstance(part, str) else 0
            self._budget.room(n_bytes)
        return self._budget.charge("".join(kept))

    def passed_on(self, caller: Macro) -> str:
        """The body of a generation block."""
        return caller()

    def call_binop(self, context, operator, left, right):
        self._budget.tick()
        operator_room(self._budget, operator, left, right)
        return self._budget.charge(super().call_binop(context, operator, left, right))

    def getitem(self, obj, argument):
        if not isinstance(argument, str | int):
            self._budget.weigh(argument)  # it is hashed
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj, attr, value):
        if not super().is_safe_attribute(obj, attr, value):
            return False
        kind = next((kind for kind in METHODS if isinstance(obj, kind)), None)
        return attr in METHODS[kind] if kind else isinstance(obj, RUNTIME)

    def call(__self, __context, __obj, *args, **kwargs):
        self = __self
        self._budget.tick()
        self._budget.charge_bytes(NODE * len(args))
        args = self._checked_call(__obj, args, kwargs)
        if self._depth >= MAX_DEPTH:
            raise LimitReached(f"more than {MAX_DEPTH} calls in one another")
        self._depth += 1
        try:
            return self._budget.charge(super().call(__context, __obj, *args, **kwargs))
        finally:
            self._depth -= 1

    def _checked_call(self, called: Any, args: tuple, kwargs: dict) -> tuple:
        """The arguments of a call that may be made, iterators in them listed where needed."""
        method = getattr(called, "__wrapped__", called)  # jinja2 wraps str.format
        owner = getattr(method, "__self__", None)
        kind = next((kind for kind in METHODS if isinstance(owner, kind)), None)
        if kind and getattr(method, "__name__", "") in METHODS[kind]:
            return method_room(self._budget, owner, method.__name__, args, kwargs)
        if called in MADE_BY_CALLS or isinstance(called, (Cycler, Joiner)):
            self._budget.weigh([args, list(kwargs.values())])
        elif isinstance(called, FunctionType) and called in self._functions:
            self._budget.text_room([args, list(kwargs.values())])
        elif isinstance(owner, LoopContext):
            self._budget.weigh(args)
        elif not isinstance(called, (*RUNTIME, Undefined)) and not isinstance(
            owner, (Cycler, _Sandbox)
        ):
            raise SecurityError(f"a value of type {type(called).__name__!r} cannot be called")
        return args
