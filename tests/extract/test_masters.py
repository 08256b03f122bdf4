"""Masters: interlaced frames, high dynamic range, MXF and ProRes with a mono stream a channel."""

import math
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

from mmf import UnknownName
from mmf.extract.media import masters
from mmf.extract.media.decoding import Row, decode
from mmf.extract.media.masters import light_to_pq, mapped, pq_to_light
from mmf.extract.signals import Frames, Waves

SIZE = 64
EVERY = Frames(fps=25.0, resize=SIZE, crop=SIZE)
SAMPLES = 1920  # of sound at 48 kHz for each frame at 25 per second
CHROMA = 512  # grey, in 10 bits


def rows(path, *signals):
    found = [e for e in decode(str(path), signals) if isinstance(e, Row)]
    return [[r.payload for r in found if r.signal == i] for i in range(len(signals))]


def as_field(order: str, image: av.VideoFrame) -> av.VideoFrame:
    """The frame, flagged interlaced with this order of its fields."""
    graph = Graph()
    source = graph.add_buffer(
        width=SIZE, height=SIZE, format=image.format, time_base=image.time_base
    )
    flagged, sink = graph.add("setfield", order), graph.add("buffersink")
    source.link_to(flagged)
    flagged.link_to(sink)
    graph.configure()
    graph.push(image)
    return graph.vpull()


def combed(i: int) -> np.ndarray:
    """Grey, with a white bar in the even lines and 8 pixels further in the odd ones."""
    image = np.full((SIZE, SIZE, 3), 64, np.uint8)
    image[0::2, 8 * i : 8 * i + 16] = 255
    image[1::2, 8 * i + 8 : 8 * i + 24] = 255
    return image


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """Makes a master of 5 frames and 8 mono streams of sound, of which stream n holds n / 16."""

    def make(name: str, codec: str, order: str = "prog", **options: str):
        path = tmp_path_factory.mktemp("masters") / name
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=25, options=options)
            video.width = video.height = SIZE
            video.pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv422p"
            sounds = [
                container.add_stream("pcm_s16le", rate=48000, layout="mono") for _ in range(8)
            ]
            for i in range(5):
                image = av.VideoFrame.from_ndarray(combed(i), format="rgb24")
                image.pts, image.time_base = i, Fraction(1, 25)
                container.mux(video.encode(as_field(order, image)))
                for n, sound in enumerate(sounds):
                    wave = np.full((1, SAMPLES), n * 2048, np.int16)
                    part = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                    part.sample_rate, part.pts = 48000, i * SAMPLES
                    part.time_base = Fraction(1, 48000)
                    container.mux(sound.encode(part))
            for stream in (video, *sounds):
                container.mux(stream.encode(None))
        return path

    return make


FIELDS = {"flags": "+ildct+ilme", "b": "20M"}


@pytest.mark.parametrize(
    ("name", "codec", "order"),
    [
        ("interlaced.mxf", "mpeg2video", "tff"),
        ("interlaced.mov", "prores_ks", "bff"),
        ("prores.mxf", "prores_ks", "tff"),
    ],
)
def test_a_master_is_deinterlaced_and_its_mono_streams_mixed(master, name, codec, order):
    path = master(name, codec, order, **FIELDS)
    first = 8 * (order == "bff")  # where its first field has the bar
    sound = Waves(fps=25.0, sample_rate=48000, samples=SAMPLES, track="all")
    shown, woven, mixed, fourth = rows(
        path, EVERY, replace(EVERY, interlaced="as_is"), sound, replace(sound, track="3")
    )
    assert len(shown) == len(woven) == len(mixed) == 5
    for i, (picture, as_is) in enumerate(zip(shown, woven, strict=True)):
        steps = np.abs(np.diff(picture[4:-4].astype(int), axis=0))
        assert steps.max() <= 24  # one field: every line shows the bar in one place
        assert np.abs(np.diff(as_is[4:-4].astype(int), axis=0)).max() > 150
        np.testing.assert_allclose(
            picture[4:-4, 8 * i + first + 2 : 8 * i + first + 6].mean(), 255, atol=20
        )
        np.testing.assert_allclose(
            picture[4:-4, 8 * i + first + 18 : 8 * i + first + 22].mean(), 64, atol=20
        )
    np.testing.assert_allclose(np.mean(mixed), np.mean(np.arange(8) / 16), atol=1e-4)
    np.testing.assert_allclose(np.mean(fourth), 3 / 16, atol=1e-4)


def test_frames_that_are_not_flagged_are_left_alone(master):
    path = master("progressive.mov", "prores_ks")
    shown, woven = rows(path, EVERY, replace(EVERY, interlaced="as_is"))
    np.testing.assert_array_equal(shown, woven)
    assert np.abs(np.diff(shown[0].astype(int), axis=0)).max() > 150


def test_only_frames_that_are_kept_are_filtered(master, monkeypatch):
    path = master("kept.mxf", "mpeg2video", "tff", **FIELDS)
    filtered = []
    graph = masters.Graph
    monkeypatch.setattr(masters, "Graph", lambda: filtered.append(1) or graph())
    (kept,) = rows(path, replace(EVERY, fps=1.0))
    assert len(kept) == len(filtered) == 1


# ---- high dynamic range


def pq(nits: float) -> float:
    """ST 2084's inverse EOTF, one value at a time, by its constants as decimals."""
    y = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg_of_display(nits: float) -> float:
    """BT.2100: a grey of the display at 1,000 cd/m² → HLG's value."""
    scene = (nits / 1000) ** (1 / 1.2)
    if scene <= 1 / 12:
        return math.sqrt(3 * scene)
    return 0.17883277 * math.log(12 * scene - 0.28466892) + 0.55991073


