"""A backbone of anyone's: one class in one file, with the same contract and fingerprint."""

import os
from pathlib import Path

import numpy as np
import pytest

from mmf import MmfError, UnknownName
from mmf.extract import JobOptions, extract, parse_feature, request_from_spec
from mmf.extract.backbones import backbone, overview
from mmf.extract.backbones.own import offered
from mmf.extract.recipe import build, spec
from mmf.store import FeatureStore

ROOT = Path(__file__).parents[2]
MINE = '''
import numpy as np
from mmf.extract.backbones.contract import Backbone
from mmf.extract.signals import Frames


class Brightness(Backbone):
    """The mean of each colour."""

    modality = "rgb"
    default_signal = Frames(resize=32, crop=32)
    variants = ("grey",)

    def __init__(self, setup):
        super().__init__(setup)
        self._grey = setup.variant == "grey"
        self.row_shape = (1,) if self._grey else (3,)

    def rows(self, payloads):
        means = payloads.mean(axis=(1, 2)).astype(np.float32) / 255
        return means.mean(axis=1, keepdims=True) if self._grey else means


class NoBackbone:
    pass
'''


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rgb:./gone.py:Net", "there is no file 'gone.py'"),
        ("rgb:./mine.py:Net", "has no class 'Net'"),
        ("rgb:./mine.py", "has no class ''"),
        ("rgb:./mine.py:NoBackbone", "is no backbone: expected a class derived"),
        ("audio:./mine.py:Brightness", "is of the modality 'rgb', not 'audio'"),
        ("rgb:./mine.py:Brightness,size=3", "unknown option"),
    ],
)
def test_a_class_that_cannot_be_had_is_one_sentence(mine, name, says):
    with pytest.raises(MmfError, match=says):
        parse_feature(f"x={name}")


def test_a_file_that_is_not_python_and_a_variant_it_lacks_are_named(mine):
    with pytest.raises(MmfError, match="no variant 'huge'. Its variants: ./mine.py:Brightness:gre"):
        backbone("./mine.py:Brightness:huge")
    mine.write_text("import nothing_of_that_name")
    with pytest.raises(MmfError, match="cannot be imported: No module named 'nothing_of"):
        backbone("./mine.py:Brightness")


def test_a_class_in_a_file_is_a_backbone(mine):
    frames = np.full((2, 3, 40, 60), 51, np.uint8)
    np.testing.assert_allclose(backbone("./mine.py:Brightness")(frames), 0.2, rtol=1e-6)
    assert backbone("./mine.py:Brightness:grey")(frames).shape == (2, 1)


def test_the_recipe_has_the_files_digest_and_not_its_place(mine, tmp_path):
    def made(name: str):
        request = parse_feature(f"b=rgb:{name}")
        return spec(request, build(request))

    first = made("./mine.py:Brightness")
    assert first.recipe["backbone"] == "mine.py:Brightness"
    assert first.recipe["details"]["code"].startswith("sha256:")
    assert made(f"{mine}:Brightness").fingerprint == first.fingerprint
    again = request_from_spec(first)
    assert spec(again, build(again)).fingerprint == first.fingerprint
    mine.write_text(MINE.replace("/ 255", "/ 256"))
    assert made("./mine.py:Brightness").fingerprint != first.fingerprint
    with pytest.raises(MmfError, match="is not that which feature 'b' was made with"):
        request_from_spec(first)


def test_lanes_in_processes_of_their_own_find_the_class(mine, clip, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(2):
        os.link(clip("own.mp4", frames=30), clips / f"{i}.mp4")
    request = parse_feature("b=rgb:./mine.py:Brightness")
    extract(clips, tmp_path / "store.mmf", [request], JobOptions(workers=2, device="cpu"))
    store = FeatureStore(tmp_path / "store.mmf")
    assert store.read("b", "1.mp4").values.shape == (2, 3)


def test_a_package_offers_backbones_by_entry_points(tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(MINE)
    info = tmp_path / "their_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-nets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmf.backbones]\nrgb.bright = their_nets:Brightness\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert offered("rgb") == {"bright": "their-nets 1.0"}
    request = parse_feature("b=rgb:bright:grey")
    made = spec(request, build(request))
    assert made.recipe["backbone"] == "bright:grey"
    assert made.recipe["details"]["code"].startswith("sha256:")
    assert request_from_spec(made).backbone == "bright:grey"
    with pytest.raises(UnknownName, match="unknown audio backbone 'bright'"):
        parse_feature("b=audio:bright")
    bright = list(overview.backbones("rgb"))[-1]
    assert (bright.name, bright.variants, bright.package) == ("bright", ("grey",), "their-nets 1.0")


def test_what_a_package_offers_and_cannot_be_imported_is_said_in_a_sentence(tmp_path, monkeypatch):
    info = tmp_path / "their_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-nets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmf.backbones]\nrgb.gone = no_such_module:Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    says = "'gone' of the package their-nets 1.0 cannot be imported from 'no_such_module:Net'"
    with pytest.raises(MmfError, match=says):
        parse_feature("g=rgb:gone")
    (gone,) = (one for one in overview.backbones("rgb") if one.package)  # the list goes on
    assert (gone.name, gone.variants) == ("gone", ())
    assert says in gone.fault


def test_the_example_of_the_manual_is_right(tmp_path, monkeypatch):
    text = (ROOT / "docs/backbones.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "edges.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    built = backbone("./edges.py:Edges")
    frames = np.zeros((1, 3, 64, 64), np.uint8)
    frames[:, :, :, 32:] = 255
    row = built(frames)[0]
    assert row.argmax() in range(16)
    assert row.sum() == pytest.approx(1, rel=1e-4)
