"""Trial `tricks`: files and paths that refer to other files and hosts; nothing of it is opened.

Playlists, scripts, session descriptions, links, devices and FFmpeg's own ways to name a source, in
files of several extensions and as paths, through the decoder as `mmf extract` uses it. What may be
touched watches for itself: servers on loopback count whoever connects, inotify (on Linux) counts
the times that a file which only a trick names is opened, and the decoder's processes are looked at
for sockets while they work.
"""

import contextlib
import glob
import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from mmf.chaos.media import make_clip
from mmf.chaos.mutated import said
from mmf.chaos.opened import Opened
from mmf.chaos.trial import Found, Setting
from mmf.extract.decoder.events import Ended, Failed
from mmf.extract.decoder.parent import Decoder
from mmf.extract.media.opening import Limits
from mmf.extract.signals import Cues, Frames, Waves

SIGNALS = (Frames(resize=32, crop=32), Waves(), Cues())
LIMITS = Limits(timeout=10.0, timeout_per_second=0.0)
ALLOWED = {"format_not_allowed", "not_media", "not_regular_file", "no_such_file", "empty"}
MPD = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation '
    'id="1" bandwidth="1"><BaseURL>{0}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
# what a file says of {0}, another source
CONTENTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n",
    "m3u8-key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile {0}\n",
    "mpd": MPD,
    "pls": "[playlist]\nFile1={0}\nNumberOfEntries=1\n",
    "smil": '<smil><body><video src="{0}"/></body></smil>',
}
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video {0} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
)
EXTENSIONS = ("mp4", "{kind}")
# FFmpeg's ways to name a source, of {0}, as the path of an input
PATHS = (
    *("concat:{0}|{0}", "concatf:{0}", "subfile,,start,0,end,99,,:{0}", "file:{0}", "file://{0}"),
    *("pipe:0", "fd:0", "cache:{0}", "crypto:{0}", "async:{0}", "md5:", "tee:{0}", "unix:{0}"),
    *("data:text/plain;base64,AAAA", "tcp://127.0.0.1:{1}", "udp://127.0.0.1:{1}"),
    *("rtp://127.0.0.1:{1}", "rtsp://127.0.0.1:{1}/a", "rtmp://127.0.0.1:{1}/a"),
    *("ftp://127.0.0.1:{1}/a", "hls+http://127.0.0.1:{1}/a.m3u8", "mmsh://127.0.0.1:{1}/a"),
    *(
        "testsrc=size=32x32",
        "lavfi:testsrc",
        "movie={0}",
        "image-%03d.png",
        "image-*.png",
        "glob:*",
    ),
    *("/dev/zero", "/dev/tty", "/proc/self/mem", "-"),
)


def tricks(folder: Path, setting: Setting) -> Found:
    """References of all kinds, none of which may be followed; the seed is of no use."""
    del setting
    with contextlib.chdir(folder), _Traps() as traps:
        foreign = _foreign_files(folder)
        paths = [*_files(foreign, traps.port), *_paths(foreign, traps.port), *_no_files(folder)]
        with Opened(foreign) as opened:
            outcomes = _decoded(paths, traps)
    found = Found(n=len(paths))
    for path, outcome in outcomes.items():
        if not isinstance(outcome, Failed) or outcome.reason not in ALLOWED:
            became = outcome.reason if isinstance(outcome, Failed) else "decoded"
            found.faults.append(f"{path!r}: {became}")
    found.faults += [f"{path!r} was opened" for path in opened.paths]
    found.faults += [f"{n} connections to a server" for n in [traps.hits] if n]
    found.faults += [f"a socket of the decoder: {one}" for one in sorted(traps.sockets)]
    reasons = Counter(o.reason for o in outcomes.values() if isinstance(o, Failed))
    found.said = said(found.n, reasons)
    return found


def _foreign_files(folder: Path) -> list[Path]:
    """What tricks name: media that could be decoded, and a text that nobody is to see."""
    other = folder / "foreign"
    other.mkdir()
    made = [make_clip(other / "other.mp4"), make_clip(other / "other.ts", "mpeg2video", "mp2")]
    (other / "secret.txt").write_text("secret\n" * 50)
    shutil.copy(made[1], "image-001.png")
    return [*made, other / "secret.txt", folder / "image-001.png"]


def _files(foreign: list[Path], port: int) -> Iterator[str]:
    """Files that name others, whatever they are called."""
    targets = [str(foreign[1]), "foreign/secret.txt", f"file://{foreign[0]}"]
    targets += [f"http://127.0.0.1:{port}/a.ts", f"concat:{foreign[1]}|{foreign[1]}"]
    contents = [
        (kind, text.format(target)) for kind, text in CONTENTS.items() for target in targets
    ]
    contents += [("sdp", SDP.format(port))]
    for number, (kind, text) in enumerate(contents):
        for extension in EXTENSIONS:
            path = f"trick-{number:02}.{extension.format(kind=kind.partition('-')[0])}"
            Path(path).write_text(text)
            yield path


def _paths(foreign: list[Path], port: int) -> Iterator[str]:
    for pattern in PATHS:
        yield pattern.format(foreign[1], port)
    yield "foreign/secret.txt\0.mp4"


def _no_files(folder: Path) -> Iterator[str]:
    """What lies in a folder and is no file."""
    os.mkfifo("fifo.mp4")
    Path("folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):  # a path too long
        one.bind("socket.mp4")
        yield "socket.mp4"
    for name, target in {"zero": "/dev/zero", "itself": "itself.mp4", "up": str(folder)}.items():
        os.symlink(target, f"{name}.mp4")
    yield from ("fifo.mp4", "folder.mp4", "zero.mp4", "up.mp4")


def _decoded(paths: list[str], traps: "_Traps") -> dict[str, Ended | Failed]:
    outcomes: dict[str, Ended | Failed] = {}
    with Decoder(SIGNALS, limits=LIMITS) as decoder:
        for path in paths:
            decoder.submit(path, path)
        for event in decoder.events():
            if decoder.process_id is not None:
                traps.look_at(decoder.process_id)
            if isinstance(event, Ended | Failed):
                outcomes[event.key] = event
    return outcomes


class _Traps:
    """Servers on loopback, at one port of TCP and UDP, that count who comes."""

    def __init__(self) -> None:
        self.hits = 0
        self.sockets: set[str] = set()  # that a process was seen to have
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._tcp.settimeout(0.1)
        self._udp.settimeout(0.1)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._count, args=(ask,), daemon=True)
            for ask in (self._accept, self._receive)
        ]

    def __enter__(self) -> "_Traps":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()

    def look_at(self, process: int) -> None:
        """Note the sockets that the process has now; Linux says."""
        for entry in glob.glob(f"/proc/{process}/fd/*"):
            with contextlib.suppress(OSError):  # closed by now
                if os.readlink(entry).startswith("socket:"):
                    self.sockets.add(os.readlink(entry))

    def _accept(self) -> None:
        self._tcp.accept()[0].close()

    def _receive(self) -> None:
        self._udp.recv(1)

    def _count(self, ask: Callable[[], None]) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                ask()
                self.hits += 1