def shown(nits: float, peak: float = 1000) -> float:
    """The grey level 0…255 that BT.2390's curve gives for a white of 203 cd/m²."""
    top, knee = pq(203) / pq(peak), 1.5 * pq(203) / pq(peak) - 0.5
    e = min(pq(nits) / pq(peak), 1.0)
    if e >= knee:
        t = (e - knee) / (1 - knee)
        hermite = np.array([[2, -3, 0, 1], [1, -2, 1, 0], [-2, 3, 0, 0]]) @ [t**3, t**2, t, 1]
        e = hermite @ [knee, 1 - knee, top]
    light = float(pq_to_light(np.array(e * pq(peak))))
    return 255 * min(light / 203, 1.0) ** (1 / 2.4)


def hdr_clip(path, codes: list[int], transfer: int, mastered: int | None = None):
    """One 10-bit frame in BT.2020, limited range: columns of grey with these luma codes.

    `mastered` is the peak in cd/m² that its metadata name.
    """
    luma = np.repeat(np.array(codes, np.uint16), SIZE // len(codes))[None].repeat(SIZE, axis=0)
    chroma = np.full((SIZE // 2, SIZE), CHROMA, np.uint16)  # both planes
    frame = av.VideoFrame(SIZE, SIZE, "yuv420p10le")
    for plane, values in zip(
        frame.planes, (luma, chroma[:, : SIZE // 2], chroma[:, SIZE // 2 :]), strict=True
    ):
        line = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        line[:, : values.shape[1]] = values
        plane.update(line.tobytes())
    with av.open(str(path), "w") as container:
        settings = "log-level=none:qp=1:bframes=0"
        if mastered is not None:
            colours = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
            settings += f":master-display={colours}L({mastered * 10000},50)"
        options = {"x265-params": settings}
        stream = container.add_stream("libx265", rate=25, options=options)
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, transfer, 9
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p10le"
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


NITS = [0.0, 1.0, 10.0, 50.0, 100.0, 203.0, 500.0, 1000.0]


@pytest.mark.parametrize(("transfer", "code"), [(16, pq), (18, hlg_of_display)])
def test_high_dynamic_range_is_brought_to_sdr(tmp_path, transfer, code):
    codes = [round(64 + 876 * code(nits)) for nits in NITS]
    path = hdr_clip(tmp_path / "hdr.mp4", codes, transfer)
    signal = Frames(resize=SIZE, crop=SIZE)
    (made,), (raw,), (fast,) = rows(
        path, signal, replace(signal, hdr="as_is"), replace(signal, decode="fast")
    )
    middles = [SIZE // 8 * i + 4 for i in range(8)]
    expected = [shown(nits) for nits in NITS]
    np.testing.assert_allclose(made[32, middles].mean(axis=1), expected, atol=1.5)
    assert np.ptp(made[32, middles].astype(int), axis=1).max() <= 1  # grey stays grey
    np.testing.assert_allclose(
        raw[32, middles].mean(axis=1), [255 * code(nits) for nits in NITS], atol=3
    )
    np.testing.assert_array_equal(fast, made)


@pytest.mark.parametrize(("mastered", "peak"), [(4000, 4000), (600, 600), (100, 1000), (0, 1000)])
def test_the_peak_is_that_of_the_mastering_display_where_it_can_be(tmp_path, mastered, peak):
    nits = [0.0, 10.0, 100.0, 203.0, 400.0, 600.0, 1000.0, 4000.0]
    codes = [round(64 + 876 * pq(light)) for light in nits]
    path = hdr_clip(tmp_path / "hdr.mp4", codes, 16, mastered)
    ((made,),) = rows(path, Frames(resize=SIZE, crop=SIZE))
    expected = [shown(light, peak) for light in nits]
    middles = [SIZE // 8 * i + 4 for i in range(8)]
    np.testing.assert_allclose(made[32, middles].mean(axis=1), expected, atol=2.5)
    others = [shown(light, other) for other in (600, 1000, 4000) if other != peak for light in nits]
    assert np.abs(np.reshape(others, (-1, 8)) - expected).max(axis=1).min() > 5


def test_the_curve_is_a_line_below_its_knee_and_ends_at_white():
    light = np.array([0.0, 1.0, 10.0, 80.0])
    np.testing.assert_allclose(mapped(light), light, rtol=1e-9, atol=1e-9)
    rising = mapped(np.linspace(0, 1000, 500))
    assert np.all(np.diff(rising) > 0)
    np.testing.assert_allclose(mapped(np.array([1000.0, 4000.0])), 203.0, rtol=1e-9)
    np.testing.assert_allclose(light_to_pq(np.array([203.0])), 0.5807, atol=1e-4)  # BT.2408


def test_colours_outside_bt709_are_clipped_and_white_is_white():
    ones = masters._TO_709 @ np.ones(3)
    np.testing.assert_allclose(ones, 1, atol=2e-6)
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )  # BT.2087, annex 1
    np.testing.assert_allclose(masters._TO_709 @ to_2020, np.eye(3), atol=2e-4)


def test_real_hdr_footage_is_mapped_and_plain_10_bit_is_not(shared_data):
    folder = shared_data / "videos/meta-pytorch+torchcodec/test/resources"
    signal = Frames(fps=1.0, resize=180, crop=180)
    made, raw = rows(folder / "nasa_13013_hdr.mp4", signal, replace(signal, hdr="as_is"))
    assert len(made) == len(raw) == 13
    assert not np.array_equal(made, raw)
    for name in ("h264_10bits.mp4", "h265_10bits.mp4"):
        made, raw = rows(folder / name, signal, replace(signal, hdr="as_is"))
        np.testing.assert_array_equal(made, raw)


def test_an_unknown_way_says_which_there_are():
    with pytest.raises(UnknownName, match="as_is"):
        Frames(hdr="hable")
