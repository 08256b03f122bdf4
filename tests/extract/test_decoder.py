"""The decoder's process: what it gives, and what becomes of the rest when it hangs or dies."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest

from mmf import MmfError
from mmf.chaos.poisoned_child import KINDS
from mmf.extract.decoder import parent as decoder_module
from mmf.extract.decoder import process as process_module
from mmf.extract.decoder.events import Ended, Failed, Restarted, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.media.decoding import Row, decode
from mmf.extract.media.opening import Limits
from mmf.extract.signals import Cues, FramePairs, Frames, Waves

SIGNALS = (Frames(fps=5.0, resize=64, crop=48), FramePairs(resize=32, crop=32), Waves(), Cues())


def gathered(decoder: Decoder):
    """(rows, outcome) by key; a row's payload copied."""
    rows, outcomes = defaultdict(list), {}
    for event in decoder.events():
        assert event.key not in outcomes
        if isinstance(event, Sample):
            payload = event.payload if isinstance(event.payload, str) else event.payload.copy()
            rows[event.key].append((event.signal, event.row, event.time, payload))
        elif isinstance(event, Restarted):
            rows.pop(event.key, None)
        else:
            outcomes[event.key] = event
    return rows, outcomes


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        a[:3] == b[:3] and np.array_equal(a[3], b[3]) for a, b in zip(one, other, strict=True)
    )


def directly(path):
    events = decode(str(path), SIGNALS)
    return [(e.signal, e.row, e.time, e.payload) for e in events if isinstance(e, Row)]


def test_a_process_that_does_not_start_is_our_fault_not_the_files(monkeypatch, clip):
    monkeypatch.setattr(process_module.sys, "executable", "/bin/false")
    with Decoder(SIGNALS) as decoder:
        decoder.submit("a", str(clip("a.mp4", frames=50)))
        with pytest.raises(MmfError, match="does not start"):
            list(decoder.events())


def test_rows_are_those_of_decoding_here(clip, tmp_path):
    clips = [clip(f"here{i}.mp4", frames=20 + 5 * i, sound=1.0 + i) for i in range(4)]
    with Decoder(SIGNALS) as decoder:
        for path in clips:
            decoder.submit(path.name, str(path))
        assert decoder.pending == 4
        rows, outcomes = gathered(decoder)
        assert decoder.pending == 0
    assert list(outcomes) == [path.name for path in clips]
    for path in clips:
        assert equal(rows[path.name], directly(path))
        ended = outcomes[path.name]
        assert isinstance(ended, Ended)
        assert ended.missing == {3: "no_captions"}
        assert sum(ended.rows) == len(rows[path.name])
        assert ended.media.path == str(path)
        assert ended.media.size_bytes == path.stat().st_size


def test_files_that_fail_say_why_and_the_others_go_on(clip, tmp_path):
    good = clip("good.mp4", frames=30)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "caf\udce9.mp4").write_bytes(b"text" * 100)
    with Decoder(SIGNALS) as decoder:
        decoder.submit("gone", str(tmp_path / "gone.mp4"))
        decoder.submit("good", str(good))
        decoder.submit("empty", str(tmp_path / "empty.mp4"))
        decoder.submit("name", str(tmp_path / "caf\udce9.mp4"))
        decoder.submit("size", str(good), size=1)
        decoder.submit("good again", str(good), size=good.stat().st_size)
        rows, outcomes = gathered(decoder)
    failed = {key: o.reason for key, o in outcomes.items() if isinstance(o, Failed)}
    assert failed == {
        "gone": "no_such_file",
        "empty": "empty",
        "name": "not_media",
        "size": "size_mismatch",
    }
    assert outcomes["name"].media.path.endswith("caf\\udce9.mp4")
    assert equal(rows["good"], rows["good again"])


def test_files_may_be_submitted_while_events_are_taken(clip):
    path = str(clip("more.mp4", frames=10))
    with Decoder(SIGNALS) as decoder:
        decoder.submit("0", path)
        ended = []
        for event in decoder.events():
            if isinstance(event, Ended):
                ended.append(event.key)
                if len(ended) < 5:
                    decoder.submit(str(len(ended)), path)
        assert ended == ["0", "1", "2", "3", "4"]
        decoder.submit("later", path)
        assert [e.key for e in decoder.events() if isinstance(e, Ended)] == ["later"]


