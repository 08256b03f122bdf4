"""Weights are found where they should be, pinned by their bytes, and fetched only when asked."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmf import MmfError
from mmf.extract import parse_feature
from mmf.extract.backbones.checkpoint import load_network
from mmf.extract.backbones.extra import library
from mmf.extract.recipe import build, spec
from mmf.extract.shorthand import weights_requests
from mmf.extract.weights import fetch, needed_weights, stored_weights
from mmf.store import FeatureStore
from mmf.store.weights import WeightsMissing, find_weights, place


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def put_in_hub(cache: Path, repo: str, files: dict[str, bytes], commit: str = "c0ffee") -> Path:
    """A repository as the Hugging Face library keeps it, with its branch main."""
    home = cache / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return snapshot


# bad input first


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("hf://bert@main", r"expected hf://ORG/NAME\[/FILE\]@REVISION"),
        ("hf://google/bert", r"commit, a tag or a branch"),
        ("hf://../../etc@main", "expected hf://"),
        ("hf://google/bert/../../x@main", "expected hf://"),
        ("http://host/net.pth", "expected a path, hf://"),
        ("s3://bucket/net.pth", "expected a path, hf://"),
    ],
)
def test_a_location_that_cannot_be_meant_is_one_sentence(location, says):
    with pytest.raises(MmfError, match=says):
        find_weights(location, name="net")


def test_what_is_not_there_says_where_it_was_looked_for_and_the_ways_on(caches):
    says = r"hf://org/net@main was looked for at .*models--org--net.*--fetch.*PATH.*random:0"
    with pytest.raises(WeightsMissing, match=says):
        find_weights("hf://org/net@main", name="net")
    (caches / "folder").mkdir()
    with pytest.raises(WeightsMissing, match=r"in the folder .*expected model\.safetensors"):
        find_weights(caches / "folder", name="net")


def test_a_location_that_nobody_serves_is_not_fetched(tmp_path):
    request = parse_feature(f"rgb=rgb:resnet18,weights={tmp_path / 'gone.pth'}")
    (needed,) = needed_weights([request])
    assert needed.sha256 is None
    with pytest.raises(MmfError, match=r"a local path.*cannot be fetched"):
        fetch(needed)


def test_a_fetch_that_fails_names_the_file_and_the_place(monkeypatch):
    def refused(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    (needed,) = needed_weights([parse_feature("rgb=rgb:resnet18")])
    with pytest.raises(MmfError, match=r"resnet18-f37072fd\.pth gave: no route.*checkpoints"):
        fetch(needed)


def test_a_library_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MmfError, match=r"needs timm.*pip install 'mmf-video\[networks\]'"):
        library("timm")


def test_without_timm_and_transformers_all_imports_and_each_name_says_what_it_needs():
    program = """
import sys
for name in ("timm", "transformers", "huggingface_hub"):
    sys.modules[name] = None
from mmf import MmfError
from mmf.extract import parse_feature
from mmf.extract.backbones import BACKBONES, backbone, backbone_class
for modality, table in BACKBONES.items():
    for name in table:
        backbone_class(name, modality)
for make in (lambda: parse_feature("x=rgb:timm:resnet18"), lambda: backbone("bert")):
    try:
        make()
    except MmfError as error:
        print(error)
