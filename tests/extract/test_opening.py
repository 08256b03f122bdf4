"""What a file that is no media, or names other files, gives: its reason, and nothing opened."""

import hashlib
import http.server
import os
import socket
import threading

import av
import numpy as np
import pytest

from mmf.chaos.media import make_clips
from mmf.extract.media.decoding import Request, decode
from mmf.extract.media.opening import Limits, Unusable, check_identity
from mmf.extract.signals import Cues, Frames, Waves

SIGNALS = (Frames(crop=32, resize=32), Waves(), Cues())


def reason(path, limits: Limits | None = None) -> str:
    """Why the file gives no rows."""
    with pytest.raises(Unusable) as caught:
        list(decode(str(path), SIGNALS, Request(limits=limits or Limits())))
    assert str(caught.value).endswith(".")
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.webm", b"", "empty"),
        ("one_byte.mp4", b"x", "not_media"),
        ("text.mp4", b"plain text\n" * 100, "not_media"),
        ("letter.txt", b"hello", "not_media"),
        ("table.json", b'{"a": 1}', "not_media"),
        ("zeros.mp4", bytes(5000), "not_media"),
        ("noise.mkv", np.random.default_rng(0).bytes(5000), "not_media"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "format_not_allowed"),
        ("half.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\x10\0\0mdat", "truncated"),
    ],
)
def test_what_is_not_media_says_so(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name) == expected


def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for name in ("fifo.mp4", "folder.mp4", "socket.mp4"):
            assert reason(tmp_path / name) == "not_regular_file"
    assert reason("/dev/null") == "not_regular_file"


@pytest.mark.parametrize(
    "path",
    [
        "gone.mp4",
        "x" * 300,
        "a\0b",
        "concat:a|b",
        "subfile,,start,0,end,9,,:a",
        "http://127.0.0.1:9/a",
    ],
)
def test_a_path_is_a_path_and_nothing_else(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert reason(path) == "no_such_file"


def test_a_file_that_may_not_be_read_says_so(monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert reason("secret.mp4") == "permission_denied"


@pytest.fixture(scope="module")
def web():
    """A server on loopback: its address, and the paths that were asked of it."""
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", hits
        server.shutdown()
        thread.join()


HOSTILE = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {target}\n",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
    "mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation '
    'id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["list.mp4", "list.{kind}"])
@pytest.mark.parametrize("target", ["other.mp4", "secret.txt", "file", "http"])
def test_a_file_that_names_others_opens_none(tmp_path, monkeypatch, clip, web, kind, name, target):
    address, hits = web
    other = tmp_path / "other.mp4"
    other.write_bytes(clip("a.mp4", frames=5).read_bytes())
    (tmp_path / "secret.txt").write_text("secret\n" * 50)
    target = {"file": f"file://{other}", "http": f"{address}/other.ts"}.get(target, target)
    path = tmp_path / name.format(kind=kind)
    path.write_text(HOSTILE[kind].format(target=target))
    monkeypatch.chdir(tmp_path)
    assert reason(path.name) == "format_not_allowed"
    assert hits == []


def test_a_name_with_a_colon_is_only_a_name(tmp_path, clip):
    path = tmp_path / "10:30.mp4"
    path.write_bytes(clip("a.mp4", frames=5).read_bytes())
    assert [type(event).__name__ for event in decode(str(path), SIGNALS)][-1] == "Done"


def test_a_flash_file_is_media_of_a_format_that_is_not_opened(shared_data):
    folder = shared_data / "videos/meta-pytorch+torchcodec/test/resources"
    assert reason(folder / "sine_mono_mp3.swf") == "format_not_allowed"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(max_pixels=64 * 48 - 1), "limit_pixels"),
        (Limits(max_duration=1.5), "limit_duration"),
        (Limits(max_streams=1), "limit_streams"),
        (Limits(max_frames=49), "limit_frames"),
    ],
)
def test_a_header_beyond_the_limits_is_refused(clip, limits, expected):
    assert reason(clip("both.mp4", frames=50, sound=2.0), limits) == expected


def test_a_duration_that_no_header_declares_is_limited_too(tmp_path):
    path = tmp_path / "stream.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height = 64, 48
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert reason(path, Limits(max_duration=5.0)) == "limit_duration"


def test_frames_that_no_header_counts_are_limited_too(clip):
    assert reason(clip("counted.mkv", frames=50), Limits(max_frames=49)) == "limit_frames"


def test_one_damaged_time_does_not_become_hours_of_rows(tmp_path):
    path = tmp_path / "jump.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height = 64, 48
        for pts in (0, 1, 2, 3 * 3600):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert reason(path) == "limit_gap"
    rows = decode(str(path), SIGNALS[:1], Request(limits=Limits(max_gap=1e6), allow_partial=True))
    assert sum(1 for _ in rows) > 10_000


def test_a_picture_beyond_the_limit_is_not_unfolded(tmp_path):
    path = tmp_path / "bomb.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8192, 4400, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((4400, 8192), np.uint8), format="gray")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 2 << 20
    # FFmpeg itself refuses it while it probes, and then no longer says how large it is
    assert reason(path) in ("limit_pixels", "undecodable")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "ts"])
def test_every_cut_is_found_where_the_manifest_says_size_or_digest(tmp_path, kind):
    whole = make_clips(tmp_path)[kind].read_bytes()
    digest, rng = hashlib.sha256(whole).hexdigest(), np.random.default_rng(0)
    path = tmp_path / f"cut.{kind}"
    for length in rng.integers(1, len(whole), 100):
        path.write_bytes(whole[:length])
        for size, sha256 in ((len(whole), None), (None, digest)):
            with pytest.raises(Unusable, match="manifest"):
                check_identity(str(path), size, sha256)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi"])
def test_cuts_that_the_header_tells_are_never_quietly_done(tmp_path, kind):
    whole = make_clips(tmp_path)[kind].read_bytes()
    path = tmp_path / f"cut.{kind}"
    for part in (0.1, 0.3, 0.5, 0.7, 0.8):
        path.write_bytes(whole[: int(part * len(whole))])
        assert reason(path) in ("truncated", "undecodable", "not_media"), part


def test_an_index_at_the_end_that_is_cut_is_noticed_wherever_it_is_cut(tmp_path, clip):
    whole = clip("index.mp4", frames=50, sound=2.0).read_bytes()
    index = whole.rindex(b"moov") - 4
    path = tmp_path / "cut.mp4"
    for length in range(index + 8, len(whole), (len(whole) - index) // 40):
        path.write_bytes(whole[:length])
        assert reason(path) in ("truncated", "undecodable"), length


def test_a_file_other_than_the_manifest_promised_is_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_identity(str(path), 3, digest.upper())
    for size, sha256, expected in (
        (4, None, "size_mismatch"),
        (4, digest, "size_mismatch"),
        (3, "0" * 64, "digest_mismatch"),
    ):
        with pytest.raises(Unusable) as caught:
            check_identity(str(path), size, sha256)
        assert caught.value.reason == expected
