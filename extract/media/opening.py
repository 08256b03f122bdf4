"""Opening a media file that nobody vouches for.

FFmpeg opens more than files: playlists, `concat` scripts and session descriptions name other files
and hosts, whatever the extension says. So it gets an object that can only be read, without a name;
no protocol; and a short list of formats. Headers are held to limits before a decoder starts.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
from av.container import InputContainer

from mmf import MmfError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,asf,ogg,mpeg,wav,mp3,aac,flac,gif,mxf"
)
# the first bytes of text that names other files: a playlist, not a text that is no media
PLAYLISTS = (b"#extm3u", b"ffconcat", b"v=0", b"<?xml", b"<mpd", b"[playlist]", b"<smil")
WHOLE = 0.98  # of what a header declares; less is a truncated file
READ_BYTES = 1 << 18  # a Python call per read: larger than PyAV's 32 KiB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may ask of the machine; more fails as `limit_…` or `timeout`."""

    max_pixels: int = 8192 * 4320  # of one frame
    max_duration: float = 12 * 3600.0  # seconds of media
    max_gap: float = 3600.0  # seconds from one packet to the next: more is a damaged time
    max_frames: int = 12 * 3600 * 120  # of the video
    max_streams: int = 64
    timeout: float = 30.0  # seconds of decoding, beside …
    timeout_per_second: float = 2.0  # … this much for each second of media
    ring_bytes: int = 32 << 20  # of rows that are decoded and not yet taken
    staged_bytes: int | None = None  # of files fetched and not yet decoded; None = MMF_STAGED_GB
    memory_bytes: int = 8 << 30  # address space of the decoder's process

    def deadline(self, duration: float) -> float:
        """Seconds that decoding so many seconds of media may take."""
        return self.timeout + self.timeout_per_second * duration


DEFAULT_LIMITS = Limits()


