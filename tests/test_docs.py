"""What docs/ says is so: its commands exist, its profiles are taken, its blocks run."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mmf import MmfError, cli
from mmf.cluster.profile import KINDS, read_profile
from mmf.extract.sample_set import make_sample_set
from mmf.fuse.fusions import FUSIONS
from mmf.store import FeatureStore

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
# a block, with the mark above it that says how it is tried
BLOCK = re.compile(r"(?:<!-- (run[^\n]*|write [^\n]*|python) -->\n)?```(\w*)\n(.*?)```", flags=re.S)


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """Mark, language and text of each."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def commands(path: Path) -> Iterator[str]:
    """The lines of blocks that begin with a command of ours, whatever stands before it."""
    for _, _, text in blocks(path):
        for line in text.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|exec |until )mmf (\w.*?)(?:; do)?$", line):
                yield found[1]


@pytest.mark.parametrize("path", [*DOCS, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_command_named_exists_with_its_options(path):
    for line in commands(path):
        words = shlex.split(line, comments=True)
        command = cli.cli.commands[words[0]]
        if isinstance(command, click.Group):  # mmf import youtube8m, mmf explain RUN selection
            command = command.commands[words[1 + len(command.params)]]
        options = {o for p in command.params for o in p.opts}
        assert {w.partition("=")[0] for w in words if w.startswith("--")} <= options, line


def test_commands_are_found_in_the_pages():
    assert len([line for path in DOCS for line in commands(path)]) > 80


@pytest.mark.parametrize("path", [p for p in DOCS if p.stem != "numbers"], ids=lambda p: p.name)
def test_every_option_in_the_text_exists(path):
    every = [*cli.cli.commands.values()]
    every += [c for g in every if isinstance(g, click.Group) for c in g.commands.values()]
    known = {o for c in every for p in c.params for o in p.opts}
    others = {"--nworkers", "--debug", "--help", "--purge"}  # Dask's, and those of all
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(?:mmf [^`\n]*?)?(--[\w-]+)", text)) <= known | others


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_profile_is_taken(path, tmp_path):
    for mark, language, text in blocks(path):
        if language == "toml" and "pyproject" not in mark:
            profile = tmp_path / "cluster.toml"
            profile.write_text(text)
            for kind in KINDS:
                read_profile(kind, str(profile))


def test_code_that_no_test_runs_is_of_machines_that_a_test_has_not():
    """Python is run; of the shell what a cluster is needed for stands as it is."""
    for path in DOCS:
        for mark, language, text in blocks(path):
            if language == "python":
                assert mark, f"{path.name}: {text}"
            if language == "bash" and not mark:
                assert path.name == "cluster.md", f"{path.name}: {text}"


@pytest.mark.parametrize("path", [p for p in DOCS if p.stem != "cluster"], ids=lambda p: p.name)
def test_the_marked_blocks_run_as_they_stand(path, tmp_path, monkeypatch, capsys):
    make_sample_set(tmp_path / "clips", clips=40 if path.stem in ("index", "see") else 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {}
    for mark, _, text in blocks(path):
        if mark.startswith("write "):
            write(Path(mark.removeprefix("write ")), text)
        elif mark == "python":
            exec(compile(text, path.name, "exec"), names)
        elif mark:
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                assert words[0] == "mmf", line
                assert not cli.cli.main(words[1:], standalone_mode=False), line
    check = {"store": the_store_was_read, "fusions": the_fusion_was_trained}.get(path.stem)
    if check:
        check(names, capsys.readouterr().out)


def write(path: Path, text: str) -> None:
    """The file; of a pyproject, what its installation would say."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if path.name == "pyproject.toml":
        project = tomllib.loads(text)["project"]
        info = Path(f"{project['name'].replace('-', '_')}-{project['version']}.dist-info")
        info.mkdir()
        about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(about)
        (info / "entry_points.txt").write_text(
            "\n".join(
                f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in entries.items())
                for group, entries in project["entry-points"].items()
            )
        )


def the_store_was_read(names: dict, said: str) -> None:
    """By the page alone, what the library reads."""
    store = FeatureStore("features.mmf")
    done = [key for key, (_, row) in names["outcomes"].items() if row["status"] == "done"]
    assert len(done) == 24
    for feature, video in done:
        track = store.read(feature, video)
        times, values = names["rows_of"](feature, video)
        assert (values == track.values).all()
        assert times == pytest.approx(track.times.tolist())
    classes = {"red-high", "red-low", "blue-high", "blue-low"}
    assert set(names["about"]["classes"]) == classes
    assert "rgb rgb [505] float16 1.0" in said


def the_fusion_was_trained(names: dict, said: str) -> None:
    assert "f = sum_m g_m (W_m x_m + b_m)" in said
    assert "A sum of projections" in said
    assert '"outputs": 8' in Path("runs/gated/config.json").read_text()


def test_a_fusion_of_a_package_that_cannot_be_imported_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = '[project]\nname = "x"\nversion = "1"\n[project.entry-points."mmf.fusions"]\ny = "no:No"'
    write(Path("pyproject.toml"), text)
    with pytest.raises(
        MmfError, match="fusion 'y' of the package x 1 cannot be imported from 'no:No'"
    ):
        FUSIONS.load("y")


def test_the_site_is_built_and_every_link_holds(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    page = (tmp_path / "site/reference.html").read_text()
    assert "mmf.fuse.train" in page
    assert "Raises MmfError" in page


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_page_of_clusters_runs_as_it_stands(tmp_path):
    make_sample_set(tmp_path / "clips", clips=4)
    ports = {port: free_port() for port in ("8786", "8787")}  # others may have taken theirs
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = tmp_path / "log"
    background = []
    try:
        for mark, _, text in blocks(ROOT / "docs/cluster.md"):
            if mark.startswith("write "):
                (tmp_path / mark.removeprefix("write ")).write_text(text)
            if not mark.startswith("run"):
                continue
            for port, other in ports.items():
                text = text.replace(port, other)
            name, _, value = mark.removeprefix("run with ").partition("=")
            with open(log, "ab") as out:
                process = subprocess.Popen(
                    ["bash", "-ec", text],
                    cwd=tmp_path,
                    env={**env, name: value} if value else env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            if "background" in mark:
                background.append(process)
            else:
                assert process.wait(timeout=300) == 0, f"{text}\n{log.read_text()[-3000:]}"
    finally:
        for process in background:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "is safe" not in log.read_text()  # the schedulers have the settings
    store = FeatureStore(tmp_path / "features.mmf")
    assert {name: len(store.state(name)) for name in ("rgb", "audio", "text")} == {
        "rgb": 4,
        "audio": 4,
        "text": 4,
    }
    assert FeatureStore(tmp_path / "array.mmf").state("rgb").keys() < store.state("rgb").keys()
