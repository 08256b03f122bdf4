"""Media at URLs: fetched ahead into a bounded folder, and gone when they are decoded."""

import hashlib
import json
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from mmf import MmfError, cli
from mmf.extract import FeatureRequest, JobOptions, extract, read_manifest
from mmf.extract.decoder import staging as staging_module
from mmf.extract.decoder.events import Ended, Failed, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.decoder.staging import Staging
from mmf.extract.look import look
from mmf.extract.media.opening import Limits, Unusable
from mmf.extract.signals import Cues, Frames, Waves
from mmf.store import FeatureStore

SIGNALS = (Frames(fps=5.0, resize=32, crop=32), Waves(), Cues())


class Web:
    """A web server of files by name; the first `failing` answers are 503, `short` ones are cut."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.failing = self.short = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self._answer(body=False)

            def do_GET(self):
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                name = self.path.partition("?")[0].strip("/")
                web.asked.append((self.command, self.path))
                data = web.files.get(name)
                code = 404 if data is None else 200
                if web.failing:
                    web.failing -= 1
                    code, data = 503, b""
                self.send_response(code)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                if body and data:
                    cut = web.short > 0
                    web.short -= cut
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                    self.close_connection = cut

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setenv("MMF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(staging_module, "FIRST_PAUSE", 0.001)
    server = Web()
    yield server
    server.close()


def staged(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def outcomes(decoder: Decoder, look=lambda: None):
    """(rows, outcome) by key; `look` is called at every event."""
    rows, ended = {}, {}
    for event in decoder.events():
        look()
        if isinstance(event, Sample):
            text = isinstance(event.payload, str)
            payload = event.payload if text else event.payload.tobytes()
            rows.setdefault(event.key, []).append((event.signal, event.time, payload))
        else:
            ended[event.key] = event
    return rows, ended


def test_what_cannot_be_fetched_fails_with_the_reason_and_the_others_go_on(web, clip, tmp_path):
    data = clip("far.mp4", frames=25).read_bytes()
    web.files["good.mp4"] = data
    limits = Limits(staged_bytes=len(data))
    with Decoder(SIGNALS, limits=limits) as decoder:
        decoder.submit("gone", f"{web.url}/gone.mp4?signature=secret")
        decoder.submit("good", f"{web.url}/good.mp4?signature=secret")
        decoder.submit("nobody", "http://127.0.0.1:9/clip.mp4")
        decoder.submit("size", f"{web.url}/good.mp4", size=7)
        decoder.submit("digest", f"{web.url}/good.mp4", sha256="0" * 64)
        web.files["large.mp4"] = data + b"\0"
        decoder.submit("large", f"{web.url}/large.mp4")
        decoder.submit("captions", str(clip("far.mp4")), captions=f"{web.url}/gone.srt")
        rows, ended = outcomes(decoder)
    assert {k: o.reason for k, o in ended.items() if isinstance(o, Failed)} == {
        "gone": "fetch_failed",
        "nobody": "fetch_failed",
        "size": "size_mismatch",
        "digest": "digest_mismatch",
        "large": "limit_staged",
        "captions": "fetch_failed",
    }
    assert list(ended) == ["gone", "good", "nobody", "size", "digest", "large", "captions"]
    assert isinstance(ended["good"], Ended)
    assert len(rows["good"]) == 5
    assert ended["gone"].stage == "fetch"
    assert ended["good"].media.path == f"{web.url}/good.mp4"
    assert all("secret" not in o.message for o in ended.values() if isinstance(o, Failed))
    assert ("GET", "/good.mp4?signature=secret") in web.asked  # but it is asked for with it
    assert not any(p.startswith("/large") for m, p in web.asked if m == "GET")
    assert staged(tmp_path) == []


@pytest.mark.parametrize("name", ["", "clips/", "list.csv?signature=secret", "list.parquet"])
def test_a_url_of_no_media_file_is_refused_as_a_source(name):
    with pytest.raises(MmfError, match=r"'s3://bucket/[^?]*': at a URL one media file") as refused:
        read_manifest(f"s3://bucket/{name}")
    assert "secret" not in str(refused.value)


def test_the_folders_limit_is_a_number_of_gib(web, clip, monkeypatch):
    web.files["clip.mp4"] = clip("limit.mp4", frames=25).read_bytes()
    monkeypatch.setenv("MMF_STAGED_GB", "some")
    with Decoder(SIGNALS) as decoder, pytest.raises(MmfError, match="MMF_STAGED_GB is 'some'"):
        decoder.submit("clip", f"{web.url}/clip.mp4")
    monkeypatch.setenv("MMF_STAGED_GB", "1e-6")  # 1,073 bytes
    with Decoder(SIGNALS) as decoder:
        decoder.submit("clip", f"{web.url}/clip.mp4")
        _, ended = outcomes(decoder)
    assert ended["clip"].reason == "limit_staged"
    assert "at most 1073 are fetched (MMF_STAGED_GB)" in ended["clip"].message


def test_rows_of_a_far_file_are_those_of_the_same_file_here(web, clip, tmp_path):
    path = clip("same.mp4", frames=50, sound=2.0)
    web.files["a folder/same.mp4"] = path.read_bytes()
    web.files["same.vtt"] = b"WEBVTT\n\n00:01.000 --> 00:02.000\nsaid\n"
    (tmp_path / "said.vtt").write_bytes(web.files["same.vtt"])
    web.files["a%20folder/same.mp4"] = web.files["a folder/same.mp4"]
    with Decoder(SIGNALS) as decoder:
        decoder.submit("here", str(path), captions=str(tmp_path / "said.vtt"))
        decoder.submit(
            "far",
            f"{web.url}/a%20folder/same.mp4",
            captions=f"{web.url}/same.vtt",
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        rows, _ = outcomes(decoder)
    assert rows["far"] == rows["here"]
    assert (2, 1.0, "said") in rows["far"]


def test_a_moments_failure_is_tried_again_and_a_lasting_one_is_not_for_ever(web, clip):
    web.files["clip.mp4"] = clip("again.mp4", frames=25).read_bytes()
    for failing, short, good in ((2, 0, True), (0, 2, True), (0, 3, False), (99, 0, False)):
        web.failing, web.short = failing, short
        web.asked.clear()
        with Decoder(SIGNALS) as decoder:
            decoder.submit("clip", f"{web.url}/clip.mp4")
            _, ended = outcomes(decoder)
        assert isinstance(ended["clip"], Ended) == good
        assert len(web.asked) <= 6
        if not good:
            assert ended["clip"].reason == "fetch_failed"


def test_files_are_fetched_ahead_and_never_more_than_the_folder_may_hold(web, clip, tmp_path):
    data = clip("ahead.mp4", frames=50).read_bytes()
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, sum(p.stat().st_size for p in staged(tmp_path)))

    for number in range(8):
        web.files[f"{number}.mp4"] = data
    with Decoder(SIGNALS, limits=Limits(staged_bytes=3 * len(data))) as decoder:
        for number in range(8):
            decoder.submit(str(number), f"{web.url}/{number}.mp4")
        rows, ended = outcomes(decoder, look)
    assert list(ended) == [str(number) for number in range(8)]
    assert all(isinstance(o, Ended) for o in ended.values())
    assert len(set(map(str, rows.values()))) == 1
    assert most <= 3 * len(data)
    assert staged(tmp_path) == []
    order = [p for m, p in web.asked if m == "GET"]
    assert sorted(order[:3]) == ["/0.mp4", "/1.mp4", "/2.mp4"]


def test_those_who_share_a_cache_share_its_room(web, clip, monkeypatch):
    monkeypatch.setattr(staging_module, "LOOK", 0.001)
    data = clip("room.mp4", frames=25).read_bytes()
    web.files |= {"one.mp4": data, "other.mp4": data}
    with closing(Staging(len(data))) as one, closing(Staging(len(data))) as other:
        first = one.fetch(f"{web.url}/one.mp4")
        assert Path(first.path()).read_bytes() == data
        second = other.fetch(f"{web.url}/other.mp4")
        while ("HEAD", "/other.mp4") not in web.asked:
            time.sleep(0.001)
        time.sleep(0.1)
        assert ("GET", "/other.mp4") not in web.asked
        first.release()
        assert Path(second.path()).read_bytes() == data


def test_what_a_killed_process_left_is_removed_and_the_livings_is_not(web, clip, tmp_path):
    web.files["clip.mp4"] = clip("left.mp4", frames=25).read_bytes()
    root = tmp_path / "cache" / "mmf-staged"
    host = staging_module.socket.gethostname()
    folders = [root / f"{host}-{pid}-x" for pid in (2**22 + 1, staging_module.os.getppid())]
    for folder in (*folders, root / "another-1-x"):
        folder.mkdir(parents=True)
    with Decoder(SIGNALS) as decoder:
        decoder.submit("clip", f"{web.url}/clip.mp4")
        outcomes(decoder)
    assert {p.name for p in root.iterdir()} == {folders[1].name, "another-1-x"}


def test_closing_in_the_middle_leaves_nothing(web, clip, tmp_path):
    for number in range(4):
        web.files[f"{number}.mp4"] = clip("middle.mp4", frames=50).read_bytes()
    with Decoder(SIGNALS) as decoder:
        for number in range(4):
            decoder.submit(str(number), f"{web.url}/{number}.mp4")
        next(decoder.events())
    assert staged(tmp_path) == []


def test_captions_are_fetched_where_a_manifest_names_them_and_not_looked_for(web, clip, tmp_path):
    web.files["named.mp4"] = web.files["beside.mp4"] = clip("told.mp4", frames=50).read_bytes()
    web.files["elsewhere/said"] = b"1\n00:00:00,500 --> 00:00:01,000\nthe red cat\n"
    web.files["beside.srt"] = web.files["elsewhere/said"]
    lines = [
        {
            "video_id": "named",
            "path": f"{web.url}/named.mp4",
            "captions": f"{web.url}/elsewhere/said",
        },
        {"video_id": "beside", "path": f"{web.url}/beside.mp4"},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    asked = [FeatureRequest(name="text", modality="text", backbone="hashing")]
    result = extract(manifest, tmp_path / "feats", asked, JobOptions(workers=1))
    assert (result.counts["text"].done, result.counts["text"].skipped) == (1, 1)
    store = FeatureStore(tmp_path / "feats")
    assert store.read("text", "named").times.tolist() == [0.5]
    assert store.state("text")["beside"] == "skipped"
    assert not [path for _, path in web.asked if path.startswith("/beside.srt")]
    assert staged(tmp_path) == []


def test_a_manifest_may_name_media_in_a_bucket_and_on_the_web(web, s3, clip, tmp_path):
    path = clip("named.mp4", frames=50)
    web.files["web.mp4"] = path.read_bytes()
    bucket = from_url("s3://bucket", client_options={"allow_http": True})
    obstore.put(bucket, "clips/named clip.mp4", path.read_bytes())
    lines = {
        "s3": "s3://bucket/clips/named clip.mp4",
        "web": f"{web.url}/web.mp4",
        "here": str(path),
        "gone": "s3://bucket/clips/gone.mp4",
    }
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps({"video_id": k, "path": v}) for k, v in lines.items()))
    asked = [FeatureRequest(name="rgb", modality="rgb", backbone="hog")]
    result = extract(manifest, tmp_path / "feats", asked, JobOptions(workers=1))
    assert (result.counts["rgb"].done, result.counts["rgb"].failed) == (3, 1)
    store = FeatureStore(tmp_path / "feats")
    (failure,) = store.failures().to_pylist()
    assert (failure["video_id"], failure["reason"]) == ("gone", "fetch_failed")
    assert len({store.read("rgb", key).values.tobytes() for key in ("s3", "web", "here")}) == 1
    assert staged(tmp_path) == []


def test_one_url_is_a_source_and_is_planned_measured_and_extracted(web, clip, tmp_path, capsys):
    path = clip("one-url.mp4", frames=50, sound=2.0)
    web.files["a%20clip.mp4"] = path.read_bytes()
    url = f"{web.url}/a%20clip.mp4?signature=secret"
    options = ["extract", url, "--store", str(tmp_path / "s.mmf"), "--modality", "rgb"]
    cli.cli.main([*options, "--dry-run", "--sample", "3"], standalone_mode=False)
    said = capsys.readouterr()
    assert "1 videos at URLs are fetched" in said.err
    assert "1 videos; 1 have something to do: by their headers " in said.out
    assert "50 frames\n" in said.out
    assert "measured on 1 videos" in said.out
    cli.cli.main(options, standalone_mode=False)
    assert "rgb: 1 videos = 1 done" in capsys.readouterr().out
    store = FeatureStore(tmp_path / "s.mmf")
    assert list(store.state("rgb").items()) == [("a clip.mp4", "done")]
    assert "secret" not in str(store.videos().to_pylist())
    assert staged(tmp_path) == []


def test_what_networks_receive_is_drawn_of_a_url_that_is_fetched_once(web, clip, tmp_path):
    pytest.importorskip("matplotlib")
    web.files["far.mp4"] = clip("drawn.mp4", frames=50).read_bytes()
    asked = [FeatureRequest(name="rgb", modality="rgb", backbone="hog")]
    (band,) = look(f"{web.url}/far.mp4", asked, str(tmp_path / "far.png"))
    assert band.times == [0.0, 1.0]
    assert [p for m, p in web.asked if m == "GET"] == ["/far.mp4"]
    with pytest.raises(Unusable, match=r"/gone\.mp4': there is no such file") as gone:
        look(f"{web.url}/gone.mp4?signature=secret", asked, str(tmp_path / "gone.png"))
    assert "secret" not in str(gone.value)
    web.files["text.mp4"] = b"this is no video" * 100
    with pytest.raises(Unusable, match=r"'http://[^']*/text\.mp4': "):
        look(f"{web.url}/text.mp4", asked, str(tmp_path / "text.png"))
    assert staged(tmp_path) == []


def test_lanes_are_as_many_as_media_at_urls_are_large(tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def begun(event) -> None:
        raise Begun(event.lanes)

    def lanes(*rows: str) -> int:
        manifest = tmp_path / "list.csv"
        manifest.write_text("\n".join(["video_id,path,size", *rows]))
        asked = [FeatureRequest(name="rgb", modality="rgb", backbone="hog")]
        with pytest.raises(Begun) as told:
            extract(manifest, tmp_path / "s.mmf", asked, JobOptions(), begun)
        return told.value.args[0]

    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    far = [f"v{i},s3://bucket/{i}.mp4,{{}}" for i in range(4)]
    assert lanes(*(row.format(1000) for row in far)) == 1
    assert lanes(*(row.format(32 << 20) for row in far)) == 4
    assert lanes(*(row.format("") for row in far)) == 4
    assert lanes("v,nowhere.mp4,") == 1
