import os
from fractions import Fraction

import av
import pytest

from mmf.extract.media.captions import (
    Cue,
    beside,
    decode_text,
    parse_captions,
    read_captions,
    same_language,
)
from mmf.extract.media.decoding import Done, Facts, Request, Row, decode
from mmf.extract.signals import Cues


def texts(text: str) -> list[str]:
    return [cue.text for cue in parse_captions(text)[0]]


@pytest.mark.parametrize(
    ("name", "cues", "malformed"),
    [
        ("captions_with_bom.vtt", 4, 0),
        ("comments.vtt", 3, 0),
        ("cue_tags.vtt", 3, 0),
        ("empty.vtt", 0, 0),
        ("invalid.vtt", 7, 0),
        ("invalid_format1.srt", 0, 0),
        ("invalid_format2.srt", 0, 0),
        ("invalid_format3.srt", 0, 0),
        ("invalid_format4.srt", 0, 1),
        ("invalid_timeframe.srt", 5, 0),
        ("invalid_timeframe.vtt", 6, 1),
        ("invalid_timeframe_in_cue_text.vtt", 3, 1),
        ("metadata_headers.vtt", 2, 0),
        ("metadata_headers_multiline.vtt", 2, 0),
        ("missing_caption_text.srt", 4, 1),
        ("missing_caption_text.vtt", 4, 1),
        ("missing_timeframe.srt", 4, 0),
        ("missing_timeframe.vtt", 6, 0),
        ("no_captions.vtt", 0, 0),
        ("one_caption.srt", 1, 0),
        ("sample.sbv", 5, 0),
        ("sample.srt", 5, 0),
        ("sample.vtt", 16, 0),
        ("styles.vtt", 1, 0),
        ("using_identifiers.vtt", 6, 0),
        ("youtube_dl.vtt", 3, 0),
        ("two_captions.sbv", 2, 0),
    ],
)
def test_every_real_caption_file_gives_its_cues(shared_data, name, cues, malformed):
    path = shared_data / "videos/glut23+webvtt-py/tests/subtitles" / name
    found, bad = read_captions(str(path))
    assert (len(found), bad) == (cues, malformed)
    assert all(cue.text and "-->" not in cue.text and "<" not in cue.text for cue in found)
    assert [c.start for c in found] == sorted(c.start for c in found)


def test_broken_times_cost_their_cue_only():
    text = "WEBVTT\n\n00:01.000 --> 00:0x.000\nlost\n\n00:02.000 --> 00:03.000\nkept\n"
    assert parse_captions(text) == ([Cue(start=2.0, end=3.0, text="kept")], 1)


@pytest.mark.parametrize(
    "text",
    [
        "1\n00:00:01,500 --> 00:00:02,250\nhello\nthere\n",
        "WEBVTT\n\nintro\n00:01.500 --> 00:02.250 align:start\nhello\nthere\n",
        "0:00:01.500,0:00:02.250\nhello\nthere\n",
    ],
    ids=["srt", "vtt", "sbv"],
)
def test_the_three_formats_say_the_same(text):
    assert parse_captions(text) == ([Cue(start=1.5, end=2.25, text="hello\nthere")], 0)
    assert parse_captions(text.replace("\n", "\r\n")) == parse_captions(text)


def test_tags_entities_and_control_characters_are_no_text():
    text = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<i>A</i> &amp; {\\an8}<c.red>B</c>\x1b[31m\x00 1 < 2\n"
    )
    assert texts(text) == ["A & B[31m 1 < 2"]


def test_rolling_captions_say_each_line_once():
    text = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\n \none<00:00.500><c> two</c>\n\n"
        "00:02.000 --> 00:02.010\none two\n \n\n"
        "00:02.010 --> 00:04.000\none two\nthree<00:03.000><c> four</c>\n\n"
        "00:04.000 --> 00:04.010\nthree four\n \n"
    )
    assert texts(text) == ["one two", "three four"]


YOUTUBE_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.080 --> 00:00:02.389 align:start position:0%
{blank}
so<00:00:00.320><c> this</c><00:00:00.560><c> is</c><00:00:00.800><c> it</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
so this is it
{blank}

00:00:02.399 --> 00:00:04.550 align:start position:0%
so this is it
no<00:00:02.639><c> no</c><00:00:03.120><c> wait</c>

00:00:04.550 --> 00:00:04.560 align:start position:0%
no no wait
{blank}

00:00:04.560 --> 00:00:06.000 align:start position:0%
no no wait
no<00:00:04.800><c> no</c><00:00:05.120><c> wait</c>

