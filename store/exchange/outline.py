"""Where the parts of a SequenceExample lie in its bytes, so that its rows need not be copied.

protobuf copies every value that it parses, and a record is nothing but rows. So the two outermost
levels are read here where they are written as TensorFlow writes them: the context, then one list
after another, each with its key and its value. Anything else is left to protobuf.
"""

_FIRST, _SECOND = 0x0A, 0x12  # tags: a field of bytes, number 1 or 2
_LONGEST = 35  # bits: more than a record has bytes


def outline(data: bytes) -> tuple[bytes, dict[str, memoryview]] | None:
    """The serialised context, and by key the serialised feature lists; None: ask protobuf."""
    try:
        return _outline(data)
    except (IndexError, ValueError):
        return None


def _outline(data: bytes) -> tuple[bytes, dict[str, memoryview]] | None:
    context, lists, at = b"", dict[str, memoryview](), 0
    if data and data[0] == _FIRST:
        at, end = _field(data, at, len(data))
        context, at = data[at:end], end
    if at < len(data):
        at, end = _field(data, at, len(data), _SECOND)
        view = memoryview(data)
        while at < end:
            at, entry_end = _field(data, at, end)
            key_at, key_end = _field(data, at, entry_end)
            value_at, at = _field(data, key_end, entry_end, _SECOND)
            key = data[key_at:key_end].decode()
            if at != entry_end or key in lists:
                return None
            lists[key] = view[value_at:at]
    return (context, lists) if at == len(data) else None


def _field(data: bytes, at: int, limit: int, tag: int = _FIRST) -> tuple[int, int]:
    """Where the value of the field at `at` begins and ends; ValueError where it is another."""
    if data[at] != tag:
        raise ValueError
    length, at, shift = data[at + 1], at + 2, 7
    if length >= 0x80:
        length &= 0x7F
        while (byte := data[at]) >= 0x80 and shift < _LONGEST:
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
        length, at = length | byte << shift, at + 1
    if at + length > limit:
        raise ValueError
    return at, at + length
