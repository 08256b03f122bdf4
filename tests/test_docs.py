"""What docs/ says is so: its commands exist, its profiles are taken, what can run here runs."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmf import cli
from mmf.cluster.profile import KINDS, read_profile
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
# a block, with the mark above it that says how it is tried
BLOCK = re.compile(r"(?:<!-- (run[^\n]*|write [^\n]*) -->\n)?```(\w+)\n(.*?)```", flags=re.S)


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """Mark, language and text of each."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_command_named_exists_with_its_options(path):
    named = 0
    for _, language, text in blocks(path):
        for line in text.replace("\\\n", " ").splitlines() if language == "bash" else ():
            found = re.search(r"(?:^|exec |until )mmf (\w.*?)(?:; do)?$", line)
            if not found:
                continue
            words = shlex.split(found[1], comments=True)
            options = {o for p in cli.cli.commands[words[0]].params for o in p.opts}
            assert {w.partition("=")[0] for w in words if w.startswith("--")} <= options, line
            named += 1
    assert named


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_option_in_the_text_exists(path):
    known = {o for c in cli.cli.commands.values() for p in c.params for o in p.opts}
    dask = {"--nworkers"}
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    assert set(re.findall(r"`[^`\n]*?(--[\w-]+)", text)) <= known | dask


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_profile_is_taken(path, tmp_path):
    for _, language, text in blocks(path):
        if language == "toml":
            profile = tmp_path / "cluster.toml"
            profile.write_text(text)
            for kind in KINDS:
                read_profile(kind, str(profile))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_marked_blocks_run_as_they_stand(path, tmp_path):
    make_sample_set(tmp_path / "clips", clips=4)
    ports = {port: free_port() for port in ("8786", "8787")}  # others may have taken theirs
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = tmp_path / "log"
    background = []
    try:
        for mark, _, text in blocks(path):
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
