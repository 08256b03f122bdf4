"""TFRecord files: records between masked checksums.

A record is a little-endian uint64 length, the masked crc32c of those 8 bytes, the data, and the
masked crc32c of the data. The mask is ``rotate_right(crc, 15) + 0xa282ead8`` (TensorFlow,
`core/lib/hash/crc32c.h`).
"""

import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

MAX_RECORD_BYTES = 1 << 30
_HEAD = struct.Struct("<QI")


@dataclass(frozen=True, kw_only=True)
class Record:
    """The data of one record, and where it begins in its file; or what is wrong there."""

    offset: int
    data: bytes = b""
    reason: str = ""  # '' for a sound record; length_crc, data_crc, torn, too_large
    message: str = ""


def masked_crc32c(data: bytes) -> int:
    """The checksum as it stands in the file."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(path: Path, *, skip: Collection[int] = (), start: int = 0) -> Iterator[Record]:
    """Every record of a file but those at the offsets in `skip`, a damaged one with its reason.

    `start` is the offset of the first of them.

    After wrong data the next record is where the length says. After a wrong length nothing is: the
    rest of the file is given up, and the record's message says how much that is.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = file.seek(start)
        while offset < size:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                yield _torn(offset, size)
                return
            length, crc = _HEAD.unpack(head)
            if masked_crc32c(head[:8]) != crc:
                yield Record(offset=offset, reason="length_crc", message=_lost(offset, size))
                return
            after = offset + _HEAD.size + length + 4
            if after > size:
                yield _torn(offset, size)
                return
            if offset in skip:
                file.seek(after)
            else:
                yield _read(file, offset, length)
            offset = after


def write_record(file: BinaryIO, data: bytes) -> None:
    """Append one record to an open file."""
    length = struct.pack("<Q", len(data))
    file.write(length + struct.pack("<I", masked_crc32c(length)))
    file.write(data)
    file.write(struct.pack("<I", masked_crc32c(data)))


def _read(file: BinaryIO, offset: int, length: int) -> Record:
    if length > MAX_RECORD_BYTES:
        file.seek(length + 4, os.SEEK_CUR)
        message = f"the record has {length} bytes; at most {MAX_RECORD_BYTES} are read"
        return Record(offset=offset, reason="too_large", message=message)
    data = file.read(length)
    (crc,) = struct.unpack("<I", file.read(4))
    if masked_crc32c(data) != crc:
        message = "the data's checksum does not match; the records after it are not affected"
        return Record(offset=offset, reason="data_crc", message=message)
    return Record(offset=offset, data=data)


def _torn(offset: int, size: int) -> Record:
    message = f"the file ends inside the record, at byte {size}; fetch it again"
    return Record(offset=offset, reason="torn", message=message)


def _lost(offset: int, size: int) -> str:
    return (
        "the length's checksum does not match, so where the next record begins is unknown: the "
        f"last {size - offset} bytes of the file cannot be trusted and were left out"
    )
