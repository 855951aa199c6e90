"""Evidence as `serve prove` writes it (`infc.evidence/2`): read strictly, since it may come from anywhere."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..bundle.evidence import MOST_BYTES
from ..errors import Exit, InfcError

SCHEMA = "infc.evidence/2"
MOST_REQUESTS = 20_000_000
REFUSED = 1 << 63
"""A latency that is none: this plus the status with which the request was refused, or 0 where no answer came."""

Array = NDArray[Any]


class Record(BaseModel):
    """Base: immutable, strict about names, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Subject(Record):
    """What was run. `digest` is over the other members, and over nothing that a bound or a load changes."""

    digest: str
    files: dict[str, str]
    model: str
    settings: dict[str, Any]
    cores: int


class BurstOf(Record):
    """The rate times `factor` for `duration_s` of each `every_s` seconds."""

    factor: float
    duration_s: float
    every_s: float


class Requests(Record):
    """What was asked: rows from a file, or generated from the seed."""

    source: Literal["file", "generated"]
    count: int
    digest: str


class LoadOf(Record):
    """How it was asked. `digest` is over the other members."""

    digest: str
    mode: Literal["open", "closed"]
    rate: float | None
    connections: int | None
    arrival: str | None
    burst: BurstOf | None
    items: tuple[int, int]
    requests: Requests


class Placement(Record):
    """CPUs of the server and of the generator; `shared` where there was none left for the generator."""

    server: list[int]
    generator: list[int]
    shared: bool


class Noise(Record):
    """What others took of the machine; None: it cannot be read. Shares of one second, jitter in seconds."""

    jitter_p99_s: float | None = None
    steal: float | None = None
    foreign: float | None = None
    pressure: float | None = None


class Block(Record):
    """One start of the server under load."""

    index: int
    seed: int
    start_s: float
    sent: int = Field(ge=0, le=MOST_REQUESTS)
    ok: int = Field(ge=0)
    rows: int = Field(ge=0)
    elapsed_s: float = Field(gt=0)
    errors: dict[str, int]
    latency: str
    lag_p99_s: float | None
    lag_max_s: float | None
    connections_most: int
    connections_short: int
    generator_cpu: float | None = None
    server_cpu: float | None = None
    steal: float | None = None
    foreign: float | None = None
    pressure: float | None = None
    peak_rss_bytes: int | None = None
    ended: str | None = None

    @cached_property
    def latencies(self) -> Array:
        """Seconds [sent], in the order of sending; inf where there was no good answer. Raises ValueError."""
        unpack = zlib.decompressobj()
        raw = unpack.decompress(base64.b64decode(self.latency, validate=True), 8 * self.sent + 1)
        if len(raw) != 8 * self.sent or not unpack.eof:
            raise ValueError(f"block {self.index} has other than {self.sent} latencies")
        counts = np.frombuffer(raw, "<u8")
        if int(np.count_nonzero(counts < REFUSED)) != self.ok:
            raise ValueError(f"block {self.index} has other than {self.ok} answers")
        return np.where(counts < REFUSED, counts.astype(np.float64) / 1e9, np.inf)


class StartOf(Record):
    """From exec to the first correct answer. `pages_left`: of the bundle's files in the page cache, where it was dropped."""

    s: float = Field(gt=0)
    cold: bool
    pages_left: int | None


class Fill(Record):
    """The queue full of the largest requests that are admitted."""

    requests: int
    rows: int
    bytes: int
    statuses: dict[str, int]
    open: int
    peak_rss_bytes: int | None
    ceiling_bytes: int | None


class Run(Record):
    """One document: one load in blocks, starts, or a full queue."""

    schema_: Literal["infc.evidence/2"] = Field(alias="schema")
    utc: str
    command: list[str]
    bundle: str
    subject: Subject
    load: LoadOf
    seed: int
    warmup_s: float
    block_s: float
    fingerprint: dict[str, Any]
    tools: dict[str, str]
    placement: Placement
    before: Noise
    blocks: list[Block]
    starts: list[StartOf]
    fill: Fill | None


class Described(Record):
    """What `serve prove --subject` says: what a run would speak of."""

    subject: Subject
    load: LoadOf
    fingerprint: dict[str, Any]


_RUN, _DESCRIBED = TypeAdapter(Run), TypeAdapter(Described)


def read_run(data: bytes, where: str | Path) -> Run:
    """The document of a run, its latencies checked. Raises InfcError (exit 7) that says what is wrong with it."""
    if len(data) > MOST_BYTES:
        raise InfcError(f"{where} has {len(data):,} bytes, and at most {MOST_BYTES:,} are read", exit_code=Exit.DAMAGED)
    try:
        run = _RUN.validate_json(data, strict=True)
        for block in run.blocks:
            _ = block.latencies
        return run
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise InfcError(
            f"{where} is no evidence: {f'{at}: ' if at else ''}{first['msg']}",
            exit_code=Exit.DAMAGED,
            hint="`serve prove --out FILE` of a bundle of this version writes one",
        ) from None
    except (ValueError, zlib.error, RecursionError) as error:
        raise InfcError(f"{where} is damaged: {error}", exit_code=Exit.DAMAGED) from None


def read_described(text: str) -> Described:
    """Raises InfcError (exit 1): the server is ours."""
    try:
        return _DESCRIBED.validate_json(text)
    except ValidationError as error:
        said = str(error).splitlines()[0]
        raise InfcError(f"serve prove --subject said what it should not: {said}", exit_code=Exit.INTERNAL) from None


def machine_key(fingerprint: dict[str, Any]) -> str:
    """What of a fingerprint must be equal for evidence to be used again: all but the versions of kernel and server."""
    kept = {key: value for key, value in fingerprint.items() if key not in ("kernel", "serve")}
    return json.dumps(kept, sort_keys=True)