def test_a_small_ring_holds_the_process_back_and_loses_nothing(clip):
    path = clip("ring.mp4", frames=100, sound=4.0)
    with Decoder(SIGNALS, limits=Limits(ring_bytes=1)) as decoder:
        for key in "abc":
            decoder.submit(key, str(path))
        time.sleep(0.2)
        rows, _ = gathered(decoder)
    for key in "abc":
        assert equal(rows[key], directly(path))


def test_a_process_is_recycled_between_files(monkeypatch, clip):
    monkeypatch.setattr(decoder_module, "RECYCLE_AFTER", 2)
    path = str(clip("recycled.mp4", frames=10))
    processes = set()
    with Decoder(SIGNALS) as decoder:
        for i in range(5):
            decoder.submit(str(i), path)
        for event in decoder.events():
            if isinstance(event, Ended):
                processes.add(decoder._process.process.pid)
    assert len(processes) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_once_costs_nothing(clip, number):
    path = clip("killed.mp4", frames=100, sound=4.0)
    killed = False
    with Decoder(SIGNALS, limits=Limits(ring_bytes=1)) as decoder:
        for key in "abc":
            decoder.submit(key, str(path))
        rows, outcomes, restarted = defaultdict(list), {}, []
        for event in decoder.events():
            if isinstance(event, Sample):
                payload = event.payload.copy()
                rows[event.key].append((event.signal, event.row, event.time, payload))
                if event.key == "b" and not killed:
                    killed = True
                    os.kill(decoder._process.process.pid, number)
            elif isinstance(event, Restarted):
                restarted.append(event.key)
                rows[event.key].clear()
            else:
                outcomes[event.key] = type(event)
    assert restarted == ["b"]
    assert outcomes == {"a": Ended, "b": Ended, "c": Ended}
    for key in "abc":
        assert equal(rows[key], directly(path))


def test_a_file_that_always_kills_the_process_fails_alone(clip):
    path = str(clip("poison.mp4", frames=100, sound=4.0))
    outcomes = {}
    with Decoder(SIGNALS, limits=Limits(ring_bytes=1)) as decoder:
        for key in "abc":
            decoder.submit(key, path)
        for event in decoder.events():
            if event.key == "b" and isinstance(event, Sample) and event.row == 0:
                os.kill(decoder._process.process.pid, signal.SIGSEGV)
            if isinstance(event, Ended | Failed):
                outcomes[event.key] = event
    assert [type(outcomes[key]) for key in "abc"] == [Ended, Failed, Ended]
    assert (outcomes["b"].reason, outcomes["b"].stage) == ("signal_11", "decode")


def test_a_file_that_hangs_fails_in_time_and_the_others_go_on(clip):
    path = str(clip("hangs.mp4", frames=100, sound=4.0))
    limits = Limits(ring_bytes=1, timeout=1.5, timeout_per_second=0.0)
    outcomes, restarted = {}, []
    with Decoder(SIGNALS, limits=limits) as decoder:
        for key in "abc":
            decoder.submit(key, path)
        for event in decoder.events():
            if event.key == "b" and isinstance(event, Sample):
                os.kill(decoder._process.process.pid, signal.SIGSTOP)
            if isinstance(event, Ended | Failed):
                outcomes[event.key] = event
            if isinstance(event, Restarted):
                restarted.append(event.key)
    assert [type(outcomes[key]) for key in "abc"] == [Ended, Failed, Ended]
    assert outcomes["b"].reason == "timeout"
    assert restarted == ["b"]


def test_a_process_that_hung_once_costs_nothing(clip):
    path = clip("hung_once.mp4", frames=100, sound=4.0)
    limits = Limits(ring_bytes=1, timeout=1.5, timeout_per_second=0.0)
    with Decoder(SIGNALS, limits=limits) as decoder:
        decoder.submit("a", str(path))
        events = decoder.events()
        next(events)
        os.kill(decoder._process.process.pid, signal.SIGSTOP)
        kinds = [type(event) for event in events]
    assert kinds.count(Restarted) == 1
    assert kinds[-1] is Ended


def test_the_time_that_the_process_takes_to_start_is_not_the_files(clip, monkeypatch):
    real = process_module.Process.listen

    def slow(process, timeout):
        if not process.ready:
            time.sleep(2.5)
        return real(process, timeout)

    monkeypatch.setattr(process_module.Process, "listen", slow)
    limits = Limits(timeout=2.0, timeout_per_second=0.0)
    with Decoder(SIGNALS, limits=limits) as decoder:
        decoder.submit("a", str(clip("start.mp4", frames=10)))
        kinds = {type(event) for event in decoder.events()}
    assert Ended in kinds
    assert Restarted not in kinds


