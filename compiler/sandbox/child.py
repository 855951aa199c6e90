"""The worker's side: one JSON request a line, one JSON answer a line, until the requests end.

    request := {"do": NAME, ...}          the first is {"do": "enter", "confine": ..., ...}
    answer  := {"ok": {...}} | {"error": {"message", "hint", "code"}}

Where `confine` is true the process locks itself in before anything else is imported. `session` names a module with
`open_session()`, which gives the function that answers all further requests, and `user_error(error, request)`, which puts
an exception that is nobody's own into words.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any, BinaryIO, cast

from ..processes import end_with_parent

Handle = Callable[[Mapping[str, Any]], dict[str, Any]]


def main(requests: int, answers: int) -> None:
    """Serves requests from one file descriptor, answers on another, until the first is closed."""
    with os.fdopen(requests, "rb") as lines, os.fdopen(answers, "wb") as out:
        first = json.loads(lines.readline())
        end_with_parent(first["parent"])
        handle: Handle | None = None
        describe: Callable[[BaseException, Mapping[str, Any]], str] = _plainly
        for request in _all(first, lines):
            try:
                if request is first:
                    said = _enter(first)
                else:
                    if handle is None:  # only now: the process is locked in
                        session = import_module(str(first["session"]))
                        handle, describe = cast("Handle", session.open_session()), session.user_error
                    said = handle(request)
                answer: dict[str, Any] = {"ok": said}
            except BaseException as error:  # noqa: BLE001 - whatever happens is an answer
                if os.environ.get("INFC__DEBUG", "") not in ("", "0"):
                    traceback.print_exception(error, file=sys.stderr)
                answer = {"error": _error(error, describe, request)}
            out.write(json.dumps(answer).encode() + b"\n")
            out.flush()


def _all(first: Any, lines: BinaryIO) -> Any:
    yield first
    for line in lines:
        yield json.loads(line)


def _enter(request: Mapping[str, Any]) -> dict[str, Any]:
    if not request["confine"]:
        return {"missing": []}
    from .enter import enter

    locked = enter(request["read"], request["write"], int(request["most_file_bytes"]))
    return {**asdict(locked), "missing": list(locked.missing)}


def _error(
    error: BaseException, describe: Callable[[BaseException, Mapping[str, Any]], str], request: Mapping[str, Any]
) -> dict[str, Any]:
    from ..disk import disk_full, is_full
    from ..errors import Exit, InfcError, missing_module

    if is_full(error):
        error = disk_full(str(request["folder"]) if "folder" in request else os.getcwd())
    if isinstance(error, ModuleNotFoundError):
        found = missing_module(error)
        error = found if found.exit_code != Exit.INTERNAL else error
    if isinstance(error, InfcError):
        return {"message": error.message, "hint": error.hint, "code": int(error.exit_code)}
    return {"message": describe(error, request), "hint": "", "code": int(Exit.USAGE)}


def _plainly(error: BaseException, request: Mapping[str, Any]) -> str:
    return f"{type(error).__name__}: {error}"
