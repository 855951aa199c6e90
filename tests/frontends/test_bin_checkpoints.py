"""A `.bin` checkpoint that says it holds more than its bytes is refused before torch reads it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from infc.compiler.frontends.checkpoint import check_unpacked
from infc.compiler.frontends.errors import FrontendError


def test_what_torch_saves_is_taken_and_what_is_packed_is_not(tmp_path: Path) -> None:
    good = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.zeros(1000, 100)}, good)
    check_unpacked(good)
    bomb = tmp_path / "bomb.bin"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(FrontendError, match=r"bomb.bin has [\d,]+ bytes and says that it holds"):
        check_unpacked(bomb)
    (tmp_path / "raw.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(FrontendError, match="raw.bin is no checkpoint"):
        check_unpacked(tmp_path / "raw.bin")
