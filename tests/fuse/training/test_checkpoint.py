"""Checkpoints are whole or not there."""

import json
from pathlib import Path

import pytest
import torch

from mmf import MmfError
from mmf.fuse.training import checkpoint


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(
        folder, step, {"network": {"w": torch.full((3,), step)}}, {"epoch": step}
    )


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None


@pytest.mark.parametrize("name", ["state.json", "network.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_any_damage_makes_the_one_before_the_newest(tmp_path, name, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    found, state = checkpoint.newest(tmp_path)
    assert (found.name, state["epoch"]) == ("step-000000001", 1)


def test_if_all_are_broken_it_says_so(tmp_path):
    (save(tmp_path, 1) / "state.json").write_text("{}")
    with pytest.raises(MmfError, match="every checkpoint in .* is broken"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("name", ["/dev/zero", "../../mine", "zero", "folder"])
def test_a_strangers_checkpoint_names_files_of_its_own_only(tmp_path, name):
    path = save(tmp_path, 1)
    (tmp_path.parent / "mine").write_text("mine")
    (path / "zero").symlink_to("/dev/zero")
    (path / "folder").mkdir()
    state = json.loads((path / "state.json").read_text())
    state["files"][name] = "0" * 64
    del state["sha256"]
    state["sha256"] = checkpoint._digest(state)
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(MmfError, match="is broken"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("state", ["[]", "null", '{"sha256": 1, "files": 3}', "[" * 100_000])
def test_a_state_that_is_none_is_broken(tmp_path, state):
    (save(tmp_path, 1) / "state.json").write_text(state)
    with pytest.raises(MmfError, match="is broken"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("content", [b"", (1 << 60).to_bytes(8, "little"), b"\xff" * 8 + b"{}"])
def test_tensors_that_promise_too_much_are_refused(tmp_path, content):
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(MmfError, match="cannot be read as tensors"):
        checkpoint.load_tensors(tmp_path, "best")


def test_a_half_written_one_is_not_seen_and_is_cleared_away(tmp_path):
    (tmp_path / ".writing-7").mkdir()
    (tmp_path / ".writing-7" / "state.json").write_text("{}")
    assert checkpoint.newest(tmp_path) is None
    save(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001"]


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 30, 4000):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000030", "step-000004000"]
    path, state = checkpoint.newest(tmp_path)
    assert state["step"] == 4000
    assert torch.equal(checkpoint.load_tensors(path, "network")["w"], torch.full((3,), 4000))


def test_a_checkpoint_holds_tensors_and_json_and_no_pickle(tmp_path):
    path = save(tmp_path, 1)
    assert sorted(p.name for p in path.iterdir()) == ["network.safetensors", "state.json"]
    assert json.loads((path / "state.json").read_text())["step"] == 1


def test_a_file_is_replaced_as_a_whole(tmp_path):
    checkpoint.write_text(tmp_path / "a", "one")
    checkpoint.write_text(tmp_path / "a", "two")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "two")]
