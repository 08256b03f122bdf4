"""The page of a run says what `evaluate` says, and what it lacks."""

import shutil
from collections import Counter

import pytest

from mmf import MmfError
from mmf.fuse import choose_thresholds, evaluate, evaluate_classes
from mmf.fuse.evaluation.subject import open_subject
from mmf.report import Cards, Page, Picture, Plot, Section, Table, Text, why_sections
from mmf.report.measuring import measure
from mmf.report.run_page import RunPage
from mmf.store import FeatureStore

HOSTILE = "<script>alert(1)</script>"


def section(page: Page, id: str) -> Section:
    return next(s for s in page.sections if s.id == id)


def parts(page: Page, id: str, kind: type) -> list:
    return [p for p in section(page, id).parts if isinstance(p, kind)]


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(MmfError, match="is not a run"):
        RunPage(tmp_path)


def test_a_store_that_has_moved_leaves_what_the_run_itself_knows(run, tmp_path, store):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace(str(store.path), "/moved/feats"))
    page = RunPage(copy).page()
    assert [s.id for s in page.sections if s.failed] == ["data", "scores", "missing"]
    assert "say with --store where it is" in section(page, "missing").failed
    assert len(parts(page, "curves", Plot)) == 2
    assert not RunPage(copy, store=str(store.path)).page().sections[-1].failed.count("moved")


def test_a_run_without_weights_says_so(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints")
    (copy / "metrics.jsonl").unlink()
    one = RunPage(copy)
    assert not one.finished
    page = one.page()
    assert "has no weights yet" in section(page, "scores").failed
    assert "has not been evaluated yet" in section(page, "curves").failed


def test_while_a_run_goes_on_its_page_reloads_and_does_not_score(run):
    page = RunPage(run).page(reload_seconds=5.0)
    assert page.reload_seconds == 5
    assert "confusion" not in {s.id for s in page.sections}
    assert RunPage(run).finished


@pytest.mark.parametrize("labels", [1, 2])
def test_one_pass_says_what_evaluate_says(make_store, make_run, labels):
    store = make_store(labels=labels, seed=labels)
    run = make_run(store)
    choose_thresholds(run)
    found = measure(open_subject(run, None, "test"), most=3)
    assert found.metrics == evaluate(run)
    assert found.classes.equals(evaluate_classes(run))
    if labels == 2:
        assert found.confused is None
        assert found.calibration.count.sum() == 24 * 5
        return
    assert sum(found.confused.values()) == found.metrics["items"] == 24
    right = sum(n for (label, said), n in found.confused.items() if label == said)
    assert right / 24 == found.metrics["accuracy"]
    assert found.wrong == 24 - right
    every = measure(open_subject(run, None, "test"), most=100).mistakes
    assert len(every) == found.wrong > 3
    confidence = [m.confidence for m in every]
    assert confidence == sorted(confidence, reverse=True)
    assert list(found.mistakes) == list(every[:3])
    assert all(m.best[0][0] not in dict(m.labels) for m in every)
    by_hand = Counter((m.labels[0][0], m.best[0][0]) for m in every)
    of = open_subject(run, None, "test").run.classes
    assert by_hand == {(of[a], of[b]): n for (a, b), n in found.confused.items() if a != b}


def test_a_class_without_samples_is_named(run, media):
    page = RunPage(run, media=media, most=3).page()
    assert "1 classes (nobody)" in section(page, "data").failed
    notes = [p.text for p in parts(page, "classes", Text)]
    assert notes == ["1 classes have no positive here and no average precision: nobody"]
    (table,) = parts(page, "classes", Table)
    assert len(table.rows) == 5


def test_mistakes_show_their_videos_or_where_these_should_be(run, media):
    page = RunPage(run, media=media, most=3).page()
    (cards,) = parts(page, "mistakes", Cards)
    gone, *there = cards.cards
    assert gone.missing.startswith("video gone: /clips/")
    assert [p.alt for p in there[0].pictures] == [
        "Frame at 0.5 seconds",
        "Frame at 1.5 seconds",
        "Waveform, loudest at 90% of full scale",
    ]
    assert there[0].lines == [f"0.2 s  {HOSTILE}"]


def test_of_many_classes_the_matrix_has_those_that_are_confused():
    from mmf.report.score_sections import confusion

    confused = Counter({(c, c): 5 for c in range(3862)} | {(3000, 3001): 9, (7, 3000): 2})
    note, matrix, table = confusion(confused, [f"c{c}" for c in range(3862)])
    assert "the 40 of 3,862 classes" in note.text
    assert {"c3000", "c3001", "c7"} <= set(matrix.figure["data"][0]["x"])
    assert list(table.rows[0]) == ["c3000", "c3001", 9, 9 / 14]


def test_a_policy_run_shows_what_it_selects(tmp_path_factory, make_run):
    from mmf.fuse.synthetic import SyntheticOptions, make

    options = SyntheticOptions(
        structure="segments",
        options={"segments": 3},
        train=8,
        val=4,
        test=4,
        rows=6,
        fewest=3,
        rgb=8,
        audio=6,
        latent=4,
        classes=2,
    )
    store: FeatureStore = make(options, tmp_path_factory.mktemp("made") / "feats")
    fusion = {"decisions": "random", "segments": 3, "epochs": {"single": 1}, "milestones": {}}
    run = make_run(store, fusion="policy", fusion_options=fusion, steps=2)
    pictures = parts(RunPage(run).page(), "selection", Picture)
    assert len(pictures) == 4
    assert pictures[0].kind == "image/png"
    assert "of 3 segments" in pictures[0].alt


def test_why_is_said_by_pictures_with_words_and_numbers(store, run, make_run):
    page = RunPage(run).page()
    assert {"attention", "sensitivity"}.isdisjoint({s.id for s in page.sections})
    for id in ("ablation", "stencils", "similarity"):
        assert not section(page, id).failed
        assert all(p.alt.endswith(".") and len(p.data) > 1000 for p in parts(page, id, Picture))
        assert parts(page, id, Picture)
    (lost, owed) = parts(page, "ablation", Table)
    changes = {(row[0], row[1]) for row in lost.rows}
    assert changes >= {("all", "whole"), ("a", "zeroed"), ("b", "missing"), ("all", "shuffled")}
    share = owed.columns.index("share")
    names = {row[0] for row in owed.rows}
    assert len(names) == 5
    for name in names - {"nobody"}:
        assert sum(row[share] for row in owed.rows if row[0] == name) == pytest.approx(1)
    assert [row[share] for row in owed.rows if row[0] == "nobody"] == [None, None]
    assert "they are for looking at" in parts(page, "stencils", Text)[0].text

    local = RunPage(make_run(store, fusion="gmsa", steps=2)).page()
    for id in ("attention", "sensitivity"):
        assert len(parts(local, id, Picture)) == 2


def test_what_takes_long_is_not_on_a_page_and_the_command_is(run, monkeypatch):
    monkeypatch.setattr(why_sections, "ITEMS", 10)
    page = RunPage(run).page()
    (note,) = section(page, "stencils").parts
    assert note.kind == "note"
    assert note.text.endswith(f"mmf explain {run} stencils")
    assert not section(page, "ablation").failed
    monkeypatch.setattr(why_sections, "ITEMS", 1000)
    monkeypatch.setattr(why_sections, "PARAMETERS", 10)
    (note,) = section(RunPage(run).page(), "stencils").parts
    assert "of so large a network" in note.text
