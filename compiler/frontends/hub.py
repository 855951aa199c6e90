"""`huggingface(hub = "org/name", revision = "...")`: the snapshot in the local hub cache. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from ...dsl.spec import Source
from ..errors import require
from .errors import FrontendError


def snapshot(source: Source) -> Path:
    """The folder of the revision that source names. Raises FrontendError where the cache does not have it."""
    hub = require("huggingface_hub")
    errors = require("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(str(source.hub), revision=source.revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, OSError, ValueError):
        raise FrontendError(
            f"{source.hub} at revision {source.revision} is not in the local Hugging Face cache",
            hint=f"infc downloads nothing; get it with `hf download {source.hub} --revision {source.revision}`",
        ) from None
