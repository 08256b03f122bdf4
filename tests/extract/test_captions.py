import pytest

from mmf.extract.media.captions import (
    Cue,
    beside,
    decode_text,
    parse_captions,
    read_captions,
    same_language,
)


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
    assert beside(clip, "") == str(tmp_path / "clip.de.srt")
    assert beside(str(tmp_path / "nothing.mp4"), "") is None


def test_language_tags_are_compared_by_language():
    assert same_language("en-US", "eng")
    assert same_language("deu", "ger")
    assert not same_language("", "en")
    assert not same_language("en", "es")
