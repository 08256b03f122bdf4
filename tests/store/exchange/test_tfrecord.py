"""TFRecord files: damage is found, named, and costs no more than it must."""

import io
import struct

import pytest

from mmf import MmfError
from mmf.store.exchange import example
from mmf.store.exchange.tfrecord import masked_crc32c, read_records, write_record


@pytest.fixture
def path(tmp_path):
    with open(tmp_path / "a.tfrecord", "wb") as file:
        for data in (b"one", b"", b"three" * 1000):
            write_record(file, data)
    return tmp_path / "a.tfrecord"


OFFSETS = (0, 19, 35)  # 16 bytes around each record's data


def found(path, **options):
    return [(r.offset, r.reason) for r in read_records(path, **options)]


def test_each_single_bit_flip_is_found_and_named(path):
    whole = path.read_bytes()
    for at in [*range(60), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        first = max(o for o in OFFSETS if o <= at)
        in_head = at - first < 12
        wrong = [r for r in read_records(path) if r.reason]
        assert [(r.offset, r.reason) for r in wrong] == [
            (first, "length_crc" if in_head else "data_crc")
        ]
        behind = [o for o in OFFSETS if o > first]
        assert [o for o, _ in found(path) if o > first] == ([] if in_head else behind)
    path.write_bytes(whole[:19] + b"\xff" + whole[20:])
    *_, last = read_records(path)
    assert f"the last {len(whole) - 19} bytes of the file cannot be trusted" in last.message


@pytest.mark.parametrize("left", [1, 11, 12, 15, 18, 20, 34, 40, 5000])
def test_a_torn_file_gives_its_whole_records_and_says_where_it_ends(path, left):
    path.write_bytes(path.read_bytes()[:left])
    torn = max(o for o in OFFSETS if o < left)
    assert found(path) == [(o, "") for o in OFFSETS if o < torn] + [(torn, "torn")]


def test_a_length_beyond_the_file_is_torn_and_reserves_no_memory(path):
    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"x" * 100)
    assert found(path) == [(0, "torn")]


def test_records_to_skip_are_not_read(path):
    whole = bytearray(path.read_bytes())
    whole[60] ^= 1
    path.write_bytes(bytes(whole))
    assert found(path, skip={35}) == [(0, ""), (19, "")]


def test_an_empty_file_has_no_records(path):
    path.write_bytes(b"")
    assert found(path) == []


def test_the_checksums_are_those_of_a_file_that_tensorflow_reads(shared_data):
    golden = shared_data / "yt8m" / "SjJ3_frame.tfrecord"
    (record,) = read_records(golden)
    with io.BytesIO() as file:
        write_record(file, record.data)
        assert file.getvalue() == golden.read_bytes()


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05\x0a\x02\x0a\x00\xff", b"not proto"])
def test_bytes_that_are_no_example_are_refused(data):
    with pytest.raises(MmfError, match="no Example and no SequenceExample"):
        example.parse(data)
