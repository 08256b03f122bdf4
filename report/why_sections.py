"""What a page says of why a run says what it says; each is a part of `mmf explain` in small.

The figures are those of `fuse.explain`, as pictures with their sentences; what takes minutes is not
computed for a page, which then names the command that does.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from mmf import MmfError
from mmf.fuse.explain import ablation_picture
from mmf.fuse.explain.ablation import ablate
from mmf.fuse.explain.maps import figure as map_figure
from mmf.fuse.explain.maps import pictures as map_pictures
from mmf.fuse.explain.maps.attention import attentions
from mmf.fuse.explain.maps.figure import MapPicture
from mmf.fuse.explain.maps.layers import attention_layers, self_attention_layers
from mmf.fuse.explain.maps.sensitivity import sensitivities
from mmf.fuse.explain.maps.similarity import similarities
from mmf.fuse.explain.met import Usual, choose_classes, usual
from mmf.fuse.explain.shares import shapley
from mmf.fuse.explain.stencils import picture as stencil_picture
from mmf.fuse.explain.stencils.over_time import over_time
from mmf.fuse.explain.stencils.scores import Said, fidelity, what_they_say
from mmf.fuse.explain.stencils.search import StencilOptions, find_stencils
from mmf.fuse.explain.stencils.tables import clusters, shares
from mmf.fuse.explain.subject import Subject, open_subject
from mmf.fuse.run import Run
from mmf.report.media import Media, Times
from mmf.report.page import Part, Picture, Section, Table, Text, attempt

T = TypeVar("T")

ITEMS = 2_000  # more are not measured again and again for a page
PARAMETERS = 2_000_000  # nor is a larger network climbed
_CLASSES = 6
_DRAWN = 2  # items
_FRAMES = 9
_STENCILS = StencilOptions(restarts=16)
_STEPS = 120  # of an item whose sensitivity is computed for a page


class WhySections:
    """Makes them, each from what the run's kind allows."""

    def __init__(self, run: Run, store: str | None, split: str, media: Media, device: str):
        self._run, self._store, self._split = run, store, split
        self._media, self._device = media, device

    def sections(self) -> list[Section]:
        """Those that its kind of network has."""
        try:
            subject = self._subject
        except MmfError:
            return []  # the sections before have said why
        found = []
        if len(subject.run.specs) > 1:
            found.append(attempt("What it owes to each modality", "ablation", self._owed))
        if subject.network.policy is None:
            found.append(attempt("What each class looks for", "stencils", self._stencils))
        found.append(attempt("How alike its rows are", "similarity", self._similarity))
        if _has(attention_layers, subject):
            found.append(attempt("What attention looks at", "attention", self._attention))
        if _has(self_attention_layers, subject):
            found.append(attempt("How local it is", "sensitivity", self._sensitivity))
        return found

    @cached_property
    def _subject(self) -> Subject:
        return open_subject(self._run, self._store, split=self._split, device=self._device)

    @cached_property
    def _usual(self) -> Usual:
        return usual(self._subject)

    @cached_property
    def _classes(self) -> list[str]:
        return choose_classes(self._subject)[:_CLASSES]

    def _owed(self) -> list[Part]:
        if note := self._too_many("ablation"):
            return [note]
        place, split = self._subject.store.path, self._split
        found = ablate(self._run.path, place, split=split, resamples=1000, device=self._device)
        lost = f"{found.main}_lost"
        columns = {name: name for name in ("modality", "how", "items", found.main)}
        columns |= {lost: "lost", f"{lost}_low": "from", f"{lost}_high": "to"}
        parts: list[Part] = [
            Text(
                text="Zeroed: its rows are zeros behind the normalisation; missing: masked; "
                "shuffled: its rows in another order. What is lost has a 95 % interval."
            ),
            _drawn(ablation_picture.draw(found), ablation_picture.alt_text(found)),
            _table(found.table().select(list(columns)).rename_columns(list(columns.values()))),
        ]
        if self._subject.network.policy is not None:
            return parts
        table = shares(shapley(self._subject, self._classes, self._usual))
        figure = stencil_picture.draw_shares(table)
        said = "Share of each modality in the logit of a class, by Shapley's value: "
        text = said + "alone is what it adds to nothing, last what it adds to all others."
        parts += [Text(text=text), _drawn(figure, stencil_picture.alt_shares(table))]
        return [*parts, _table(table.drop_columns("stencil_share"))]

    def _stencils(self) -> list[Part]:
        if note := self._too_many("stencils"):
            return [note]
        if sum(p.numel() for p in self._subject.network.parameters()) > PARAMETERS:
            return [self._elsewhere("stencils", "of so large a network they take long")]
        stencils = find_stencils(self._subject, self._classes, self._usual, _STENCILS)
        said = what_they_say(self._subject, stencils)
        mean = fidelity(said)
        ranks = "cannot be told" if mean is None else f"is {mean:.2f}"
        text = (
            "A stencil is an input that the network answers most with a class, found from noise; "
            f"like ones are put together. How well they rank the items of {self._split} as the "
            f"network does (Spearman, mean over classes) {ranks}: they are for looking at."
        )
        parts: list[Part] = [Text(text=text)]
        for one in said:
            figure = stencil_picture.draw_stencils(one)
            parts.append(_drawn(figure, stencil_picture.alt_stencils(one)))
        table = clusters(said)
        return [*parts, _table(table), *self._over_time(said)]

    def _over_time(self, said: Sequence[Said]) -> list[Part]:
        drawn = list(over_time(self._subject, said, _DRAWN))
        times = {
            one.item.id: Times(
                video_id=one.item.video_id, times=one.times(_FRAMES), begins=one.begins
            )
            for one in drawn
        }
        frames = self._frames(times)
        return [
            _drawn(
                stencil_picture.draw_over_time(one, frames[one.item.id]),
                stencil_picture.alt_over_time(one),
            )
            for one in drawn
        ]

    def _similarity(self) -> list[Part]:
        text = "Cosine between the rows of an item, for each feature, over its seconds."
        found = _first(similarities(self._subject))
        return self._maps(text, [(one[0], map_pictures.similarity_picture(one)) for one in found])

    def _attention(self) -> list[Part]:
        text = "What each step attends to, by layer and head, and how much each is looked at."
        found = _first(attentions(self._subject))
        return self._maps(text, [(one[0], map_pictures.attention_picture(one)) for one in found])

    def _sensitivity(self) -> list[Part]:
        if self._steps() > _STEPS:
            return [self._elsewhere("sensitivity", "of so many steps it takes long")]
        text = (
            "Local sensitivity of each step (Sahu and Goyal 2021, equation 10): 1/2 where near and "
            "far steps count alike, 1 where far ones do not count."
        )
        found = _first(sensitivities(self._subject))
        return self._maps(text, [(one[0], map_pictures.sensitivity_picture(one)) for one in found])

    def _steps(self) -> int:
        """The most rows that one of the first items has of a feature."""
        store, most = self._subject.store, 0
        stored = [store.stored(name) for name in self._run.specs if name in store.features]
        for item in islice(self._subject.items, _DRAWN):
            places = [(one, one.position(item.video_id)) for one in stored]
            most = max([most, *(int(one.rows[at]) for one, at in places if at is not None)])
        return min(most, self._run.config.max_steps)

    def _maps(self, text: str, each: Sequence[tuple[Any, MapPicture]]) -> list[Part]:
        times = {}
        for first, picture in each:
            start, end = picture.span
            step = (end - start) / _FRAMES
            middles = [start + step * (i + 0.5) for i in range(_FRAMES)] if step else [start]
            item = first.item
            times[item.id] = Times(video_id=item.video_id, times=middles, begins=first.begins)
        frames = self._frames(times)
        pictures = [
            _drawn(map_figure.figure(picture, frames[first.item.id]), picture.alt)
            for first, picture in each
        ]
        return [Text(text=text), *pictures]

    def _frames(self, times: Mapping[str, Times]) -> dict[str, dict[float, Any]]:
        found = self._media.frames(self._subject.store, times)
        return {
            key: dict(zip(one.times, found.get(key, ()), strict=False))
            for key, one in times.items()
        }

    def _too_many(self, part: str) -> Text | None:
        if len(self._subject.items) <= ITEMS:
            return None
        return self._elsewhere(part, f"of {len(self._subject.items):,} items it takes long")

    def _elsewhere(self, part: str, why: str) -> Text:
        return Text(
            text=f"Not on this page, {why}: mmf explain {self._run.path} {part}", kind="note"
        )


def _has(layers: Any, subject: Subject) -> bool:
    try:
        return bool(layers(subject))
    except MmfError:
        return False


def _first(each: Iterable[T]) -> list[T]:
    """Of the first items that have something to show."""
    return list(islice(filter(None, each), _DRAWN))


def _drawn(figure: Any, alt: str) -> Picture:
    data = io.BytesIO()
    figure.savefig(data, dpi=90, format="png")
    return Picture(data=data.getvalue(), alt=alt)


def _table(table: pa.Table) -> Table:
    rows = [
        [("yes" if value else "") if isinstance(value, bool) else value for value in row.values()]
        for row in table.to_pylist()
    ]
    return Table(columns=[name.replace("_", " ") for name in table.column_names], rows=rows)
