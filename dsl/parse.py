"""Tokens → AST: drives the LALR tables, and goes on after an error at the next newline, `;` or brace."""

from __future__ import annotations

from typing import Any

from ._tables import END, RULES, STATES
from .balance import balance_brackets
from .diagnostics import Diagnostic
from .lexer import tokenize
from .span import Span
from .syntax import Atom, Block, Call, Group, Statement, Token

_NAMES = {"NUMBER": "a number", "STRING": "a string", "OP": "an operator", "RATIO": "a unit", "SIZES": "a shape"}


def parse_text(text: str, file: str) -> tuple[tuple[Statement, ...], list[Diagnostic]]:
    """The statements of a text and every error of its form; a statement with an error is there, marked `bad`."""
    tokens, found = tokenize(text, file)
    tokens = _drop_unreadable([t for t in tokens if t.kind != "COMMENT"])
    tokens, repairs = balance_brackets(tokens, file)
    parser = _Parser(file, found + repairs)
    return parser.run(tokens), parser.found


def _drop_unreadable(tokens: list[Token]) -> list[Token]:
    """Without BAD tokens; their neighbour becomes `bad`, so that its statement is not judged twice."""
    out: list[Token] = []
    taint = False
    for token in tokens:
        if token.kind == "BAD":
            if out and out[-1].kind != "_SEP":
                out[-1] = out[-1]._replace(bad=True)
            else:
                taint = True
        else:
            out.append(token._replace(bad=True) if taint else token)
            taint = False
    return out


