"""`mmf status --watch`: what comes into a store while others fill it, look after look."""

import itertools
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.shell import EVERY_SECONDS, console, plain, table_of

if TYPE_CHECKING:
    from mmf.store import FeatureStore

EVERY = 5.0  # seconds between two looks on a terminal
LOOKS = 12  # over which a rate is taken


class _Rates:
    """Videos of each feature in a minute, over the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=LOOKS + 1)

    def add(self, now: float, ended: dict[str, int]) -> dict[str, float]:
        """Another look; the rates since the oldest one that is kept."""
        self._looks.append((now, ended))
        then, before = self._looks[0]
        minutes = (now - then) / 60
        if not minutes:
            return dict.fromkeys(ended, 0.0)
        return {f: (n - before.get(f, 0)) / minutes for f, n in ended.items()}


def watch_store(
    store: "FeatureStore",
    *,
    as_json: bool,
    looks: int | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Show what is in the store again and again, until Ctrl-C or so many looks; the exit code."""
    from mmf.extract.stopping import Stop, Stopped

    rates, live = _Rates(), sys.stdout.isatty() and not as_json
    try:
        # a wish that stays: an interrupt is lost where it falls into the end of an object
        with Stop((signal.SIGINT,)) as stop, _shown(as_json=as_json, live=live) as show:
            for number in itertools.count(1):
                show(_look(store, rates))
                if number == looks:
                    return 0
                stop.wait(partial(wait, EVERY if live or as_json else EVERY_SECONDS))
                store.refresh()
    except (Stopped, KeyboardInterrupt):
        pass  # how it is meant to end
    return 130


def _look(store: "FeatureStore", rates: _Rates) -> dict[str, Any]:
    """What there is now, as JSON values."""
    from mmf.store.overview import glance

    found = glance(store)
    ended = {name: sum(counts.values()) for name, counts in found.features.items()}
    per_minute = rates.add(time.monotonic(), ended)
    return {
        "store": store.files.name,
        "time": _iso(time.time()),
        "last_commit": None if found.committed is None else _iso(found.committed),
        "features": {
            name: {**counts, "per_minute": round(per_minute[name], 1)}
            for name, counts in found.features.items()
        },
    }


@contextmanager
def _shown(*, as_json: bool, live: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What shows a look: a table in its place on a terminal, lines elsewhere."""
    if not live:
        yield lambda look: click.echo(json.dumps(look) if as_json else _line(look))
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as place:
        yield lambda look: place.update(_table(look), refresh=True)


def _table(look: dict[str, Any]) -> Any:
    table = table_of(
        ["feature", "done", "failed", "skipped", "videos a minute"],
        [[name, *map(str, counts.values())] for name, counts in look["features"].items()],
    )
    table.title, table.title_justify = plain(look["store"]), "left"
    table.caption, table.caption_justify = _said(look), "left"
    return table


def _line(look: dict[str, Any]) -> str:
    parts = [
        f"{plain(name)} {c['done']} done + {c['failed']} failed + {c['skipped']} skipped, "
        f"{c['per_minute']:g} a minute"
        for name, c in look["features"].items()
    ]
    return " · ".join([*parts, _said(look)])


def _said(look: dict[str, Any]) -> str:
    last = look["last_commit"]
    return f"at {_clock(look['time'])}, last commit {'none yet' if last is None else _clock(last)}"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _clock(iso: str) -> str:
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M:%S")