00:00:06.000 --> 00:00:06.010 align:start position:0%
no no wait
{blank}
""".replace("{blank}", " ")
YOUTUBE_SRT = """1
00:00:00,080 --> 00:00:02,389
so this is it

2
00:00:02,389 --> 00:00:02,399
so this is it

3
00:00:02,399 --> 00:00:04,550
so this is it
no no wait

4
00:00:04,550 --> 00:00:04,560
no no wait

5
00:00:04,560 --> 00:00:06,000
no no wait
and then
"""


def test_youtubes_automatic_captions_say_each_line_once_when_it_is_said():
    cues, malformed = parse_captions(YOUTUBE_SRT)
    assert [(c.start, c.text) for c in cues] == [
        (0.08, "so this is it"),
        (2.399, "no no wait"),
        (4.56, "and then"),
    ]
    assert malformed == 0
    cues, malformed = parse_captions(YOUTUBE_VTT)
    assert [(c.start, c.end, c.text) for c in cues] == [
        (0.08, 2.389, "so this is it"),
        (2.399, 4.55, "no no wait"),
        (4.56, 6.0, "no no wait"),  # a line that is said twice
    ]
    assert malformed == 0


def test_a_line_that_is_really_said_twice_stays():
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\nNo.\n\n00:02.000 --> 00:03.000\nNo.\n"
    assert texts(text) == ["No.", "No."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_text_is_read_in_any_encoding(encoding):
    assert decode_text("Zoë\n".encode(encoding)) == "Zoë\n"


def test_a_caption_file_without_a_language_comes_first(tmp_path):
    for name in (
        "clip.en.vtt",
        "clip.srt",
        "clip.de.srt",
        "clip2.srt",
        "clip.mp4",
        "clip.notes.txt",
    ):
        (tmp_path / name).touch()
    clip = str(tmp_path / "clip.mp4")
    assert beside(clip, "") == str(tmp_path / "clip.srt")
    assert beside(clip, "en") == str(tmp_path / "clip.en.vtt")
    assert beside(clip, "eng") == str(tmp_path / "clip.en.vtt")
    assert beside(clip, "fr") is None
    (tmp_path / "clip.srt").unlink()
    os.utime(tmp_path, (0, 0))  # the clock of a file system in memory ticks in milliseconds
    assert beside(clip, "") == str(tmp_path / "clip.de.srt")
    assert beside(str(tmp_path / "nothing.mp4"), "") is None


def test_language_tags_are_compared_by_language():
    assert same_language("en-US", "eng")
    assert same_language("deu", "ger")
    assert not same_language("", "en")
    assert not same_language("en", "es")


# ---- TTML, SCC

TTML = """<?xml version="1.0" encoding="utf-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"
    xml:lang="en" ttp:frameRate="25">
<body begin="1s"><div>
<p begin="00:00:00.500" end="00:00:01.250">hello<br/> there,  <span>Zoë</span></p>
<p begin="3x" end="4s">lost</p>
<p begin="00:00:02:05" dur="2s">a &amp; b</p>
</div></body></tt>"""
POP_ON = """Scenarist_SCC V1.0

00:00:01:00\t9420 9420 9470 9470 c845 4c4c 4f80 942f 942f

00:00:03:00\t942c 942c
"""
ROLL_UP = """Scenarist_SCC V1.0

00:00:01:00\t9425 9425 94ad 94ad 9470 9470 c845 4c4c 4f80

00:00:03:00\t9425 9425 94ad 94ad 9470 9470 54c8 4552 4580

