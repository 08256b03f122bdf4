"""A comparison's table: for people (Markdown, the terminal) and in full (CSV)."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from mmf.fuse.compare.comparison import Answer
from mmf.fuse.compare.running import bytes_on_disk, epoch_seconds
from mmf.fuse.training.checkpoint import write_text

_SHOWN = {  # of the metrics, by the main one; the CSV has all
    "accuracy": ("accuracy", "mean_class_accuracy", "gap@20"),
    "gap@20": ("gap@20", "map@20", "perr", "hit@1"),
}

_USED = {"gflops": "GFLOPs used", "milliseconds": "ms used"}  # by a policy, of an item


def numbers(answer: Answer) -> dict[str, Any]:
    """All that is known of a row, by column; what a failed row lacks is left out."""
    config = (answer.cell or answer.row.cells[0]).config
    found: dict[str, Any] = {
        "row": answer.row.name,
        "fusion": config.fusion,
        "aggregate": config.aggregate,
        "features": ",".join(config.features),
        "train_videos": config.train_videos,
        "failure": answer.failure,
    }
    found |= {f"published {name}": value for name, value in answer.row.published.items()}
    if answer.cell is None:
        return found
    scores, runs = answer.scores, answer.runs
    found |= {
        "chosen": ",".join(f"{k}={v}" for k, v in answer.cell.chosen.items()),
        "seeds": len(runs),
        f"validation {runs[0].metric}": fmean(run.value for run in runs),
        "test items": len(scores[0].items),
    }
    for name in scores[0].metrics:
        values = [one.metrics[name] for one in scores]
        found[name] = fmean(values)
        found[f"{name} sd"] = stdev(values) if len(values) > 1 else None
    seconds = [s for run in runs for s in epoch_seconds(run.path)]
    found |= {
        "parameters": scores[0].parameters,
        "flops per item": scores[0].flops,
        "milliseconds per item": scores[0].milliseconds,
        "seconds per epoch": median(seconds) if seconds else None,
        "bytes on disk": round(fmean(bytes_on_disk(run.path) for run in runs)),
    }
    if answer.interval is not None:
        found |= {
            "difference": answer.interval.difference,
            "difference low": answer.interval.low,
            "difference high": answer.interval.high,
        }
    return found


def for_people(answers: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    """The columns and the cells of the table; columns that would be empty are left out."""
    rows = [numbers(answer) for answer in answers]
    main = next(answer.runs[0].metric for answer in answers if answer.runs)
    known = dict.fromkeys(n for row in rows for n in row if _is_of_policy(n))
    used = sorted(known, key=lambda name: name in _USED)  # every row's rates, then what they cost
    shown: list[dict[str, str]] = []
    for row in rows:
        cells = {"row": row["row"], "chosen": row.get("chosen", "")}
        for name in _SHOWN[main]:
            cells[name] = _mean(row, name)
            cells[f"{name}, published"] = _published(row.get(f"published {name}"))
        cells |= {_USED.get(name, name): _mean(row, name) for name in used}
        cells |= {
            f"difference in {main}": _difference(row),
            "parameters": _short(row.get("parameters")),
            "FLOPs/item": _short(row.get("flops per item")),
            "ms/item": _digits(row.get("milliseconds per item")),
            "s/epoch": _digits(row.get("seconds per epoch")),
            "on disk": f"{_short(row.get('bytes on disk'))}B" if "bytes on disk" in row else "",
            "not trained": row["failure"],
        }
        shown.append(cells)
    columns = [name for name in shown[0] if any(row[name] for row in shown)]
    return columns, [[row[name] for name in columns] for row in shown]


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """Every number of every row, unrounded."""
    rows = [numbers(answer) for answer in answers]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, [n for n in columns if n != "failure"] + ["failure"])
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_markdown(answers: Sequence[Answer], path: Path, notes: Sequence[str]) -> None:
    """The table for people, with what its columns mean below."""
    columns, cells = for_people(answers)
    aligned = ["---"] + ["--:"] * (len(columns) - 1)
    lines = [f"| {' | '.join(_escaped(c) for c in row)} |" for row in (columns, aligned, *cells)]
    text = "\n".join(lines) + "\n\n" + "".join(f"{note}\n" for note in notes)
    write_text(path, text)


def notes(answers: Sequence[Answer], against: str, resamples: int) -> list[str]:
    """What stands below the table."""
    done = [answer for answer in answers if answer.runs]
    main, seeds = done[0].runs[0].metric, len(done[0].runs)
    found = [f"Test split; mean ± standard deviation over {seeds} seeds."]
    if seeds == 1:
        found = ["Test split; one seed."]
    if any(len(answer.row.cells) > 1 for answer in answers):
        found.append(f"Chosen by the best mean of the validation {main}; test was not looked at.")
    if any(answer.interval for answer in answers):
        found.append(
            f"Difference in {main} to {against or done[0].row.name}, with its 95 % interval from "
            f"{resamples} resamples of the test videos, the same for both rows and every seed."
        )
    if any(_is_of_policy(name) for answer in done for name in answer.scores[0].metrics):
        found.append(
            "used_…: the share of an item's segments in which a policy uses a modality. GFLOPs and "
            "ms used: what the features of an item then cost, where that is known: a product and "
            "its sum are two operations, with deciding; milliseconds as extraction has measured "
            "them, with decoding. FLOPs/item and ms/item are of the fusion alone."
        )
    return found


def _is_of_policy(name: str) -> bool:
    """Whether a number is of `fuse.policy.usage`, and not the deviation of one."""
    return (name.startswith("used_") or name in _USED) and not name.endswith(" sd")


def _mean(row: Mapping[str, Any], name: str) -> str:
    if name not in row or math.isnan(row[name]):
        return ""
    sd = row[f"{name} sd"]
    written = (lambda x: f"{x:.3g}") if name in _USED else (lambda x: f"{x:.3f}")
    return written(row[name]) + ("" if sd is None else f" ± {written(sd)}")


def _difference(row: Mapping[str, Any]) -> str:
    if "difference" not in row:
        return ""
    low, high = row["difference low"], row["difference high"]
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _published(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value or ""


def _short(value: int | float | None) -> str:
    """Three digits and the thousands as a letter: 1.38 M."""
    if value is None:
        return ""
    for unit in ("", " k", " M", " G"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