@pytest.fixture
def poison(monkeypatch, clip, tmp_path):
    """Paths of files that break the decoder's process in the way that they are called."""
    monkeypatch.setenv("MMF_CHAOS", "poison")
    good = clip("good.mp4", frames=30)

    def make(kind: str) -> str:
        path = tmp_path / f"poison-{kind}.mp4"
        path.write_bytes(good.read_bytes())
        return str(path)

    return make


@pytest.mark.parametrize("kind", ["segfault", "abort", "hold", "memory", "leave"])
def test_a_file_that_breaks_the_process_is_tried_twice_and_fails_alone(clip, poison, kind):
    limits = Limits(timeout=2.0, timeout_per_second=0.0, memory_bytes=2 << 30)
    good, bad = str(clip("good.mp4", frames=30)), poison(kind)
    with Decoder(SIGNALS, limits=limits) as decoder:
        for key, path in (("a", good), ("b", bad), ("c", good)):
            decoder.submit(key, path)
        events = list(decoder.events())
    assert [event.key for event in events if isinstance(event, Restarted)] == ["b"]
    outcomes = {event.key: event for event in events if isinstance(event, Ended | Failed)}
    assert [type(outcomes[key]) for key in "abc"] == [Ended, Failed, Ended]
    assert outcomes["b"].reason == KINDS[kind][1]


def test_the_process_ends_by_itself_where_its_cpu_time_is_used_up(poison, monkeypatch):
    monkeypatch.setattr(Limits, "deadline", lambda *_: 1e6)  # ours, not the child's
    limits = Limits(timeout=0.2, timeout_per_second=0.0)
    with Decoder(SIGNALS, limits=limits) as decoder:
        decoder.submit("a", poison("spin"))
        outcome = list(decoder.events())[-1]
    assert (type(outcome), outcome.reason) == (Failed, "timeout")


def test_the_process_may_write_its_errors_and_nothing_large(tmp_path):
    code = (
        "import os, signal, sys\nfrom mmf.extract.decoder import child\n"
        "child._confine(8 << 30, os.getppid())\n"
        "with open(sys.argv[1], 'wb', buffering=0) as file:\n"
        "    file.write(bytes(1000))\n    file.write(bytes(1 << 20))\n    file.write(b'x')\n"
    )
    out = tmp_path / "written"
    command = [sys.executable, "-c", code, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert out.stat().st_size == 64 << 10


def test_an_unknown_child_is_refused(monkeypatch, clip):
    monkeypatch.setenv("MMF_CHAOS", "os")
    with Decoder(SIGNALS) as decoder, pytest.raises(MmfError, match="unknown MMF_CHAOS 'os'"):
        decoder.submit("a", str(clip("a.mp4", frames=50)))


def test_the_time_that_we_keep_the_process_waiting_does_not_count(clip):
    path = str(clip("slow_consumer.mp4", frames=100, sound=4.0))
    limits = Limits(ring_bytes=1, timeout=2.5, timeout_per_second=0.0)
    with Decoder(SIGNALS, limits=limits) as decoder:
        decoder.submit("a", path)
        for event in decoder.events():
            if isinstance(event, Sample) and event.row == 0:
                time.sleep(1.0)
        assert isinstance(event, Ended)


def test_a_file_that_wants_too_much_memory_fails_alone(clip):
    path = clip("large.mp4", frames=5)
    large = Frames(fps=5.0, resize=8000, crop=48)  # 250 MB for each resized picture
    with Decoder([large], limits=Limits(memory_bytes=400 << 20)) as decoder:
        decoder.submit("a", str(path))
        _, outcomes = gathered(decoder)
    assert outcomes["a"].reason == "limit_memory"


def test_a_closed_decoder_leaves_no_process(clip):
    decoder = Decoder(SIGNALS)
    decoder.submit("a", str(clip("closed.mp4", frames=10)))
    pid = decoder._process.process.pid
    decoder.close()
    decoder.close()
    assert decoder.pending == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux")
def test_the_process_dies_with_its_parent(clip):
    code = (
        "import os, sys\nfrom mmf.extract.decoder.parent import Decoder\n"
        "from mmf.extract.signals import Frames\n"
        "decoder = Decoder([Frames(fps=25.0)])\n"
        "decoder.submit('a', sys.argv[1])\nnext(decoder.events())\n"
        "print(decoder._process.process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    path = str(clip("orphan.mp4", frames=100))
    made = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    pid = int(made.stdout)
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split(")")[-1].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the process outlived its parent by 5 s")
