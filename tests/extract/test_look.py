"""What networks receive, drawn: the picture holds the very payloads, and bad files say why."""

import importlib

import numpy as np
import pytest
from PIL import Image

from mmf import MmfError
from mmf.commands.look import look as command
from mmf.extract import FeatureRequest
from mmf.extract.backbones import backbone
from mmf.extract.backbones.logmel import log_mel
from mmf.extract.look import as_picture, as_spectrogram, look
from mmf.extract.media.opening import Unusable
from mmf.extract.signals import FramePairs

RGB = FeatureRequest(name="rgb", modality="rgb", backbone="hog")


@pytest.fixture
def drawing():
    pytest.importorskip("matplotlib")


def test_a_missing_library_says_how_to_get_it(monkeypatch, tmp_path):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MmfError, match=r"matplotlib, which is not installed.*mmf-video\[plots\]"):
        look("clip.mp4", [RGB], str(tmp_path / "a.png"))


def test_a_file_that_is_no_video_says_why(drawing, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"this is no video" * 100)
    with pytest.raises(Unusable, match=r"a\.mp4.*no media in a known format"):
        look(str(tmp_path / "a.mp4"), [RGB], str(tmp_path / "a.png"))
    assert not (tmp_path / "a.png").exists()


def test_all_that_is_asked_for_is_a_band_of_one_picture(drawing, clip, tmp_path, capsys):
    path = clip("$look\x1b.mp4", frames=60, sound=2.4)
    path.with_suffix(".srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nA $cue$\n")
    out = tmp_path / "page.png"
    command.main([str(path), "--out", str(out)], standalone_mode=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "rgb: 3 rows by rgb=hog"
    assert said[3] == "text: 1 rows by text=hashing"
    with Image.open(out) as picture:
        assert picture.width > 1500
        assert picture.height > 600
        assert len(picture.convert("L").getcolors()) > 20


def test_a_band_without_its_stream_is_empty_and_says_so(drawing, clip, tmp_path):
    audio = FeatureRequest(name="audio", modality="audio", backbone="logmel")
    path = clip("silent.mp4", frames=25)
    rgb, silent = look(str(path), [RGB, audio], str(tmp_path / "a.png"))
    assert (rgb.times, silent.times, silent.missing) == ([0.0], [], "no_such_stream")


def test_rows_of_a_long_video_are_few_and_evenly_apart(drawing, clip, tmp_path):
    path = clip("long.mp4", frames=60, fps=2, width=32, height=32)
    (band,) = look(str(path), [RGB], str(tmp_path / "a.png"))
    assert band.rows == 30
    assert band.times == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0]
    # frame i is grey level 4 i; the payload is the network's, not a thumbnail
    assert [int(p[100, 100].mean()) for p in band.payloads] == pytest.approx(
        [4 * 2 * t % 256 for t in band.times], abs=3
    )
    assert band.payloads[0].shape == (224, 224, 3)


def test_networks_are_shown_without_their_weights(drawing, clip, tmp_path):
    request = FeatureRequest(name="deep", modality="audio", backbone="vggish")
    (band,) = look(str(clip("tone.mp4", sound=2.0)), [request], str(tmp_path / "a.png"))
    shown = as_spectrogram(band.backbone, band.payloads[0])
    np.testing.assert_allclose(shown, log_mel(band.payloads[0][None])[0].T, atol=1e-6)
    assert shown.shape == (64, 96)


def test_a_tone_stands_at_its_height_whatever_network_hears_it():
    wave = np.sin(2 * np.pi * 1000 * np.arange(15600) / 16000).astype(np.float32)
    for name in ("logmel", "vggish", "resnet34"):
        heard = backbone(name, modality="audio", weights="random:0")
        shown = as_spectrogram(heard, wave)
        # 1000 Hz among HTK mels from 125 to 7500 Hz
        mel = [1127 * np.log1p(hertz / 700) for hertz in (125, 1000, 7500)]
        share = (mel[1] - mel[0]) / (mel[2] - mel[0])
        assert shown.mean(axis=1).argmax() / len(shown) == pytest.approx(share, abs=0.03), name
    assert as_spectrogram(backbone("wav2vec2", weights="random:0"), wave).shape == (15600,)


def test_flow_is_shown_as_the_picture_that_it_becomes():
    still = np.full((2, 64, 64, 3), 90, np.uint8)
    fed = backbone(
        "resnet18", modality="flow", weights="random:0", signal=FramePairs(resize=64, crop=64)
    )
    shown = as_picture(fed, still)
    assert shown.shape == (64, 64, 3)
    assert set(np.unique(shown)) == {128}  # no motion
