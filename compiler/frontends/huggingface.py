"""`huggingface("folder")`: config.json + safetensors + tokenizer.json → Graph.

The class is the one that config.json names (`architectures`), from the installed transformers: no code of the folder's
is run, nothing is downloaded. Inputs come from the architecture.
"""

# torch and transformers are typed in part: what comes from them is Any here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from ...dsl.spec import Model
from ...runtime.texts import PARTIAL
from ..errors import InfcError
from ..ir.dims import Range
from ..ir.graph import Array, Graph, InputSpec, Weight
from ..ir.types import TensorType
from . import whole_attention
from .all_experts import all_experts
from .checkpoint import WIDENED, Checkpoint, Locator, find_checkpoint, stored_place
from .config_check import check_config, check_elements, check_kinds, check_layers, check_plain, held_by
from .errors import FrontendError, first_line
from .fields import Field, bounds_of, expected_outputs, field_of, keys_of
from .finite import check_module
from .fx_export import export_module, flatten_outputs
from .hub import snapshot
from .image_size import PROCESSOR, image_field
from .import_mlir import import_program, tensor_weight
from .imported import Imported, Options, Reference
from .layers import recorded
from .missing import check_present, said, without_missing
from .model_class import class_of
from .pickled import read_bin
from .places import placed_weight
from .pooling import append_pooling, pool
from .sentence import Settings, read_json
from .sources import model_source
from .text import Text, library_text, silent
from .text_task import (
    HIDDEN,
    check_outputs,
    head_notes,
    pairs,
    picked_output,
    segment_notes,
    settings_of,
    task_of,
    text_kind,
)
from .to_mlir import Program, to_mlir
from .token_limit import Limit

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Loaded:
    """A module with its checkpoint and what loading it found missing."""

    module: Any
    checkpoint: Checkpoint
    missing: tuple[str, ...]


def load(model: Model, folder: Path, options: Options) -> Imported:
    """The model of a Hugging Face folder, imported. Raises FrontendError."""
    source = source_folder(model)
    config = read_config(source)
    kind = text_kind(model)
    settings = Settings() if kind is None else settings_of(model, kind, source)
    loaded = load_module(source, config, base=kind == "embed")
    fields = fields_of(model, loaded.module, source)
    text: Text | None = None
    if kind is not None:
        text = library_text(source, config, settings, fields[0].spec.maximum, options.work, pairs=pairs(model))
    tokens, origin = token_bounds(model, fields, loaded.module, text.limit if text else Limit())
    limits = bounds_of(model, tuple(fields)) | tokens
    with all_experts(loaded.module) as experts:
        program, plain = _traced(loaded.module, fields, limits, picked_output(kind), str(folder))
    if experts:
        plain = (
            *plain,
            f"a mixture of experts: each token goes through all {experts} of a layer, whichever it chooses",
        )
    loader = _Weights(loaded.checkpoint)
    expected = () if kind else expected_outputs(model)
    graph = import_program(program, model.name, loader=loader, expected=expected)
    graph, dropped = without_missing(graph, loaded.missing, named=bool(expected))
    check_present(graph, loaded.missing, type(loaded.module).__name__, source)
    unused = check_module(loaded.module, set(program.weights), source.name, nan_allowed=model.source.nan_allowed)
    keys = tuple(name for name in keys_of(expected, program.exported.outputs) if name not in dropped)
    pooled = settings if kind == "embed" else None
    if pooled is not None:
        graph = append_pooling(
            graph, pooled.pooling, pooled.stages, partial=not pooled.include_prompt, source=source.name,
            nan_allowed=model.source.nan_allowed,
        )  # fmt: skip
    task, more = None, ()
    if kind is not None and text is not None:
        check_outputs(model, kind, graph)
        task = task_of(model, kind, graph, text, settings, config, source)
        more = (
            f"a text has at most {task.limit} tokens: {origin}",
            *head_notes(kind, config),
            *segment_notes(model, text, graph),
        )
    used = {
        source / "config.json",
        *loaded.checkpoint.files,
        *settings.files,
        *(text.files if text is not None else ()),
    }
    if (source / PROCESSOR).is_file():
        used.add(source / PROCESSOR)
    return Imported(
        graph=graph,
        mlir=program.text(),
        reference=_reference(loaded.module, fields, keys, graph, pooled),
        layers=_layers(loaded.module, fields),
        used_files=tuple(sorted(used)),
        text=task,
        close=text.close if text is not None else lambda: None,
        notes=(*plain, *more, *said(dropped), *loader.notes(), *unused),
    )