00:00:05:00\t9425 9425 94ad 94ad 9470 9470 c7cf 4fc4 8080
"""


def test_ttml_is_read_with_the_times_of_what_its_paragraphs_lie_in():
    pytest.importorskip("ttconv")
    assert parse_captions(TTML) == (
        [
            Cue(start=1.5, end=2.25, text="hello\nthere, Zoë"),
            Cue(start=3.2, end=5.2, text="a & b"),
        ],
        1,
    )


def test_ttml_may_have_its_times_on_spans():
    pytest.importorskip("ttconv")
    text = """<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><body><div><p>
    <span begin="1s" end="2s">one</span> <span begin="2s" end="3s">two</span></p>
    </div></body></tt>"""
    assert parse_captions(text) == ([Cue(start=1.0, end=3.0, text="one two")], 0)


@pytest.mark.parametrize(
    "text",
    [
        "<tt xmlns='http://www.w3.org/ns/ttml'><body>",
        "<?xml version='1.0'?><tt></tt>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><tt xmlns='http://www.w3.org/ns/ttml'>&a;</tt>",
        "Scenarist_SCC V1.0\n\n00:00:01:00\tzzzz 9420\n",
    ],
)
def test_timed_text_that_is_broken_is_counted_and_gives_nothing(text):
    pytest.importorskip("ttconv")
    assert parse_captions(text) == ([], 1)


def test_scc_is_read_and_its_rolling_lines_come_once():
    pytest.importorskip("ttconv")
    (cue,), malformed = parse_captions(POP_ON)
    assert (cue.text, malformed) == ("HELLO", 0)
    assert cue.start == pytest.approx(37 * 1001 / 30000)  # shown by the 7th pair of bytes
    assert cue.end == pytest.approx(90 * 1001 / 30000)
    rolled, _ = parse_captions(ROLL_UP)
    assert [c.text for c in rolled] == ["HELLO", "THERE", "GOOD"]
    assert [round(c.start) for c in rolled] == [1, 3, 5]


# ---- files and streams


def cues_of(path, facts=None, **options):
    *rows, done = decode(str(path), [Cues(**options)], Request(facts=facts or Facts()))
    assert isinstance(done, Done)
    return [(row.time, row.payload) for row in rows if isinstance(row, Row)], done.missing


def test_a_files_malformed_cues_are_told(tmp_path, clip):
    pytest.importorskip("ttconv")
    path = tmp_path / "told.mp4"
    path.write_bytes(clip("told.mp4", frames=50).read_bytes())
    (tmp_path / "told.ttml").write_text(TTML, encoding="utf-16")
    facts = Facts()
    assert cues_of(path, facts)[0] == [(1.5, "hello\nthere, Zoë"), (3.2, "a & b")]
    assert facts.bad_packets == 1


ASS = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
)


def test_embedded_captions_are_chosen_by_language(tmp_path):
    path = tmp_path / "two.mkv"
    said = {"eng": ["one", "two"], "ger": ["eins", "zwei", "<i>drei</i>"]}
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height = 64, 48
        streams = {}
        for language in said:
            streams[language] = container.add_stream("subrip")
            streams[language].metadata["language"] = language
            streams[language].codec_context.subtitle_header = ASS
        frames = [av.VideoFrame(64, 48, "yuv420p") for _ in range(100)]
        for i, frame in enumerate(frames):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for language, texts in said.items():
            for second, text in enumerate(texts):
                packet = av.Packet(text.encode())
                packet.stream, packet.time_base = streams[language], Fraction(1, 1000)
                packet.pts = packet.dts = 1000 * second + 500
                packet.duration = 800
                container.mux(packet)
    assert cues_of(path)[0] == [(0.5, "one"), (1.5, "two")]
    assert cues_of(path, language="de")[0] == [(0.5, "eins"), (1.5, "zwei"), (2.5, "drei")]
    assert cues_of(path, language="fr") == ([], {0: "no_captions"})


def test_captions_without_end_are_cut_off_and_counted(tmp_path, clip):
    path = tmp_path / "long.mp4"
    path.write_bytes(clip("long.mp4", frames=25).read_bytes())
    cues = [f"{i}\n00:00:00,{i:03} --> 00:00:01,000\n{'x' * 10_000}\n" for i in range(1, 201)]
    path.with_suffix(".srt").write_text("\n".join(cues))
    request = Request()
    rows = [e for e in decode(str(path), [Cues()], request) if isinstance(e, Row)]
    assert sum(len(row.payload) for row in rows) <= 1 << 20
    assert len(rows) + request.facts.bad_packets == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x1b]0;title\x07\x1b[2J",
        "a\ud800b".encode("utf-8", "surrogatepass"),
        b"caf\xe9 \xff\xfe",
        b"a\0b\x85c",
        "\u202edlrow".encode(),
        b"=cmd|' /C calc'!A0",
        b"[" * 100_000,
        b"<i>" * 50_000 + b"x",
        b"{" * 50_000 + b"x",
        b"&#x1b;[31mred &#55296; &#0;",
    ],
)
def test_hostile_captions_are_text_that_every_table_takes(tmp_path, raw):
    path = tmp_path / "hostile.srt"
    path.write_bytes(b"1\n00:00:00,500 --> 00:00:01,000\nsaid " + raw + b"\n")
    cues, _ = read_captions(str(path))
    for cue in cues:
        cue.text.encode()  # no lone surrogate
        assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in cue.text)
