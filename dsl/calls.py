"""Values that are written as calls: `huggingface("dir")`, `int4(group = 32)`, and bare ones such as `float32`."""

from __future__ import annotations

from .cursor import CallValue, Captured, Cursor
from .keywords import CALLS, CallForm, Option
from .span import Span
from .suggest import hint, listed
from .syntax import Atom, Call, Group, Term
from .values import read
from .write import describe, shorten, write_term

_ARTICLES = {
    "source": "a source",
    "task": "a task",
    "dataset": "a data set",
    "metric": "a metric",
    "precision": "a precision",
}


def read_call(cursor: Cursor, type: str) -> Captured | None:
    """Reads a call of one of the forms in `CALLS[type]`."""
    forms = {form.name: form for form in CALLS[type]}
    known = listed(form.name if form.bare else f"{form.name}(...)" for form in forms.values())
    cursor.expand()
    term = cursor.peek()
    name = term.name if isinstance(term, Call) and term.open == "(" else term
    if not isinstance(name, Atom) or name.kind != "WORD":
        what = ""
        if term is not None:
            text, kind = describe(term, cursor.peek(1))
            what = f", and {shorten(text)} is {kind}"
        cursor.error("E0201", f"{cursor.subject} needs {_ARTICLES[type]}{what}", None, f"expected {known}")
        return None
    form = forms.get(name.text)
    if form is None:
        cursor.error(
            "E0208", f"there is no {_ARTICLES[type].split(' ', 1)[1]} `{shorten(name.text)}`", name.span, "",
            hint(name.text, forms, "known"),
        )  # fmt: skip
        return None
    assert term is not None
    cursor.at += 1
    if isinstance(term, Atom):
        if not form.bare:
            cursor.error("E0214", f"{form.name} needs {_first(form)} in brackets", term.span, f"expected {usage(form)}")
            return None
        return Captured(CallValue(form.name, {}, term.span), term.span)
    args = _read_args(cursor, form, term)
    if args is None:
        return None
    values, groups = args
    cursor.terms[cursor.at - 1] = Call(term.name, term.open, groups, term.span)
    return Captured(CallValue(form.name, values, term.span), term.span)


LISTS = {"strings": "string", "counts": "count"}
"""Types of options that take several values, separated by commas, and the type of each."""


def _read_args(cursor: Cursor, form: CallForm, call: Call) -> tuple[dict[str, Captured], tuple[Group, ...]] | None:
    found_before = len(cursor.context.found)
    values: dict[str, Captured] = {}
    groups: list[Group] = []
    positional = [o for o in form.options if o.positional]
    open_list: Option | None = None
    for group in call.groups:
        first = group[0]
        part = Cursor(list(group), _after(group), cursor.context, form.name)
        option = _named(part, form)
        if option is not None:
            part.at, part.subject = 2, option.name
            open_list = option if option.type in LISTS else None
        elif isinstance(first, Atom) and len(group) > 1 and isinstance(group[1], Atom) and group[1].text == "=":
            if not form.options:
                part.error("E0213", f"{form.name} takes no options", first.span)
            else:
                part.error(
                    "E0213", f"{form.name} has no option `{shorten(write_term(first))}`", first.span, "",
                    hint(write_term(first), [o.name for o in form.options], "options"),
                )  # fmt: skip
            groups.append(group)
            continue
        elif open_list is not None:
            option = open_list
        elif positional:
            option = positional.pop(0)
        else:
            help = (f"write: {usage(form)}",)
            part.error("E0213", f"{form.name} takes nothing more by position", first.span, "", help)
            groups.append(group)
            continue
        if option.name in values and option is not open_list:
            part.error("E0215", f"`{option.name}` is given twice", first.span, "expected it once")
        value = read(part, LISTS.get(option.type, option.type))
        if value is not None and part.peek() is not None:
            part.error(
                "E0209",
                f"`{shorten(write_term(part.terms[part.at]))}` does not belong here",
                None,
                "expected `,` or `)`",
            )
        if value is not None:
            if option.type in LISTS:
                before = values[option.name].value if option.name in values else ()
                value = Captured((*before, value.value), value.span)
            values[option.name] = value
        groups.append(tuple(part.terms))
    if len(cursor.context.found) == found_before:
        _check_given(cursor, form, call, values)
    return (values, tuple(groups)) if len(cursor.context.found) == found_before else None


def _named(part: Cursor, form: CallForm) -> Option | None:
    """The option that `name = ...` names."""
    first, second = part.peek(), part.peek(1)
    if isinstance(first, Atom) and isinstance(second, Atom) and first.kind == "WORD" and second.text == "=":
        return next((o for o in form.options if o.name == first.text), None)
    return None


def _check_given(cursor: Cursor, form: CallForm, call: Call, values: dict[str, Captured]) -> None:
    missing = [o.name for o in form.options if o.required and o.name not in values]
    if missing:
        cursor.error("E0214", f"{form.name} needs {listed(missing, 'and')}", call.span, f"expected {usage(form)}")
    if form.one_of and sum(name in values for name in form.one_of) != 1:
        cursor.error("E0214", f"{form.name} needs one of {listed(form.one_of)}", call.span, f"expected {usage(form)}")


def usage(form: CallForm) -> str:
    """How a call is written: `huggingface("path", hub = ..., revision = ...)`."""
    parts: list[str] = []
    for option in form.options:
        if option.positional:
            parts.append('"file.py:function"' if option.type == "entry" else f'"{option.name}"')
        else:
            parts.append(f"{option.name} = ...")
    return f"{form.name}({', '.join(parts)})" if parts else form.name


def _first(form: CallForm) -> str:
    return "what it reads" if any(o.positional for o in form.options) else "its options"


def _after(group: tuple[Term, ...]) -> Span:
    last = group[-1].span
    return Span(last.file, last.line, last.end, last.end + 1)