def source_folder(model: Model) -> Path:
    """The folder that the spec names, or the snapshot in the local hub cache. Raises FrontendError."""
    source = model.source
    if source.path is not None:
        path = Path(source.path)
        if not path.is_dir():
            kind = "is a file" if path.is_file() else "does not exist"
            raise FrontendError(
                f"the model folder {source.written or path.name!r} {kind}", hint="name the model's folder"
            )
        return path
    return snapshot(source)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, with one known class under `architectures`. Raises FrontendError."""
    path = folder / "config.json"
    if not path.is_file():
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise FrontendError(f"{folder.name} has no config.json; it has {names}")
    config = read_json(path)
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise FrontendError(
            f"{folder.name}/config.json names no class under `architectures`",
            hint='add the class, such as `"architectures": ["BertModel"]`',
        )
    if "model_type" not in config:
        raise FrontendError(
            f"{folder.name}/config.json has no `model_type`", hint='add it, such as `"model_type": "bert"`'
        )
    return config


def load_module(folder: Path, config: Mapping[str, Any], *, base: bool) -> Loaded:
    """The module in float32 with its weights mapped from the checkpoint. Raises FrontendError naming tensor and shapes."""
    cls = class_of(folder, config, base)
    check_plain(config, folder)
    checkpoint = find_checkpoint(folder)
    state = read_bin(checkpoint) if checkpoint.pickled else None
    shapes = (
        [t.shape for t in checkpoint.tensors.values()] if state is None else [tuple(t.shape) for t in state.values()]
    )
    held, where = held_by(shapes), f"{folder.name}/config.json"
    check_config(config, held, where)
    arguments: dict[str, Any] = {
        "local_files_only": True, "trust_remote_code": False, "dtype": torch.float32, "output_loading_info": True,
        "ignore_mismatched_sizes": True, "attn_implementation": "eager",
    }  # fmt: skip
    with silent():
        try:
            check_kinds(config, _usual(cls), where)
            settings = cls.config_class.from_pretrained(folder, local_files_only=True)
        except FrontendError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the class says of a config, it is the config's
            raise FrontendError(f"{where} does not fit {cls.__name__}: {first_line(error)}") from None
        _tensors_only(settings)
        settings.return_dict = True
        try:
            with torch.device("meta"):
                made = cls(settings)
            check_elements([(n, tuple(t.shape)) for n, t in made.state_dict().items()], held, where)
            del made
            if state is not None:
                module, info = cls.from_pretrained(None, config=settings, state_dict=state, **arguments)
            else:
                module, info = cls.from_pretrained(folder, config=settings, use_safetensors=True, **arguments)
        except FrontendError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the class says of a config, it is the config's
            raise FrontendError(f"{folder.name} cannot be loaded as {cls.__name__}: {first_line(error)}") from None
    wrong = sorted(info["mismatched_keys"])
    if wrong:
        name, stored, expected = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise FrontendError(
            f"{_file_of(checkpoint, name)}: tensor {name!r} has shape {list(stored)}, and config.json makes it "
            f"{list(expected)}{more}",
            hint="the checkpoint belongs to another config.json",
        )
    missing = tuple(sorted(info["missing_keys"]))
    check_layers(missing, set(module.state_dict()) - set(missing), where)
    return Loaded(module.eval(), checkpoint, missing)


def _tensors_only(settings: Any) -> None:
    """Turns off what the model would give beside tensors, in the configs of its parts too."""
    for name in ("use_cache", "output_attentions", "output_hidden_states"):
        if getattr(settings, name, False):
            setattr(settings, name, False)
    for value in vars(settings).values():
        if isinstance(value, transformers.PreTrainedConfig):
            _tensors_only(value)


def _usual(cls: Any) -> dict[str, Any]:
    """The config class's own values by key; {} where it has none without arguments."""
    try:
        return dict(cls.config_class().to_dict())
    except Exception:  # noqa: BLE001 - such classes check their fields themselves
        return {}