class Unusable(MmfError):
    """This file gives no rows: a short reason code, the stage where it showed, a sentence."""

    def __init__(self, reason: str, stage: str, message: str):
        super().__init__(message)
        self.reason = reason
        self.stage = stage


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened media file."""

    container: InputContainer
    size_bytes: int
    cut_short: bool  # its own headers say that bytes are missing


class _Nameless:
    """A file as PyAV wants it, and no `name` by which a prober could tell anything."""

    def __init__(self, descriptor: int):
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell
        self.close = self._file.close


@contextmanager
def open_media(path: str, limits: Limits) -> Iterator[Source]:
    """The file, opened and within the limits; raises Unusable with the reason."""
    descriptor, size = open_regular(path)
    source = _Nameless(descriptor)
    try:
        # of an index that is cut in the middle FFmpeg takes what is there, and misses streams
        cut_short = _lacks_riff_bytes(source.read(8), size) or _cut_box(source) == b"moov"
        source.seek(0)
        container = _open_container(source, limits)
        try:
            if cut_short and not len(container.streams):
                raise Unusable("truncated", "open", "the file ends before or in its header.")
            _check_header(container, limits)
            yield Source(container=container, size_bytes=size, cut_short=cut_short)
        finally:
            container.close()
    finally:
        source.close()


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor of the regular file at `path` and its size; never waits on a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return descriptor, status.st_size
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise Unusable("empty", "open", "the file has no bytes.")
    raise Unusable("not_regular_file", "open", "not a regular file; expected a media file.")


def check_identity(path: str, size: int | None, sha256: str | None) -> None:
    """Raises Unusable unless the file has the size and the digest that a manifest promises."""
    if size is None and sha256 is None:
        return
    descriptor, found = open_regular(path)
    with os.fdopen(descriptor, "rb") as file:
        if size is not None and size != found:
            raise Unusable("size_mismatch", "open", f"{found} bytes; the manifest says {size}.")
        if sha256 is None:
            return
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256.lower():
        raise Unusable("digest_mismatch", "open", f"its sha256 is {digest}, not the manifest's.")


def _cannot_open(path: str, error: OSError | ValueError) -> Unusable:
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code in (errno.EACCES, errno.EPERM):
        return Unusable("permission_denied", "open", f"no permission to read {path!r}.")
    if code == errno.ENXIO:  # a socket
        return Unusable("not_regular_file", "open", f"{path!r} is not a regular file.")
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return Unusable("no_such_file", "open", f"there is no file {path!r}.")
    return Unusable("read_error", "open", f"cannot open {path!r}: {error}.")


def _open_container(source: _Nameless, limits: Limits) -> InputContainer:
    try:
        return av.open(
            source,
            mode="r",
            metadata_errors="replace",
            buffer_size=READ_BYTES,
            container_options={"protocol_whitelist": "none", "format_whitelist": FORMATS},
            options={"max_pixels": str(limits.max_pixels)},
        )
    except (av.FFmpegError, OSError, ValueError, IndexError, MemoryError) as error:
        raise _not_opened(source, error) from error


def _not_opened(source: _Nameless, error: Exception) -> Unusable:
    source.seek(0)
    head = source.read(4096)
    if isinstance(error, MemoryError):
        return Unusable("limit_memory", "open", "the header asks for more memory than allowed.")
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
        return Unusable("read_error", "open", f"cannot read the file: {error}.")
    if _cut_box(source) or isinstance(error, av.EOFError):
        return Unusable("truncated", "open", "the file ends before or in its header.")
    text = b"\0" not in head and head.lstrip(b"\xef\xbb\xbf \r\n\t")[:16].lower()
    if text and text.startswith(PLAYLISTS):
        return Unusable("format_not_allowed", "open", "a playlist, which names other files.")
    # FFmpeg knows the format and the white list refuses it; for text, what it "knows" is a guess
    if isinstance(error, av.ArgumentError) and not _is_text(head):
        return Unusable("format_not_allowed", "open", f"a format that mmf does not open ({error}).")
    return Unusable("not_media", "open", f"no media in a known format ({error}).")


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 for byte in head)


def _lacks_riff_bytes(head: bytes, size: int) -> bool:
    """Whether a WAV or AVI file is shorter than its first chunk; a stream's has no true length."""
    declared = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and size < WHOLE * declared and declared < 0x7FFF0000


def _cut_box(source: _Nameless) -> bytes:
    """The kind of an MP4's box that reaches past the end of the file; b"" where none does."""
    end = source.seek(0, os.SEEK_END)
    at = 0
    for _ in range(64):
        source.seek(at)
        head = source.read(16)
        if at == 0 and head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return b""
        if len(head) < 8:
            return b"head" if 0 < at != end else b""
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0: to the end of the file
            return b""
        at += size
        if at > end:
            return head[4:8]
    return b""


def _check_header(container: InputContainer, limits: Limits) -> None:
    streams = container.streams
    if not len(streams):
        raise Unusable("not_media", "open", "the file has no streams.")
    if len(streams) > limits.max_streams:
        raise Unusable(
            "limit_streams",
            "open",
            f"{len(streams)} streams; at most {limits.max_streams} are read.",
        )
    for video in streams.video:
        codec = video.codec_context
        pixels = codec.width * codec.height if codec is not None else 0  # None: an unknown codec
        if pixels > limits.max_pixels:
            raise Unusable(
                "limit_pixels", "open", f"frames of {pixels} pixels; at most {limits.max_pixels}."
            )
        if video.frames > limits.max_frames:
            raise Unusable(
                "limit_frames", "open", f"{video.frames} frames; at most {limits.max_frames}."
            )
    duration = declared_duration(container)
    if duration is not None and duration > limits.max_duration:
        raise Unusable(
            "limit_duration", "open", f"{duration:.0f} s long; at most {limits.max_duration:.0f} s."
        )


def declared_duration(container: InputContainer) -> float | None:
    """Seconds that the header promises, or None."""
    return None if container.duration is None else container.duration / av.time_base
