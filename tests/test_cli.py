"""The commands as a user types them: what is refused, what is printed, what is left on disk."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from mmf import UnknownName, cli
from mmf.commands import training
from mmf.extract.backbones import BACKBONES
from mmf.extract.sample_set import make_sample_set
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS
from mmf.store import FeatureStore

COMMAND = [sys.executable, "-m", "mmf.cli"]
COMMANDS = sorted(cli.cli.commands)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with a folder of clips per class."""
    return make_sample_set(tmp_path_factory.mktemp("sample") / "clips", clips=40)


@pytest.fixture(scope="module")
def extracted(clips) -> Path:
    """The same folder after the first three commands of the README, exactly as typed there."""
    here = Path.cwd()
    os.chdir(clips)
    try:
        for line in ("extract --modality audio", "extract --modality rgb", "train --fusion mfb"):
            assert not cli.cli.main(line.split(), standalone_mode=False)
    finally:
        os.chdir(here)
    return clips


@pytest.fixture
def mmf(monkeypatch, capsys) -> Callable[..., subprocess.CompletedProcess]:
    """A command as typed in a folder, run in this process: to start another takes seconds."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["mmf", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return subprocess.CompletedProcess(arguments, ended.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("line", "says", "code"),
    [
        ("extrakt", "unknown command 'extrakt'. Did you mean 'extract'", 2),
        ("evaluate x --labe-set t", "No such option '--labe-set'. Did you mean '--label-set'?", 2),
        ("extract", "name what to extract: --modality rgb", 2),
        ("extract --preset mixer", "--modality rgb (or clip, audio, text), or --feature", 2),
        ("extract --modality rbg", "unknown modality 'rbg'. Did you mean 'rgb'?", 2),
        ("extract --modality clip", "'embedded' has no backbone for 'clip'. Name one (--backb", 2),
        (
            "extract --modality rgb --modality text --views 2",
            "unknown option of rgb:hog 'views'",
            2,
        ),
        ("extract --modality rgb nowhere", "source 'nowhere': there is no such file or folder", 2),
        ("extract --modality rgb --backbone rgb=resnet43", "Did you mean 'resnet34'", 2),
        (
            "extract --modality rgb --backbone resnet34",
            "--backbone 'resnet34': expected MODALITY=",
            2,
        ),
        ("extract --modality rgb --weights audio=x", "Add --modality audio", 2),
        ("extract --modality rgb --preset standrad", "unknown preset 'standrad'", 2),
        ("extract --modality rgb --batch-size many", "--batch-size 'many': expected auto or", 2),
        ("extract --modality rgb --shard 3", "--shard '3': expected i/n", 2),
        (
            "extract --modality rgb --backbone rgb=resnet34 --weights rgb=no.pth",
            "there are no weights for 'resnet34' at 'no.pth'",
            2,
        ),
        ("status nowhere.mmf", "no feature store at 'nowhere.mmf'", 2),
        ("train --store nowhere.mmf", "no feature store at 'nowhere.mmf'", 2),
        ("evaluate runs/none", "'runs/none' is not a run", 2),
        ("predict runs/none clip.mp4", "'runs/none' is not a run", 2),
        ("list fusion", "unknown kind 'fusion'. Did you mean 'fusions'?", 2),
        ("train --epochs few", "'few' is not a valid integer", 2),
    ],
)
def test_an_error_is_one_sentence_on_stderr(clips, line, says, code, monkeypatch, capsys):
    monkeypatch.chdir(clips)
    monkeypatch.setattr(sys, "argv", ["mmf", *shlex.split(line)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == code
    assert says in printed.err
    error = [line for line in printed.err.splitlines() if line.startswith("mmf: error: ")]
    assert len(error) == 1
    assert printed.err.splitlines()[-1] == error[0]
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (clips / "nowhere.mmf").exists()


def test_debug_shows_the_traceback(clips):
    line = [*COMMAND, "status", "nowhere.mmf", "--debug"]
    run = subprocess.run(line, cwd=clips, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "Traceback" in run.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    cli.cli.main([command, "--help"], standalone_mode=False, prog_name="mmf")
    text = capsys.readouterr().out
    assert f"mmf {command}" in text.split("Options:")[0].replace("Usage: mmf " + command, "", 1)


def test_commands_that_ask_for_features_take_the_same_options():
    def options(command: str) -> dict[str, list[str]]:
        found = [one.to_info_dict() for one in cli.cli.commands[command].params]
        return {one["name"]: [one["opts"], one["multiple"]] for one in found}

    extract, look, weights = map(options, ("extract", "look", "weights"))
    assert {"modality", "backbone", "preset", "weights", "feature", "views"} <= set(look)
    for name in set(look) - {"video", "out", "sample"}:
        assert look[name] == extract[name], name
    for name in ("backbone", "preset", "weights", "feature"):
        assert weights[name] == extract[name], name


def test_help_loads_no_stage(clips):
    code = "import sys; from mmf import cli; sys.argv = ['mmf', '--help']\n"
    code += "try: cli.main()\nexcept SystemExit: pass\nprint([m for m in sys.modules if m in "
    code += "('numpy', 'torch', 'pyarrow', 'rich')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


# the main job


def test_the_commands_as_typed_train_a_run_that_evaluates_and_predicts(extracted, mmf):
    run = mmf("evaluate", "runs/mfb-1", "--json", cwd=extracted)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {"gap@20", "map@20", "perr", "hit@1", "accuracy"} <= set(found)
    assert 0 <= found["accuracy"] <= 1
    store = FeatureStore(extracted / "features.mmf")
    assert store.classes() == ("blue-high", "blue-low", "red-high", "red-low")
    assert set(store.state("rgb").values()) == {"done"}
    audio, rgb = (store.stored(f).rows for f in ("audio", "rgb"))
    np.testing.assert_array_equal(audio, rgb)  # one grid for every modality


def test_a_raw_clip_is_predicted_as_from_the_store(extracted, monkeypatch, tmp_path):
    monkeypatch.chdir(extracted)
    clip = "red-high/clip_001.mp4"
    for name, source in {"store.parquet": (), "raw.parquet": (clip,)}.items():
        arguments = ["predict", "runs/mfb-1", *source, "--out", str(tmp_path / name)]
        assert not cli.cli.main(arguments, standalone_mode=False)
    rows = {r["item"]: r for r in pq.read_table(tmp_path / "store.parquet").to_pylist()}
    (raw,) = pq.read_table(tmp_path / "raw.parquet").to_pylist()
    assert raw == rows[clip]
    assert len(rows) == 40


def test_a_run_is_repeated_resumed_and_given_options(extracted, monkeypatch, capsys):
    monkeypatch.chdir(extracted)
    base = ["train", "--fusion", "fc_concat", "--fusion-option", "match=total", "--out", "runs/own"]
    cli.cli.main([*base, "--epochs", "2", "--head", "moe"], standalone_mode=False)
    assert "runs/own: 2 epochs, best validation accuracy" in capsys.readouterr().out
    config = json.loads(Path("runs/own/config.json").read_text())["config"]
    assert config["fusion_options"] == {"match": "total"}
    cli.cli.main(["train", "--resume", "--out", "runs/own"], standalone_mode=False)
    assert "runs/own: 2 epochs" in capsys.readouterr().out
    cli.cli.main(["train", "runs/own/config.json"], standalone_mode=False)
    assert "runs/fc_concat-1: 2 epochs" in capsys.readouterr().out


def test_status_prints_one_json_object(extracted, mmf):
    run = mmf("status", "features.mmf", "--json", cwd=extracted)
    found = json.loads(run.stdout)
    assert found["videos"] == 40
    assert found["features"]["rgb"]["backbone"] == "hog"
    assert found["failures"] == []
    counts = {k: found["features"]["rgb"][k] for k in ("done", "skipped", "failed", "missing")}
    assert counts == {"done": 40, "skipped": 0, "failed": 0, "missing": 0}


def test_verify_says_whole_or_names_the_damage(extracted, tmp_path, mmf):
    assert mmf("verify", cwd=extracted).stdout == "features.mmf: whole\n"
    copy = tmp_path / "copy.mmf"
    subprocess.run(["cp", "-r", str(extracted / "features.mmf"), str(copy)], check=True)
    shard = copy / "features.zarr/rgb/c.0.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    run = mmf("verify", str(copy), cwd=tmp_path)
    assert run.returncode == 74
    assert "features.zarr/rgb/c.0.0: has changed" in run.stdout


def test_another_recipe_under_a_name_is_refused_and_replaced_on_purpose(clips, tmp_path, mmf):
    store = str(tmp_path / "s")
    source = str(clips / "red-low")
    first = ("extract", source, "--store", store, "--modality", "audio")
    assert mmf(*first, cwd=tmp_path).returncode == 0
    again = mmf(*first, "--fps", "2", cwd=tmp_path)
    assert again.returncode == 2
    assert "rate 1.0 there, 2.0 here" in again.stderr
    assert mmf(*first, "--fps", "2", "--replace", cwd=tmp_path).returncode == 0
    assert FeatureStore(store).features["audio"].rate == 2.0


def test_what_cannot_be_used_is_a_row_and_the_job_goes_on(clips, tmp_path, mmf):
    folder = tmp_path / "mixed"
    subprocess.run(["cp", "-r", str(clips / "red-low"), str(folder)], check=True)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no film")
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile clip_000.mp4\n")
    whole = (folder / "clip_000.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    run = mmf("extract", "--modality", "rgb", "--modality", "text", cwd=folder)
    assert run.returncode == 3  # 4 of 14 is more than 5 %
    assert "rgb: 14 videos = 10 done + 4 failed + 0 skipped" in run.stdout
    assert re.search(r"decoding [\d.]+ ms a second of media, rgb [\d.]+ ms a row", run.stdout)
    reasons = {
        r["video_id"]: r["reason"]
        for r in FeatureStore(folder / "features.mmf").failures().to_pylist()
    }
    assert set(reasons) == {"empty.mp4", "text.mp4", "list.mp4", "half.mp4"}
    assert reasons["empty.mp4"] == "empty"
    shown = mmf("status", "--failures", cwd=folder).stdout
    assert "empty.mp4: empty in open of rgb, text" in shown
    again = mmf("extract", "--modality", "rgb", cwd=folder)
    assert "0 videos tried" in again.stdout


def test_retry_takes_the_failed_alone_and_says_where_there_are_none(
    clips, tmp_path, monkeypatch, capsys
):
    for clip in sorted((clips / "red-low").glob("*.mp4"))[:2]:
        shutil.copy(clip, tmp_path)
    monkeypatch.chdir(tmp_path)

    def said(*more: str) -> str:
        cli.cli.main(["extract", "--modality", "audio", *more], standalone_mode=False)
        return capsys.readouterr().out

    assert "2 videos tried" in said()
    assert "nothing to try again" in said("--retry", "failed")
    Path("empty.mp4").touch()
    shutil.copy(clip.name, "fresh.mp4")
    assert "2 videos tried" in said()
    shutil.copy(clip.name, "newer.mp4")
    again = said("--retry", "failed")
    assert "audio: 5 videos = 3 done + 1 failed + 0 skipped + 1 left" in again
    assert "1 videos tried" in again


def test_a_kill_in_the_middle_loses_nothing_and_doubles_nothing(clips, tmp_path, mmf):
    features = ("--modality", "rgb", "--modality", "audio", "--modality", "flow")
    for kind in ("red-low", "blue-high"):
        shutil.copytree(clips / kind, tmp_path / "clips" / kind)
    command = ["extract", "clips", *features, "--workers", "2", "--store"]
    whole, killed = tmp_path / "whole.mmf", tmp_path / "killed.mmf"
    assert mmf(*command, str(whole), cwd=tmp_path).returncode == 0
    for seconds in (0.0, 0.5, 1.0):
        line = [*COMMAND, *command, str(killed)]
        process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(killed.glob("tmp/*.part")):
            time.sleep(0.01)  # until rows are being written
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in killed.glob("tmp/*.part"):
            part.unlink()
    assert mmf(*command, str(killed), cwd=tmp_path).returncode == 0
    assert FeatureStore(killed).content_hash() == FeatureStore(whole).content_hash()
    assert mmf("verify", str(killed), cwd=tmp_path).returncode == 0


def test_a_manifest_brings_labels_splits_and_groups(clips, tmp_path, mmf):
    videos = sorted(clips.rglob("*.mp4"))[:12]
    lines = ["video_id,path,labels,split,series"]
    for i, path in enumerate(videos):
        lines.append(f"v{i:02},{path},a;b,{'train' if i % 2 else 'test'},s{i // 4}")
    manifest = tmp_path / "videos.csv"
    manifest.write_text("\n".join(lines) + "\n")
    assert mmf("extract", "videos.csv", "--modality", "audio", cwd=tmp_path).returncode == 0
    store = FeatureStore(tmp_path / "features.mmf")
    assert len(store.items("train")) == 6
    assert store.classes() == ("a", "b")
    (tmp_path / "own.csv").write_text("id,label\nv00,x\nv99,x\n")
    run = mmf("label", "features.mmf", "own.csv", "--set", "own", cwd=tmp_path)
    assert "1 labelled ids have no video" in run.stderr
    assert "'v99'" in run.stderr
    run = mmf("split", "--by", "series", "--fractions", "0.7,0.3", "--name", "s", cwd=tmp_path)
    assert run.stdout.startswith("split 's': ")
    sides = FeatureStore(store.path).catalog.splits("s")
    assert all(len({sides[f"v{4 * g + i:02}"] for i in range(4)}) == 1 for g in range(3))


def test_embedded_backbones_over_many_videos_must_be_meant(tmp_path, monkeypatch):
    monkeypatch.setattr("mmf.commands.extract.MANY_VIDEOS", 3)
    monkeypatch.chdir(make_sample_set(tmp_path / "c", clips=4))
    with pytest.raises(cli.MmfError, match=r"4 videos.*--preset embedded.*audio=ast.*mmf list"):
        cli.cli.main(["extract", "--modality", "audio"], standalone_mode=False)


def test_list_shows_equations_and_options_of_one(capsys):
    for kind, table in (("fusions", FUSIONS), ("aggregators", AGGREGATORS), ("heads", HEADS)):
        for name in table:
            cli.cli.main(["list", kind, name], standalone_mode=False)
            said = capsys.readouterr().out
            options = [line.partition(" ")[0] for line in said.splitlines()]
            assert {one.name for one in fields(table.load(name).Options)} <= set(options)
    cli.cli.main(["list", "fusions", "mfh"], standalone_mode=False)
    rows = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert ["z_i = Dropout( z_(i-1) * prod_m (U_im^T x_m + b_im) )", "(B, o k)"] in [
        row[1:] for row in rows
    ]
    assert ["factors", "5", "k"] in rows  # an option of MFB, from which it has its own
    cli.cli.main(["list", "fusions", "policy"], standalone_mode=False)
    rows = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert ["penalty", "'correct'", "correct | mean", "`fuse.policy.cost`"] in rows
    assert next(row for row in rows if row[0] == "gflops")[2].startswith("of a segment")
    cli.cli.main(["list", "metrics", "hit@1"], standalone_mode=False)
    assert "option" not in capsys.readouterr().out
    with pytest.raises(UnknownName, match="unknown kind that is shown by name 'presets'"):
        cli.cli.main(["list", "presets", "youtube8m"], standalone_mode=False)


def test_list_prints_the_tables(capsys):
    cli.cli.main(["list", "fusions"], standalone_mode=False)
    listed = capsys.readouterr().out.splitlines()[2:-1]
    assert [line.partition(" ")[0] for line in listed] == list(FUSIONS)
    assert (
        "mlb              The product of an activated projection of each of M ≥ 2 features."
        in listed
    )
    cli.cli.main(["list", "presets"], standalone_mode=False)
    assert "  clip=x3d:m" in capsys.readouterr().out.splitlines()
    cli.cli.main(["list", "backbones"], standalone_mode=False)
    lines = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert ["audio=logmel", "needs none"] in lines
    assert ["rgb=dinov2", "small base large giant", "yes", "facebook/dinov2-small@main"] in lines
    assert ["rgb=timm", "NAME[.TAG]", "yes", "as each has"] in lines
    assert ["flow=raft", "large small", "raft_large_C_T_SKHT_V2-ff5fadd5.pth"] in lines
    listed = [line[0] for line in lines]
    for modality in ("rgb", "clip", "audio", "text"):
        assert {f"{modality}={name}" for name in BACKBONES[modality]} <= set(listed)
    fed = {line[0].partition("=")[2] for line in lines if "yes" in line}
    assert fed | {"hof", "raw"} == set(BACKBONES["flow"])


def test_what_a_file_is_called_is_shown_and_not_obeyed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("\x1b[31mred.mp4").write_bytes(b"")
    with av.open("good.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    cli.cli.main(["extract", "--modality", "rgb"], standalone_mode=False)
    cli.cli.main(["status", "--failures"], standalone_mode=False)
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "[31mred.mp4: empty" in printed.out


def test_doctor_says_that_all_is_well(capsys):
    cli.cli.main(["doctor"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "rows {'rgb': (4, 512), 'audio': (4, 128)}; store whole" in text
    assert text.splitlines()[-1] == "all is well"


@pytest.mark.parametrize("there", [True, False])
def test_where_curves_are_is_said_once_a_training_has_begun(there, monkeypatch, capsys):
    monkeypatch.setattr(training, "find_spec", lambda name: name if there else None)
    live = training._Live("my runs")
    assert capsys.readouterr().err == ""
    told = {"epoch": 1, "step": 1, "loss": 0.5, "items_per_second": 9.0, "waiting": 0.0}
    for _ in range(2):
        live.step(told)
    assert capsys.readouterr().err.count("mmf: curves: tensorboard --logdir 'my runs'\n") == there
