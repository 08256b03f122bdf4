"""A page as HTML that needs nothing else: styles, scripts, plots and pictures are inside it.

All text is escaped by the template; data lie in JSON in which no character can end the script that
holds it. The page's own policy (CSP) allows the two scripts that mmf wrote, by their sha256, and
pictures that are inside it: even a text that got through could neither run nor send anything.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from mmf import __version__, from_extra
from mmf.report.page import Cell, Page, Part, Picture, Plot, Section, Table

_HERE = Path(__file__).parent
SHOWN = 100  # rows of a table that stand in the HTML; the others come when asked for
_FILTERED = 20  # rows from which on a table has a filter
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028"}


def write_page(page: Page, out: str | Path) -> int:
    """Write the page, replacing the file as a whole; its bytes.

    Raises MmfError where jinja2 or plotly are not there.
    """
    data = html_of(page).encode("utf-8", "replace")  # of a file's name, what is no text
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.writing")
    part.write_bytes(data)
    part.replace(out)
    return len(data)


def html_of(page: Page) -> str:
    """The page's HTML."""
    jinja2, offline = libraries()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    plots = any(isinstance(p, Plot) for section in page.sections for p in section.parts)
    scripts = [_script("page.js")]
    if plots:
        scripts.insert(0, _one_line_end(offline.get_plotlyjs()))
    numbers = count()
    html: str = environment.get_template("page.html").render(
        page=page,
        sections=[_of_section(section, numbers) for section in page.sections],
        style=_markup(jinja2, _script("page.css")),
        scripts=[_markup(jinja2, script) for script in scripts],
        policy=_policy(scripts),
        version=__version__,
    )
    return html


def libraries() -> tuple[Any, Any]:
    """jinja2 and plotly.offline; MmfError where they are not there."""
    jinja2, plotly = (
        from_extra("report", name, "`mmf report`") for name in ("jinja2", "plotly.offline")
    )
    return jinja2, plotly


def _markup(jinja2: Any, text: str) -> Any:
    """Text of mmf's own that is HTML already."""
    return jinja2.utils.markupsafe.Markup(text)


def _script(name: str) -> str:
    return _one_line_end((_HERE / name).read_text(encoding="utf-8"))


def _one_line_end(text: str) -> str:
    """As a browser reads it before it takes the hash."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _of_section(section: Section, numbers: "count[int]") -> dict[str, Any]:
    parts = [_of_part(part, numbers) for part in section.parts]
    return {"title": section.title, "id": section.id, "parts": parts}


def _of_part(part: Part, numbers: "count[int]") -> dict[str, Any]:
    """What the template needs of a part, beside the part itself."""
    found: dict[str, Any] = {"kind": type(part).__name__, "part": part, "source": source}
    if isinstance(part, Table):
        found |= _of_table(part, numbers)
    if isinstance(part, Plot):
        pictures = {key: source(picture) for key, picture in part.pictures.items()}
        figure = {**part.figure, "pictures": pictures}
        found |= {"number": next(numbers), "json": safe_json(figure)}
        if part.numbers is not None:
            found["numbers"] = _of_table(part.numbers, numbers)
    return found


def _of_table(table: Table, numbers: "count[int]") -> dict[str, Any]:
    rows = [[shown(cell) for cell in row] for row in table.rows]
    numeric = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    return {
        "kind": "Table",
        "part": table,
        "number": next(numbers),
        "rows": rows[:SHOWN],
        "total": len(rows),
        "numeric": numeric,
        "filtered": len(rows) > _FILTERED,
        "sorted": len(rows) > 1,
        "json": safe_json({"rows": rows, "numeric": numeric, "shown": SHOWN}),
    }


def shown(cell: Cell) -> str:
    """A cell as it is read: four digits behind the point, thousands apart, nothing for None."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return cell


def _is_numeric(cells: Sequence[Cell]) -> bool:
    there = [cell for cell in cells if cell is not None]
    return bool(there) and all(isinstance(cell, int | float) for cell in there)


def source(picture: Picture) -> str:
    """The picture as a URL that holds it."""
    return f"data:{picture.kind};base64,{base64.b64encode(picture.data).decode()}"


def safe_json(value: Any) -> str:
    """JSON that stands inside a script and cannot end it; what is not finite is null."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
