"""Pages as HTML: nothing that a video or a class is called is obeyed, and nothing is fetched."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest

from mmf import MmfError
from mmf.report import (
    Card,
    Cards,
    Facts,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    attempt,
    write_page,
)
from mmf.report.plots import bars, label, labels, rounded
from mmf.report.rendering import SHOWN, html_of, safe_json

BAD = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\u2028&amp;\x00"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Elements(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags:
            self.texts.append((self.tags[-1][0], data))


def page(*parts) -> Page:
    return Page(title=BAD, subtitle=BAD, sections=[Section(title=BAD, id="one", parts=parts)])


def every_part():
    figure = bars([BAD, "b"], [0.5, 1.0], BAD)
    table = Table(columns=[BAD, "n"], rows=[[BAD, 1], [BAD, None]], caption=BAD)
    plot = Plot(
        figure={"data": figure["data"], "layout": {}},
        alt=BAD,
        caption=BAD,
        numbers=table,
        pictures={BAD: Picture(data=PNG, alt=BAD)},
    )
    card = Card(
        title=BAD,
        facts={BAD: BAD},
        pictures=[Picture(data=PNG, alt=BAD)],
        lines=[BAD],
        missing=BAD,
    )
    texts = [Text(text=BAD, kind=k, folded=BAD) for k in ("plain", "note", "missing", "code")]
    return [
        *texts,
        Facts(facts={BAD: BAD}),
        table,
        plot,
        Picture(data=PNG, alt=BAD, caption=BAD),
        Cards(cards=[card]),
    ]


def test_a_row_of_another_length_and_a_picture_of_no_kind_are_refused():
    with pytest.raises(MmfError, match="a row of 1 cells in a table of 2 columns"):
        Table(columns=["a", "b"], rows=[[1]])
    with pytest.raises(MmfError, match="expected PNG, JPEG, WebP or SVG"):
        _ = Picture(data=b"GIF89a", alt="").kind


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MmfError, match=r"needs jinja2.*pip install 'mmf-video\[report\]'"):
        html_of(page())


def test_a_section_that_cannot_be_made_says_why_and_a_mistake_of_ours_is_not_hidden():
    def without_a_library():
        raise ModuleNotFoundError("No module named 'matplotlib'")

    section = attempt("One", "one", without_a_library)
    assert section.failed == "This could not be made: No module named 'matplotlib'"
    with pytest.raises(KeyError):
        attempt("One", "one", lambda: {}["two"])


def test_names_never_become_elements_whatever_part_they_stand_in():
    found = Elements(html_of(page(*every_part())))
    scripts = [a for tag, a in found.tags if tag == "script"]
    data = [a for a in scripts if a.get("type") == "application/json"]
    assert len(scripts) - len(data) == 2  # plotly and the page's own
    assert {a["src"][:10] for tag, a in found.tags if tag == "img"} == {"data:image"}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert sum(BAD.replace("\x00", "") in text.replace("\x00", "") for _, text in found.texts) > 10


def test_json_in_a_script_cannot_end_it_and_comes_back_equal():
    value = {"x": [BAD, 1.5, {"y": BAD}]}
    text = safe_json(value)
    assert not re.search(r"[<>&\u2028]", text)
    assert json.loads(text) == value
    assert safe_json([float("nan"), float("inf")]) == "[null,null]"


def test_a_text_of_a_plot_has_no_tag_that_plotly_would_obey():
    assert label("<a href='x'>b</a> &lt;") == "&lt;a href='x'&gt;b&lt;/a&gt; &amp;lt;"
    assert label("a\x00\nb") == "a\ufffd\ufffdb"
    assert len(label("x" * 1000)) < 70
    assert labels(["a" * 99, "a" * 98, "b"], 9) == ["aaaa … aaa", "aaaa … aaa (2)", "b"]
    figure = bars(["<b>"], [1], "<i>")
    assert figure["data"][0]["y"] == ["&lt;b&gt;"]
    assert figure["layout"]["xaxis"]["title"]["text"] == "&lt;i&gt;"


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else():
    html = html_of(page(*every_part()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}
    assert hashes == allowed
    assert len(hashes) == 2


def test_a_page_without_a_plot_is_without_plotly(tmp_path):
    assert write_page(page(Text(text="x")), tmp_path / "deep" / "page.html") < 50_000
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["page.html"]


def test_of_a_long_table_the_first_rows_stand_in_the_page_and_all_in_its_data():
    rows = [[f"class {i}", i / 7, i] for i in range(3862)]
    html = html_of(page(Table(columns=["class", "ap", "n"], rows=rows)))
    found = Elements(html)
    assert sum(tag == "tr" for tag, _ in found.tags) == SHOWN + 1
    given = next(json.loads(t) for tag, t in found.texts if tag == "script" and '"rows"' in t)
    assert len(given["rows"]) == 3862
    assert given["rows"][-1] == ["class 3861", "551.5714", "3,861"]
    assert given["numeric"] == [False, True, True]
    assert len(html) < 300_000


def test_rounded_numbers_have_five_digits():
    given = [0.0, 1.0, -0.000123456789, 123456.789, 2 / 3]
    assert rounded(given) == [float(f"{x:.5g}") for x in given]
    assert rounded([float("nan")])[0] != rounded([float("nan")])[0]
