"""A folder of media files: which files are inputs, and what its sub-folders say of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_MEDIA = """
    3g2 3gp aac aif aiff amr asf avi divx f4v flac flv gif m2ts m4a m4b m4v mj2 mka mkv mov mp2 mp3
    mp4 mpeg mpg mts mxf oga ogg ogv opus rm rmvb swf vob wav webm wma wmv
"""
_OTHER = """
    7z arrow ass avif bin bmp bz2 c cfg ckpt conf cpp csv db doc docx gz h h5 hdf5 heic html ini
    ipynb jpeg jpg js json jsonl lock log m3u m3u8 md mpd nfo npy npz onnx parquet pdf pkl png pt
    pth py pyc rar rst safetensors sbv sdp sh sqlite srt ssa sub svg tar tfrecord tif tiff toml tsv
    txt vtt webp xls xlsx xml xz yaml yml zip zst
"""
MEDIA = frozenset(f".{suffix}" for suffix in _MEDIA.split())
# not even looked into; whatever is in neither list is known by its first bytes
OTHER = frozenset(f".{suffix}" for suffix in _OTHER.split())
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
STORE_MARK = "mmf.json"
_FIRST_BYTES = (
    *(b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"FLV\x01", b"GIF8"),
    *(b"0&\xb2u\x8ef\xcf\x11", b"\x06\x0e+4\x02\x05"),  # ASF, MXF
    *(b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"),  # MP3, AAC
    *(b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),  # MPEG
)
_IMAGES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One media file of a folder: its path relative to it, as parts."""

    parts: tuple[str, ...]

    @property
    def video_id(self) -> str:
        """The relative path with ``/``; bytes that are not UTF-8 are written as ``\\xff``."""
        return (
            "/".join(self.parts)
            .encode("utf-8", "surrogateescape")
            .decode("utf-8", "backslashreplace")
        )


def find_media(folder: str) -> list[Found]:
    """The media files below `folder`, by id; hidden ones and feature stores are left out."""
    return find(folder, is_media)


def find(folder: str, wanted: Callable[[str], bool]) -> list[Found]:
    """The files below `folder` whose path is `wanted`, by id."""
    found = [Found(parts=parts) for parts in _walk(folder, (), set(), wanted)]
    return sorted(found, key=lambda one: one.video_id)


def _walk(
    folder: str,
    parts: tuple[str, ...],
    seen: set[tuple[int, int]],
    wanted: Callable[[str], bool],
) -> Iterator[tuple[str, ...]]:
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in seen:  # a link back up
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    if parts and any(entry.name == STORE_MARK for entry in listed):
        return
    for entry in listed:
        if entry.is_dir():
            yield from _walk(entry.path, (*parts, entry.name), seen, wanted)
        elif wanted(entry.path):
            yield (*parts, entry.name)


def is_media(path: str) -> bool:
    """Whether a file is meant as an input: by its extension, else by its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in MEDIA:
        return True
    if suffix in OTHER or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return looks_like_media(file.read(400))
    except OSError:
        return False


def looks_like_media(head: bytes) -> bool:
    """Whether a file that begins with `head` is audio or video in a format that mmf opens."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _IMAGES
    if head[:4] == b"RIFF":
        return head[8:12] in (b"WAVE", b"AVI ")
    boxes = head[4:8] in (b"moov", b"mdat", b"wide")
    transport_stream = head[0:377:188] == b"GGG"
    return boxes or transport_stream or head.startswith(_FIRST_BYTES)


def splits_and_labels(found: Sequence[Found]) -> tuple[list[str] | None, list[str] | None]:
    """(split of each, class of each) where the folders say so, else None for either.

    Two or more folders that hold everything are the classes. Where all of them are named train,
    val, test and the like, they are the splits and the folders in them the classes.
    """
    tops = {one.parts[0] for one in found}
    if any(len(one.parts) < 2 for one in found):
        return None, None
    if all(top.lower() in SPLITS for top in tops):
        splits = [SPLITS[one.parts[0].lower()] for one in found]
        if any(len(one.parts) < 3 for one in found):
            return splits, None
        return splits, [one.parts[1] for one in found]
    if len(tops) < 2:
        return None, None
    return None, [one.parts[0] for one in found]
