"""What stands around a model of text: how its texts become tokens, and what becomes of its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ...dsl.spec import Input, Model
from ..ir.graph import Graph
from ..ir.types import TensorType
from .errors import FrontendError
from .fields import expected_outputs
from .heads import LOGITS, class_scores, classes_of, pair_score
from .imported import TextKind, TextTask
from .sentence import WHOLE, Settings, read_cross_settings, read_settings, shorter
from .stages import UNIT
from .text import Text

HIDDEN = "last_hidden_state"


def text_kind(model: Model) -> TextKind | None:
    """The model's task where it reads text. Raises FrontendError where texts of a pair have bounds of their own."""
    kind = next((k for k in get_args(TextKind) if k == model.task.kind), None)
    texts = _texts(model, kind)
    if kind is None or len(texts) < 2:
        return kind
    first, second = texts
    if (first.limit_tokens, first.policy) != (second.limit_tokens, second.policy):
        raise FrontendError(
            f"the inputs {first.name!r} and {second.name!r} have bounds of their own, and a pair is cut as one text is",
            hint="write the same behind both, such as `string, up to 256 tokens, truncate`",
        )
    return kind


def _texts(model: Model, kind: str | None) -> list[Input]:
    """The text inputs; of a reranker the query first, however they are written."""
    texts = [i for i in model.inputs if i.kind == "text"]
    return sorted(texts, key=lambda line: line.name != "query") if kind == "rerank" else texts


def settings_of(model: Model, kind: TextKind, folder: Path) -> Settings:
    """What the folder's sentence-transformers files say for the task; a classifier's are not read, as transformers does not.
    Raises FrontendError."""
    if kind == "embed":
        return read_settings(folder, model.task)
    return read_cross_settings(folder) if kind == "rerank" else Settings()


def picked_output(kind: TextKind | None) -> str | None:
    """The one output of the model that the task needs; None: all."""
    return None if kind is None else HIDDEN if kind == "embed" else LOGITS


def pairs(model: Model) -> bool:
    """Whether a request's texts come in pairs."""
    return len(_texts(model, None)) == 2


def check_outputs(model: Model, kind: TextKind, graph: Graph) -> None:
    """Raises FrontendError for an `output` line that the task does not give so."""
    gives = {name: node.type for name, node in graph.outputs}
    for line in expected_outputs(model):
        if line.foreign is not None or gives.get(line.name) != line.type:
            said = ", ".join(f"{name}: {_written(type_)}" for name, type_ in gives.items())
            raise FrontendError(
                f"the spec says output {line.name}: {_written(line.type)}, and the model of `task {kind}` gives {said}",
                hint="leave the output line out, or write it so",
            )


def _written(type_: TensorType) -> str:
    """As a spec writes it."""
    return f"{type_.dtype}[{', '.join(map(str, type_.shape))}]"


def head_notes(kind: TextKind, config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the build report says where an embedder is made of a classifier."""
    saved = str(config["architectures"][0])
    if kind != "embed" or "For" not in saved:
        return ()
    return (f"the folder was saved as {saved[:80]}: its head is not used by `task embed`",)


def segment_notes(model: Model, text: Text, graph: Graph) -> tuple[str, ...]:
    """What the build report says where a model could tell the texts of a pair apart and is not told."""
    if text.segments or not pairs(model) or "token_type_ids" not in graph.input_specs:
        return ()
    return (
        "the folder's tokenizer gives no segment ids, so both texts of a pair are in segment 0, as with transformers",
    )


def task_of(
    model: Model, kind: TextKind, graph: Graph, text: Text, settings: Settings, config: Mapping[str, Any], folder: Path
) -> TextTask:
    """The task of a model whose graph is `graph`. Raises FrontendError where its output is not what the task needs."""
    lines = _texts(model, kind)
    limit = graph.dims["tokens"][1]
    if limit < text.frame:
        raise FrontendError(
            f"a limit of {limit} tokens leaves no room for the {text.frame} special tokens of {folder.name}'s tokenizer",
            hint=f"write `up to {text.frame + 1} tokens` or more",
        )
    task = TextTask(
        kind=kind,
        texts=tuple(i.name for i in lines) or ("text",),
        tokenizer=text.tokenizer,
        limit=limit,
        overflow=lines[0].policy if lines else "reject",
        side=text.side,
        segments=text.segments,
    )
    if kind == "embed":
        return replace(
            task,
            prompt=settings.prompt,
            prompts=settings.prompts,
            include_prompt=settings.include_prompt,
            pooling=settings.pooling,
            normalize=settings.stages[-1:] == (UNIT,),
            dimensions=_dimensions(model, config, graph.outputs[0][1].type.shape[-1], folder.name),
        )
    count = _classes(graph, kind, config, folder)
    if kind == "tag":
        if not text.joins:
            raise FrontendError(
                f"{folder.name}: the tokenizer's class puts words together by code of its own, and `task tag` needs one that "
                "leaves it to tokenizer.json"
            )
        labels = classes_of({} if model.task.labels is not None else config, count, folder.name)
        return replace(task, labels=labels, aggregation=model.task.aggregation, unknown=text.unknown)
    if kind == "rerank":
        if count != 1:
            raise FrontendError(
                f"`task rerank` needs a model of one score, and {folder.name} has {count} classes",
                hint="write `task classify` with two inputs for a classifier of pairs",
            )
        where = f"{folder.name}/{WHOLE} or config.json"
        return replace(task, activation=pair_score(config, settings.activation, where))
    # A file's replace the folder's, and are read outside.
    own = model.task.labels is not None
    labels = classes_of({} if own else config, count, folder.name)
    if model.task.top > count:
        raise FrontendError(f"`top = {model.task.top}`, and {folder.name} has {count} classes")
    return replace(task, labels=labels, activation=class_scores(config, count, folder.name), top=model.task.top)


def _dimensions(model: Model, config: Mapping[str, Any], width: Any, name: str) -> tuple[int, ...]:
    """What the spec says, else the folder. Raises FrontendError for more than the embedding has."""
    said = model.task.dimensions
    if not said:
        return shorter(config, width, name)
    if max(said) > width or len(set(said)) < len(said):
        raise FrontendError(
            f"`dimensions = {', '.join(map(str, said))}`, and an embedding of {name} has {width}",
            hint=f"write different counts of at most {width}",
        )
    return tuple(sorted({n for n in said if n < width}))


def _classes(graph: Graph, kind: TextKind, config: Mapping[str, Any], folder: Path) -> int:
    """How many classes each row, or each token, has logits of."""
    shape = graph.outputs[0][1].type.shape
    free = [graph.batch_dim or "batch", *([graph.length_dim] if kind == "tag" else [])]
    if isinstance(shape[-1], int) and [*map(str, shape[:-1])] == free:
        return shape[-1]
    wanted, saved = ("batch, tokens, classes", "Token") if kind == "tag" else ("batch, classes", "Sequence")
    raise FrontendError(
        f"`task {kind}` needs logits of the shape [{wanted}], and those of {config['architectures'][0]!r:.80} in "
        f"{folder.name} have [{', '.join(map(str, shape))}]",
        hint=f"classes whose name ends in For{saved}Classification give them",
    )
