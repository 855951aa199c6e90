"""A model's files, links followed, stay in the spec's tree; whatever is no file is named as what it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from infc.compiler.errors import Exit, InfcError
from infc.compiler.frontends import Options, load
from infc.compiler.frontends.tree import Tree, check_tree
from infc.dsl import check_file
from infc.dsl.spec import Model, Source


def tree(path: Path, spec: Path, *allowed: Path) -> Tree:
    return check_tree(Source(kind="huggingface", path=str(path), written=path.name), spec, tuple(map(str, allowed)))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec's folder with a model's folder in it, and a folder outside."""
    made = tmp_path / "spec"
    (made / "model" / "1_Pooling").mkdir(parents=True)
    (made / "model" / "config.json").write_text("{}")
    (made / "model" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w").write_bytes(bytes(100))
    return made


PLACES = ("model.safetensors", "model-00001-of-00002.safetensors", "1_Pooling/config.json", "2_Dense", "tokenizer.json")


@pytest.mark.parametrize("name", PLACES)
def test_a_link_that_leads_out_is_refused_unless_its_folder_is_allowed(spec: Path, name: str) -> None:
    place = spec / "model" / name
    place.unlink(missing_ok=True)
    target = spec.parent / "outside" / ("w" if "." in name else "")
    place.symlink_to(os.path.relpath(target, place.parent))
    with pytest.raises(InfcError) as caught:
        tree(spec / "model", spec)
    assert caught.value.exit_code == Exit.USAGE
    assert caught.value.diagnostics[0].code == "E0402"
    assert caught.value.message == f"model/{name} is outside the folder of the spec"
    assert f"it is a link to {target}" in caught.value.hint
    assert str(target) in tree(spec / "model", spec, spec.parent / "outside").paths


def test_a_chain_of_links_counts_by_its_end(spec: Path) -> None:
    (spec / "near").symlink_to(spec.parent / "outside" / "w")
    (spec / "model" / "model.safetensors").symlink_to("../near")
    with pytest.raises(InfcError, match="outside the folder"):
        tree(spec / "model", spec)


def test_a_link_in_a_linked_folder_is_checked_as_well(spec: Path) -> None:
    (spec / "shared").mkdir()
    (spec / "shared" / "config.json").symlink_to(spec.parent / "outside" / "w")
    (spec / "model" / "2_Dense").symlink_to("../shared")
    with pytest.raises(InfcError, match="model/2_Dense/config.json is outside"):
        tree(spec / "model", spec)


def test_links_within_the_specs_tree_are_followed(spec: Path) -> None:
    (spec / "weights").write_bytes(bytes(1000))
    (spec / "model" / "model.safetensors").symlink_to("../weights")
    (spec / "model" / "again").symlink_to(".")
    found = tree(spec / "model", spec)
    assert set(found.paths) == {str(spec / "model"), str(spec / "weights")}
    assert found.size == 1004


def test_links_within_one_repository_of_the_hub_are_its_own(spec: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    mine, other = hub / "models--a--b", hub / "models--c--d"
    for repository in (mine, other):
        (repository / "blobs").mkdir(parents=True)
        (repository / "blobs" / "f00").write_text("{}")
    snapshot = mine / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/f00")
    (snapshot / "1_Pooling").mkdir()
    (snapshot / "1_Pooling" / "config.json").symlink_to("../../../blobs/f00")
    assert str(mine / "blobs" / "f00") in tree(snapshot, spec).paths
    (spec / "linked").symlink_to(snapshot)
    assert str(mine / "blobs" / "f00") in tree(spec / "linked", spec).paths
    (snapshot / "tokenizer.json").symlink_to(other / "blobs" / "f00")
    with pytest.raises(InfcError, match="tokenizer.json is outside"):
        tree(snapshot, spec)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "is a named pipe"),
    "socket": (_socket, "is a socket"),
    "folder": (Path.mkdir, "is a folder"),
    "loop": (lambda p: p.symlink_to(p.name), "is a link to .*, which cannot be opened: Too many levels"),
    "broken": (lambda p: p.symlink_to("nowhere"), "is a link to nowhere, which cannot be opened: No such file"),
    "through a file": (lambda p: p.symlink_to("README/x"), "is a link to README/x, which cannot be opened: Not a dir"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "1_Pooling/config.json"])
def test_what_is_no_file_is_named_as_what_it_is(spec: Path, kind: str, name: str) -> None:
    make, said = KINDS[kind]
    place = spec / "model" / name
    place.unlink(missing_ok=True)
    (place.parent / "README").write_text("")
    make(place)
    with pytest.raises(InfcError, match=f"model/{name} {said}") as caught:
        tree(spec / "model", spec)
    assert caught.value.exit_code == Exit.USAGE


def test_a_link_to_a_device_is_refused_even_where_devices_are_allowed(spec: Path) -> None:
    (spec / "model" / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(InfcError, match="outside the folder"):
        tree(spec / "model", spec)
    with pytest.raises(InfcError, match="model.safetensors is a device"):
        tree(spec / "model", spec, Path("/dev"))


def test_hidden_folders_and_environments_are_no_part_of_a_model(spec: Path) -> None:
    for name in (".git", "venv"):
        (spec / "model" / name).mkdir()
        (spec / "model" / name / "python").symlink_to("/usr/bin/env")
    (spec / "model" / "venv" / "pyvenv.cfg").write_text("")
    assert tree(spec / "model", spec).paths == (str(spec / "model"),)


def test_the_import_refuses_before_a_worker_is_started(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*given: object, **named: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("infc.compiler.frontends.confined.Worker", started)
    (spec / "model" / "model.safetensors").symlink_to(spec.parent / "outside" / "w")
    model = Model(name="m", source=Source(kind="huggingface", path=str(spec / "model"), written="model"))
    with pytest.raises(InfcError, match="outside the folder"):
        load(model, spec)
    with pytest.raises(AssertionError, match="started"):
        load(model, spec, options=Options(allow_paths=(str(spec.parent / "outside"),)))
    os.mkfifo(spec / "net.pt2")
    exported = Model(name="m", source=Source(kind="export", path=str(spec / "net.pt2"), written="net.pt2"))
    with pytest.raises(InfcError, match="net.pt2 is a named pipe"):
        load(exported, spec)


def test_a_spec_names_no_pipe_as_its_file(spec: Path) -> None:
    os.mkfifo(spec / "net.pt2")
    os.mkfifo(spec / "rows.jsonl")
    file = spec / "m.infer"
    file.write_text(
        'infer 1\nmodel m { source export("net.pt2") }\ndata { evaluate jsonl("rows.jsonl", field = "text") }\n'
    )
    found = check_file(file).errors
    assert [d.code for d in found] == ["E0403", "E0403"]
    assert found[0].title == "net.pt2 is a named pipe"
