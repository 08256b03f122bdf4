"""The page of a run: what it is, what it learned from, how it went, and what it is good at.

A section that cannot be made, because the store has moved or nothing is trained yet, says why.
"""

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.fuse.compare.running import history
from mmf.fuse.evaluation.subject import open_subject
from mmf.fuse.explain.selection import Selected, open_deciding, selections
from mmf.fuse.explain.selection_picture import draw
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.policy.contract import SegmentFusion
from mmf.fuse.run import Run
from mmf.report import score_sections
from mmf.report.curves import curves
from mmf.report.data_sections import backbone, failures, lengths, splits_of
from mmf.report.measuring import Measured, measure
from mmf.report.media import Media, NoMedia
from mmf.report.page import Facts, Page, Part, Picture, Section, Table, Text, attempt
from mmf.report.why_sections import WhySections
from mmf.store import FeatureStore

_DRAWN = 6  # items of a policy run whose timeline is shown


class RunPage:
    """Makes the sections of a run, each from what is there."""

    def __init__(
        self,
        path: str | Path,
        *,
        store: str | None = None,
        split: str = "test",
        media: Media | None = None,
        most: int = 12,
        device: str = "auto",
    ):
        self.run = Run.open(path)
        self._store, self._split, self._device = store, split, device
        self._media, self._most = media or NoMedia(), most

    @property
    def finished(self) -> bool:
        """Whether its training has ended by itself: the newest checkpoint is of an evaluation."""
        states = sorted(self.run.checkpoints.glob("step-*/state.json"))
        if not states:
            return False
        try:
            state = json.loads(states[-1].read_text(encoding="utf-8"))
            return bool(state["history"]) and state["history"][-1]["step"] == state["step"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def page(self, more: Sequence[Section] = (), reload_seconds: float = 0.0) -> Page:
        """The page; while it reloads itself, without what only a finished run has."""
        run = self.run
        found = [
            attempt("What it is", "run", self._about),
            attempt("Data and splits", "data", self._data),
            attempt("Learning curves", "curves", self._curves),
        ]
        if reload_seconds:
            wait = Text(text="The run goes on. Its scores come when it is finished.", kind="note")
            found.append(Section(title="Scores", id="scores", parts=[wait]))
        else:
            found += self._of_scores()
            store = None if self._store is None else str(self._opened.path)
            why = WhySections(self.run, store, self._split, self._media, self._device)
            found += why.sections()
        found += more
        found.append(attempt("Missing and failed", "missing", lambda: self._missing(found)))
        what = f"{run.config.fusion} on {', '.join(run.specs)}, {len(run.classes):,} classes"
        return Page(
            title=f"Run {run.path.resolve().name}",
            subtitle=what,
            sections=found,
            reload_seconds=reload_seconds,
        )

    def _of_scores(self) -> list[Section]:
        split, measured = self._split, lambda: self._measured
        single = self.run.task == "single"
        found = [attempt(f"Scores on {split}", "scores", lambda: score_sections.scores(measured()))]
        if found[0].failed:
            return found  # the others would say the same
        classes = self.run.classes
        if single:
            found.append(
                attempt(
                    "Confusion",
                    "confusion",
                    lambda: score_sections.confusion(measured().confused, classes),
                )
            )
        found += [
            attempt("Classes", "classes", lambda: score_sections.classes_of(measured())),
            attempt(
                "Calibration",
                "calibration",
                lambda: score_sections.calibration(measured().calibration, single=single),
            ),
            attempt("Most confident mistakes", "mistakes", self._mistakes),
        ]
        if issubclass(FUSIONS.load(self.run.config.fusion), SegmentFusion):
            found.append(attempt("What the policy selects", "selection", self._selection))
        return found

    @cached_property
    def _opened(self) -> FeatureStore:
        place = self._store or self.run.config.store
        try:
            return FeatureStore(place)
        except MmfError as error:
            raise MmfError(f"{error} If it has moved, say with --store where it is.") from error

    @cached_property
    def _measured(self) -> Measured:
        place = self._opened.path if self._store is None else self._store
        return measure(
            open_subject(self.run.path, place, self._split, device=self._device), self._most
        )

    def _about(self) -> list[Part]:
        run, config = self.run, self.run.config
        values = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
        environment: Mapping[str, Any] = values.get("environment", {})
        parameters = values.get("parameters", {}).get("total")
        facts = {
            "folder": str(run.path),
            "store": str(config.store),
            "features": "; ".join(f"{n}: {backbone(s)}" for n, s in run.specs.items()),
            "network": f"{config.aggregate} → {config.fusion} → {config.head}",
            "parameters": f"{parameters:,}" if parameters else "",
            "task and loss": f"{run.task}-label, {run.loss}",
            "seed": str(config.seed),
            "best": self._best_line(),
            "made by": f"mmf {values.get('mmf')}, "
            + ", ".join(f"{name} {version}" for name, version in environment.items()),
        }
        again = shlex.join(["mmf", "train", f"{run.path}/config.json", "--out", "runs/again"])
        config_text = json.dumps(config.to_json(), indent=2)
        return [
            Facts(facts={name: value for name, value in facts.items() if value}),
            Text(text=f"{again}\n", kind="code"),
            Text(text=config_text, kind="code", folded="The whole config"),
        ]

    def _best_line(self) -> str:
        try:
            best = self.run.best()
        except MmfError:
            return "no weights yet"
        main = [f"{k} {v:.4f}" for k, v in best.items() if k.startswith("val_") and k != "val_loss"]
        return f"step {best['step']:,}: {', '.join(main[:1])}"

    def _data(self) -> list[Part]:
        run, store = self.run, self._opened
        rows = []
        for name, spec in run.specs.items():
            there = name in store.features
            has = int((store.stored(name).rows > 0).sum()) if there else None
            made = "not in the store" if not there else backbone(spec)
            rows.append([name, spec.modality, made, " × ".join(map(str, spec.shape)), has])
        columns = ["feature", "modality", "made by", "row", "videos with rows"]
        parts: list[Part] = [Table(columns=columns, rows=rows)]
        if run.config.label_set in store.label_sets:
            label_set = run.config.label_set
            items = store.items(label_set=label_set, split_set=run.config.split_set or None)
            parts += splits_of(items, run.assigned, store.classes(label_set))
        else:
            text = f"The store has no label set {run.config.label_set!r}."
            parts.append(Text(text=text, kind="missing"))
        return parts + lengths(store, [n for n in run.specs if n in store.features])

    def _curves(self) -> list[Part]:
        try:
            best = self.run.best()["step"]
        except MmfError:
            best = None
        return curves(history(self.run.path), best)

    def _mistakes(self) -> list[Part]:
        found = self._measured.mistakes
        clips = self._media.clips(self._opened, [m.item for m in found])
        return score_sections.mistakes(found, self._measured.wrong, clips)

    def _selection(self) -> list[Part]:
        place = self._store or str(self.run.config.store)
        subject = open_deciding(self.run.path, store=place, split=self._split, device=self._device)
        chosen: list[Selected] = list(islice(selections(subject), _DRAWN))
        frames = self._media.segments(subject, chosen)
        parts: list[Part] = [
            Text(
                text=f"The first {len(chosen)} items; mmf explain {self.run.path} selection "
                "draws any of them.",
                kind="note",
            )
        ]
        with tempfile.TemporaryDirectory() as folder:
            for selected in chosen:
                file = Path(folder) / "one.png"
                draw(selected, file, frames.get(selected.item.id))
                parts.append(Picture(data=file.read_bytes(), alt=_said(selected)))
        return parts

    def _missing(self, sections: Sequence[Section]) -> list[Part]:
        parts: list[Part] = [
            Text(text=f"{s.title}: {s.failed}", kind="missing") for s in sections if s.failed
        ]
        if "_measured" in vars(self) and self._measured.without:
            number = self._measured.metrics["items_without_features"]
            names = ", ".join(self._measured.without[:10]) + (", …" if number > 10 else "")
            text = f"{number:,} items have no row of any feature and were not measured: {names}"
            parts.append(Text(text=text, kind="missing"))
        try:
            store = self._opened
        except MmfError:
            return parts
        return parts + failures(store, [n for n in self.run.specs if n in store.features])


def _said(selected: Selected) -> str:
    """The picture in words."""
    shares = [
        f"{name} in {int(selected.used[:, m].sum())} of {len(selected.used)} segments"
        for m, name in enumerate(selected.modalities)
    ]
    return f"{selected.item.id}: uses {', '.join(shares)}; predicted {selected.predicted}."