class _Parser:
    """The stack of an LALR(1) parse. It recovers inside the innermost body, so an error never leaves its block."""

    def __init__(self, file: str, found: list[Diagnostic]) -> None:
        self.file = file
        self.found = found
        self.states: list[int] = [0]
        self.values: list[Any] = []
        self.last: Token | None = None

    def run(self, tokens: list[Token]) -> tuple[Statement, ...]:
        end = Token("$END", "", tokens[-1].line if tokens else 1, tokens[-1].end if tokens else 1)
        queue = [*tokens, end]
        i = 0
        stuck = -1
        while i < len(queue):
            token = queue[i]
            if self.feed(token):
                self.last = token
                i += 1
            elif stuck == i:  # recovering here has not helped: go on without this token
                i += 1
            else:
                stuck = i
                i = self.recover(queue, i)
        return tuple(self.values[0])

    def feed(self, token: Token) -> bool:
        """Reduces and shifts; False, with the stack as it can be recovered from, where the token fits nowhere."""
        while True:
            action = STATES[self.states[-1]].get(token.kind)
            if action is None:
                return token.kind == "$END" and self.states[-1] == END
            if action >= 0:
                self.states.append(action)
                self.values.append(token)
                return True
            self.reduce(~action)
            if token.kind == "$END" and self.states[-1] == END:
                return True

    def reduce(self, rule: int) -> None:
        origin, names, keep = RULES[rule]
        n = len(names)
        children: list[Any] = []
        for name, kept, value in zip(names, keep, self.values[len(self.values) - n :], strict=True):
            if name.startswith("__"):
                children += value
            elif kept:
                children.append(value)
        raw: list[Any] = self.values[len(self.values) - n :]
        del self.values[len(self.values) - n :]
        del self.states[len(self.states) - n :]
        self.states.append(STATES[self.states[-1]][origin])
        self.values.append(self.build(origin, children, raw))

    def build(self, origin: str, children: list[Any], raw: list[Any]) -> Any:
        if origin.startswith("__"):
            return children
        if origin == "term":
            child = children[0]
            return self.atom(child) if isinstance(child, Token) else child
        if origin in ("group", "groups"):
            return tuple(children)
        if origin in ("call", "index"):
            name = self.atom(raw[0])
            close: Token = raw[-1]
            span = name.span.to(Span(self.file, close.line, close.col, close.end))
            return Call(name, raw[1].text, children[1] if len(children) > 1 else (), span)
        if origin == "statement":
            block = next((c for c in children if isinstance(c, Block)), None)
            groups: tuple[Group, ...] = ()
            if len(children) > 1 and not isinstance(children[1], Block):
                groups = children[1]
            return Statement(self.atom(children[0]), groups, block, bad=_has_bad(tuple(raw)))
        if origin == "block":
            return Block(children[0], Span(self.file, raw[0].line, raw[0].col, raw[0].end))
        if origin == "body":
            return tuple(children)
        return children[0]

    def atom(self, token: Token) -> Any:
        return _BadAtom(token, self.file) if token.bad else Atom(token.kind, token.text, self.span(token))

    def span(self, token: Token) -> Span:
        return Span(self.file, token.line, token.col, max(token.end, token.col + 1))

    def recover(self, queue: list[Token], i: int) -> int:
        """Reports the token at `i`, makes what the statement has so far a bad one, and skips to where one can end."""
        token = queue[i]
        last = self.last
        if last is not None and last.kind == "RBRACE" and token.kind not in ("_SEP", "RBRACE", "$END"):
            self.found.append(
                Diagnostic("E0108", f"`{token.text}` needs a newline or `;` before it", self.span(token))
            )  # fmt: skip
            queue.insert(i, Token("_SEP", ";", token.line, token.col))
            return i
        self.report(token, last)
        head = self.unwind()
        while queue[i].kind not in ("_SEP", "LBRACE", "RBRACE", "$END"):
            if head is None and queue[i].kind == "WORD":
                head = queue[i]._replace(bad=True)
            i += 1
        if head is None and queue[i].kind == "LBRACE":
            head = Token("WORD", "_", queue[i].line, queue[i].col, bad=True)
        if head is None:  # nothing was there that could be a statement, so no separator is expected after it
            while queue[i].kind == "_SEP":
                i += 1
        if head is not None:
            self.feed(head._replace(bad=True))
            self.last = head
        return i

    def unwind(self) -> Token | None:
        """Pops to the body that the broken statement stands in; its word, when it had one."""
        head: Token | None = None
        while (action := STATES[self.states[-1]].get("WORD", 0)) < 0:  # finish what is complete
            self.reduce(~action)
        while "statement" not in STATES[self.states[-1]]:
            self.states.pop()
            value = self.values.pop()
            if isinstance(value, Token) and value.kind == "WORD":
                head = value
            elif isinstance(value, Statement):  # complete, and what follows it is wrong
                head = Token("WORD", value.word.text, value.word.span.line, value.word.span.col)
        return head

    def report(self, token: Token, last: Token | None) -> None:
        at = self.span(token)
        starts = last is None or last.kind in ("_SEP", "LBRACE", "RBRACE")
        if starts and token.kind == "LBRACE":
            self.found.append(
                Diagnostic("E0106", "this block has no word before it", at, "expected a word such as `model`")
            )
        elif starts:
            what = _NAMES.get(token.kind, "punctuation")
            self.found.append(
                Diagnostic("E0106", f"a statement begins with a word, and `{_short(token.text)}` is {what}", at)
            )  # fmt: skip
        elif token.kind == "COMMA" or (last is not None and last.kind == "COMMA"):
            comma = token if token.kind == "COMMA" else last
            assert comma is not None
            side = "before" if token.kind == "COMMA" else "after"
            self.found.append(Diagnostic("E0107", f"a value is missing {side} this comma", self.span(comma)))
        else:
            shown = "the end of the line" if token.kind in ("_SEP", "$END") else f"`{_short(token.text)}`"
            self.found.append(Diagnostic("E0107", f"{shown} does not belong here", at))


class _BadAtom(Atom):
    """An atom made of a token that was already reported."""

    __slots__ = ()

    def __init__(self, token: Token, file: str) -> None:
        super().__init__(token.kind, token.text, Span(file, token.line, token.col, max(token.end, token.col + 1)))


def _has_bad(value: Any) -> bool:
    if isinstance(value, Token):
        return value.bad
    if isinstance(value, tuple):
        return any(_has_bad(v) for v in value)  # pyright: ignore
    if isinstance(value, Call):
        return isinstance(value.name, _BadAtom) or _has_bad(value.groups)
    return isinstance(value, _BadAtom)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:21] + "..."
