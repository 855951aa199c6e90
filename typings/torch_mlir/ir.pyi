"""The part of MLIR's Python bindings that infc uses."""

from typing import Any

class Context: ...

class Location:
    @staticmethod
    def name(name: str, context: Context | None = ...) -> Location: ...

class StringAttr:
    @staticmethod
    def get(value: str, context: Context | None = ...) -> StringAttr: ...

class Value: ...

class Operation:
    @staticmethod
    def create(name: str, results: list[Any] = ..., attributes: dict[str, Any] = ...) -> Operation: ...
    @property
    def result(self) -> Value: ...
