"""The part of torch-mlir's FX importer that infc uses and overrides."""

from typing import Any

from ..ir import Context, Location, Value

class ContextCache:
    _c: Context
    def __init__(self, context: Context, *, py_attr_tracker: Any = ...) -> None: ...
    def get_node_location(self, node: Any) -> Location | None: ...
    def get_vtensor_type(self, shape: Any, dtype: Any) -> Any: ...

class GraphNodeImporter:
    _cc: ContextCache
    def _import_literal(self, py_value: Any, info: Any = ...) -> Value: ...

class FxImporter:
    _cc: ContextCache
    _py_attr_tracker: Any
    module: Any
    def __init__(
        self, *, context: Context | None = ..., graph_node_importer_cls: type[GraphNodeImporter] | None = ...
    ) -> None: ...
    def import_program(self, prog: Any, *, func_name: str = ...) -> Any: ...