"""
    run = [sys.executable, "-c", program]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[3].rstrip(",") for line in said] == ["timm", "transformers"]
    assert all("pip install 'mmf-video[networks]'" in line for line in said)


# where things are


def test_a_branch_of_a_repository_is_the_commit_that_the_cache_has(caches):
    snapshot = put_in_hub(caches, "org/net", {"config.json": b"{}", "model.safetensors": b"abc"})
    named, pinned = (find_weights(f"hf://org/net@{r}", name="net") for r in ("main", "c0ffee"))
    assert named == pinned
    assert named.path == snapshot
    assert named.config == snapshot / "config.json"
    one = find_weights("hf://org/net/model.safetensors@main", name="net")
    assert one.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert one.config is None


def test_the_digest_of_a_folder_is_that_of_its_config_and_tensors_alone(caches):
    files = {"config.json": b"{}", "model.safetensors": b"abc"}
    first = put_in_hub(caches, "org/net", files)
    found = find_weights(first, name="net")
    (first / "README.md").write_text("more")
    (first / "pytorch_model.bin").write_bytes(b"the same, in another form")
    assert find_weights(first, name="net") == found
    others = [{**files, "config.json": b"{ }"}, {**files, "model.safetensors": b"abd"}]
    digests = {
        find_weights(put_in_hub(caches, f"org/net{i}", other), name="net").sha256
        for i, other in enumerate(others)
    }
    assert len({found.sha256, *digests}) == 3


def test_parts_of_a_large_network_are_taken_in_order(tmp_path):
    for part in (2, 1):
        (tmp_path / f"model-0000{part}-of-00002.safetensors").write_bytes(bytes([part]))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not of the network")
    names = [file.name for file in find_weights(tmp_path, name="net").files]
    assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize("home", [{}, {"HF_HOME": "/a"}, {"XDG_CACHE_HOME": "/b"}])
def test_the_hub_cache_is_where_its_library_has_it(monkeypatch, home):
    pytest.importorskip("huggingface_hub")
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in home.items():
        monkeypatch.setenv(name, value)
    program = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    run = [sys.executable, "-c", program]
    theirs = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    assert place("hf://org/net@abc").parents[2] == Path(theirs)


@pytest.mark.parametrize("home", [{}, {"TORCH_HOME": "/a"}, {"XDG_CACHE_HOME": "/b"}])
def test_the_torch_cache_is_where_torch_has_it(monkeypatch, home):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in home.items():
        monkeypatch.setenv(name, value)
    url = "https://host/models/net-0a1b2c3d.pth"
    assert place(url) == Path(torch.hub.get_dir()) / "checkpoints" / "net-0a1b2c3d.pth"


def test_needed_weights_are_listed_with_what_is_there(caches):
    features = ["a=rgb:resnet18", "b=rgb:hog", "c=rgb:resnet18,weights=random:0"]
    (missing,) = needed_weights([parse_feature(f) for f in features])
    assert (missing.feature, missing.sha256, missing.size_bytes) == ("a", None, 0)
    assert missing.location.endswith("resnet18-f37072fd.pth")
    missing.path.parent.mkdir(parents=True)
    torch.save(load_network("resnet18", "random:0")[0].state_dict(), missing.path)
    (there,) = needed_weights([parse_feature("a=rgb:resnet18")])
    assert there.sha256 == hashlib.sha256(missing.path.read_bytes()).hexdigest()
    assert there.size_bytes > 40e6


def test_a_flow_that_is_a_network_needs_its_own_weights():
    request = parse_feature("f=flow:resnet18,flow=gmflow,weights=random:0")
    (needed,) = needed_weights([request])
    assert needed.backbone == "gmflow"
    assert needed.location.startswith("https://")
    assert len(needed_weights([parse_feature("f=flow:resnet18,flow=raft")])) == 2
    assert needed_weights([parse_feature("f=flow:hof")]) == []
    (alone,) = needed_weights([parse_feature("f=flow:gmflow:scale2")])
    assert (alone.backbone, alone.path.name[:13]) == ("gmflow:scale2", "gmflow-scale2")


def test_a_preset_needs_the_weights_of_all_its_networks():
    def needed(preset: str | None, *backbones: str) -> list[str]:
        asked = {"preset": preset, "backbone": backbones, "feature": ()}
        return [one.backbone for one in needed_weights(weights_requests(asked))]

    assert needed("standard") == ["dinov2", "videomae", "ast", "x3d:m", "raft", "minilm"]
    assert needed("youtube8m", "audio=logmel", "flow=gmflow") == ["inception_2015", "gmflow"]
    assert needed(None) == []


# fetching


def test_a_published_file_is_fetched_with_the_digest_in_its_name(monkeypatch):
    asked = {}

    def download(url, path, *, hash_prefix, progress):
        asked[url] = hash_prefix
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    (needed,) = needed_weights([parse_feature("rgb=rgb:resnet18")])
    assert fetch(needed).read_bytes() == b"weights"
    assert asked == {needed.location: "f37072fd"}


def test_of_a_repository_only_what_is_read_is_fetched(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = {}
    inside = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "run.py"]

    def list_files(self, repo, *, revision):
        return inside

    def download(repo, *, revision, allow_patterns):
        asked[repo, revision] = sorted(set(inside) & set(allow_patterns))
        return tmp_path

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    request = parse_feature("rgb=rgb:resnet18,weights=hf://org/net@v1")
    fetch(needed_weights([request])[0])
    assert asked == {("org/net", "v1"): ["config.json", "model.safetensors"]}


def test_the_weights_of_stored_features_are_compared_with_their_recipes(tmp_path, clip):
    path = tmp_path / "net.pth"
    torch.save(load_network("resnet18", "random:0")[0].state_dict(), path)
    store = FeatureStore.create(tmp_path / "store.mmf")
    request = parse_feature(f"rgb=rgb:resnet18,weights={path}")
    store.create_feature(spec(request, build(request)))
    assert [one.state for one in stored_weights(store)] == ["there"]
    torch.save(load_network("resnet18", "random:1")[0].state_dict(), path)
    assert [one.state for one in stored_weights(store)] == ["others"]
    path.unlink()
    assert [one.state for one in stored_weights(store)] == ["missing"]


def test_the_command_lists_what_is_needed_and_fetches_when_told(caches, monkeypatch, capsys):
    from mmf import cli

    asked = ["weights", "--backbone", "rgb=resnet18", "--feature", "a=audio:logmel"]
    assert cli.cli.main(asked, standalone_mode=False) == 3
    assert "missing" in capsys.readouterr().out

    def download(url, path, *, hash_prefix, progress):
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert cli.cli.main([*asked, "--fetch"], standalone_mode=False) == 0
    shown = capsys.readouterr()
    assert "there" in shown.out
    assert "fetching https://download.pytorch.org" in shown.err