def _file_of(checkpoint: Checkpoint, name: str) -> str:
    for key, stored in checkpoint.tensors.items():
        if key == name or name.endswith(f".{key}") or key.endswith(f".{name}"):
            return stored.file.name
    return checkpoint.files[-1].name


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_of(model: Model, module: Any, folder: Path) -> list[Field]:
    """The inputs that the architecture takes, checked against the spec's `input` lines. Raises FrontendError."""
    main = getattr(module, "main_input_name", "input_ids")
    if main not in (takes := inspect.signature(module.forward).parameters) and "input_ids" in takes:
        main = "input_ids"  # a text tower may inherit the name of the whole model's
    if main == "pixel_values":
        fields = [image_field(module.config, folder)]
    elif main == "input_ids":
        fields = _text_fields(module)
    else:
        raise FrontendError(
            f"{type(module).__name__} takes {main!r}, and huggingface sources take text (input_ids) or images "
            "(pixel_values)",
            hint='use `torch("file.py:factory")` and declare the inputs',
        )
    if getattr(module.config, "is_encoder_decoder", False):
        raise FrontendError(
            f"{type(module).__name__} is an encoder with a decoder, which is not supported yet",
            hint=_encoder_hint(module),
        )
    written = [i for i in model.inputs if i.kind == "tensor"]
    for line in written:
        given = field_of(line)
        ours = next((f for f in fields if f.parameter == given.parameter), None)
        if ours is None:
            raise FrontendError(
                f"{type(module).__name__} takes {', '.join(f.name for f in fields)}, not {given.parameter!r}",
                hint="leave the input lines out: they come from the architecture",
            )
        if given.dtype != ours.dtype or len(given.shape) != len(ours.shape):
            raise FrontendError(
                f"input {given.name!r} is {ours.dtype}[{', '.join(map(str, ours.shape))}] in {type(module).__name__}, "
                f"and the spec says {given.type}"
            )
        renamed = replace(ours, name=given.name, shape=given.shape)
        fields[fields.index(ours)] = renamed
    if model.task.kind != "tensor" and main != "input_ids":
        raise FrontendError(f"`task {model.task.kind}` needs a model of text, and {type(module).__name__} takes {main}")
    return fields


def _encoder_hint(module: Any) -> str:
    """How the encoder alone is compiled, where transformers has a class of it."""
    encoder: Any = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(module.config), None)
    if encoder is None:
        return 'its encoder alone can be compiled: `torch("file.py:factory")` that returns `model.get_encoder()`'
    return f'its encoder alone is `"architectures": ["{encoder.__name__}"]` in config.json, or `task embed`'


def _text_fields(module: Any) -> list[Field]:
    config = module.config
    takes = inspect.signature(module.forward).parameters
    shape: tuple[int | str, ...] = ("batch", "tokens")
    vocabulary = int(getattr(config, "vocab_size", 0)) or None
    fields = [Field("input_ids", "input_ids", "int64", shape, InputSpec(None, 0, vocabulary and vocabulary - 1))]
    if "attention_mask" in takes:
        fields.append(Field("attention_mask", "attention_mask", "int64", shape, InputSpec(1, 0, 1, mask=True)))
    kinds = int(getattr(config, "type_vocab_size", 0) or 0)
    if "token_type_ids" in takes and kinds > 1:
        fields.append(Field("token_type_ids", "token_type_ids", "int64", shape, InputSpec(0, 0, kinds - 1)))
    return fields


def position_limit(module: Any) -> int | None:
    """The most tokens that the position table holds; None where there is none. Tables with a padding row (RoBERTa,
    MPNet) start after it."""
    for name, table in module.named_modules():
        if name.rsplit(".", 1)[-1] == "position_embeddings" and isinstance(table, nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    limit = getattr(module.config, "max_position_embeddings", None)
    return int(limit) if limit and limit > 0 else None


def token_bounds(model: Model, fields: list[Field], module: Any, said: Limit) -> tuple[dict[str, Range], str]:
    """Bounds of `tokens`, and who says the upper one: the spec, else what the library takes (`said`) and the position table
    holds. Raises FrontendError."""
    if not any("tokens" in f.symbols for f in fields):
        return {}, ""
    table = position_limit(module)
    line = next((d for d in model.dims if d.name == "tokens"), None)
    text = next((i for i in model.inputs if i.kind == "text" and i.limit_tokens is not None), None)
    low = line.lo if line is not None else 1
    asked = [v for v in (line.hi if line else None, text.limit_tokens if text else None) if v is not None]
    if not asked:
        limit = said.settled().within(table, f"the positions of {type(module).__name__}")
        return {"tokens": (1, limit.tokens or 1)}, limit.origin
    high = min(asked)
    if table is not None and high > table:
        written = (
            f"up to {high} tokens" if text is not None and text.limit_tokens == high else f"tokens in {low}..{high}"
        )
        raise FrontendError(
            f"the spec says {written}, and {type(module).__name__} has positions for {table}",
            hint=f"write `up to {table} tokens`" if text is not None else f"write `dim tokens in {low}..{table}`",
        )
    return {"tokens": (low, high)}, "the spec"


# ── tracing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _traced(
    module: Any, fields: list[Field], limits: Mapping[str, Range], picked: str | None, root: str
) -> tuple[Program, tuple[str, ...]]:
    """The program with attention kept whole where the class allows it; else with the model's own attention."""
    kind = type(module).__name__
    whole = bool(type(module)._supports_attention_backend)
    note = ""
    if not whole and any("tokens" in f.symbols for f in fields):
        note = f"{kind} has an attention of its own; it is imported op by op"
    try:
        with silent(), whole_attention.attention_as(module, whole_attention.NAME if whole else whole_attention.OWN):
            return to_mlir(export_module(module, fields, limits, picked=picked), root), (note,) if note else ()
    except Exception as error:
        reason = _plain_reason(error)
        if reason is None and isinstance(error, InfcError):
            raise
        # A class that looks into the mask itself does not take ours.
        reason = reason or first_line(error)
    try:
        with silent(), whole_attention.attention_as(module, _own_attention(module)):
            program = to_mlir(export_module(module, fields, limits, picked=picked), root)
    except InfcError:
        raise
    except Exception as error:  # noqa: BLE001 - the model's code may raise anything
        raise _forward_failed(kind, error, root) from None
    return program, (f"attention of {kind} is not kept whole: {reason}",)


def _forward_failed(kind: str, error: BaseException, root: str) -> FrontendError:
    """forward raised: the model does not take the inputs that a spec can give it, or not for every size."""
    place = model_source("".join(traceback.format_tb(error.__traceback__)), root)
    said = f"{type(error).__name__}: {first_line(error)}"
    return FrontendError(
        f"{f'{place}: ' if place else ''}{kind} cannot be traced: {said}",
        hint='give it inputs and sizes that it takes, or use `torch("file.py:factory")` with your own code',
    )


def _own_attention(module: Any) -> str:
    """The implementation that transformers would pick."""
    return "sdpa" if getattr(type(module), "_supports_sdpa", False) else "eager"


def _plain_reason(error: BaseException | None) -> str | None:
    """Why the plain path is needed, where that is what error says."""
    while error is not None:
        if isinstance(error, whole_attention.PlainPath):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


class _Weights:
    """Weights by storage address: mapped from the file where torch mapped them; where the file has another float, the
    tensor of that name with those values; else held in memory."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._locator = Locator(checkpoint)
        self._widened = [t for t in checkpoint.tensors.values() if t.dtype in WIDENED]
        self._dtypes = {t.dtype for t in self._widened}

    def __call__(self, name: str, tensor: torch.Tensor, type_: TensorType) -> Weight:
        places = [self._locator.find(tensor.data_ptr(), type_)] if tensor.is_contiguous() else []
        if type_.dtype == "float32":
            alike = (
                t for t in self._widened if t.shape == type_.shape and (name.endswith(t.name) or t.name.endswith(name))
            )
            places += map(stored_place, alike)
        value = tensor.numpy(force=True)
        for place in filter(None, places):
            weight = placed_weight(place, type_)
            if np.array_equal(weight.load(), value, equal_nan=value.dtype.kind == "f"):
                return weight
        return tensor_weight(name, tensor, type_)

    def notes(self) -> tuple[str, ...]:
        """What was converted."""
        names = {"F16": "float16", "BF16": "bfloat16", "F64": "float64"}
        return tuple(f"weights stored as {names[d]} are computed in float32" for d in sorted(self._dtypes))


def _reference(
    module: Any, fields: list[Field], keys: tuple[str, ...], graph: Graph, settings: Settings | None
) -> Reference:
    """The original module on NumPy inputs, with the model's own attention."""
    names = [name for name, _ in graph.outputs]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = {f.parameter: _tensor(inputs, f, fields) for f in fields}
        with torch.no_grad(), silent(), whole_attention.attention_as(module, _own_attention(module)):
            found = flatten_outputs(module(**tensors))
        if settings is None:
            return {name: found[key].numpy() for name, key in zip(names, keys, strict=True)}
        mask = tensors["attention_mask"].numpy()
        pooled = None if settings.include_prompt else inputs.get(PARTIAL, np.ones_like(mask))
        return {"embedding": pool(found[HIDDEN].numpy(), mask, settings.pooling, settings.stages, pooled)}

    return run


def _layers(module: Any, fields: list[Field]) -> Reference:
    """The output of each of the module's layers."""

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = {f.parameter: _tensor(inputs, f, fields) for f in fields}
        own = whole_attention.attention_as(module, _own_attention(module))
        with torch.no_grad(), silent(), own, recorded(module) as values:
            module(**tensors)
        return values

    return run


def _tensor(inputs: Mapping[str, Array], field: Field, fields: list[Field]) -> torch.Tensor:
    if field.name in inputs:
        return torch.from_numpy(np.ascontiguousarray(inputs[field.name]).astype(field.dtype, copy=True))
    shape = next(inputs[f.name].shape for f in fields if f.name in inputs)
    return torch.full(tuple(shape), field.spec.default or 0, dtype=getattr(torch, field.dtype))
