"""TensorFlow's Example and SequenceExample on the wire, with protobuf and without TensorFlow.

The messages are those of `tensorflow/core/example/{example,feature}.proto` but for two things that
the wire does not tell apart. Maps are declared as the repeated entries that they are, so that their
order is kept. The values of `FeatureLists.feature_list` are declared as bytes, not as messages: so
a list of hundreds of one-string features comes as one buffer, and where all rows have one width it
*is* an array, each row of it beginning with the same few bytes. Those bytes are what protobuf
itself writes for a row of that width; any other list is parsed message by message.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from mmf import MmfError
from mmf.store.exchange.outline import outline

USUAL_WIDTHS = (1024, 128)  # YouTube-8M's rgb and audio, in bytes

# message → its fields, numbered from 1: name, type ("*": repeated); a name with "?" is of a oneof
_MESSAGES = {
    "BytesList": {"value": "bytes*"},
    "FloatList": {"value": "float*"},
    "Int64List": {"value": "int64*"},
    "Feature": {"bytes_list?": "BytesList", "float_list?": "FloatList", "int64_list?": "Int64List"},
    "FeatureEntry": {"key": "string", "value": "Feature"},
    "Features": {"feature": "FeatureEntry*"},
    "FeatureList": {"feature": "Feature*"},
    "ListEntry": {"key": "string", "value": "bytes"},
    "FeatureLists": {"feature_list": "ListEntry*"},
    "SequenceExample": {"context": "Features", "feature_lists": "FeatureLists"},
}


def _classes() -> dict[str, Any]:
    """The message classes, from descriptors that are built here."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mmf/example.proto", package="mmf", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        new = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(fields.items(), start=1):
            scalar, repeated = type_.rstrip("*"), type_.endswith("*")
            added = new.field.add(name=field.rstrip("?"), number=number)
            added.label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
            if scalar in _MESSAGES:
                added.type, added.type_name = proto.TYPE_MESSAGE, f".mmf.{scalar}"
            else:
                added.type = getattr(proto, f"TYPE_{scalar.upper()}")
            if field.endswith("?"):
                if not new.oneof_decl:
                    new.oneof_decl.add(name="kind")
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {n: pool.FindMessageTypeByName(f"mmf.{n}") for n in _MESSAGES}
    return {n: message_factory.GetMessageClass(d) for n, d in found.items()}


_CLASS = _classes()


@dataclass(frozen=True, kw_only=True)
class Example:
    """A SequenceExample; an Example is one without feature lists, its features the context."""

    context: Mapping[str, Any]  # key → Feature
    lists: Mapping[str, bytes | memoryview]  # key → a serialised FeatureList

    def value(self, key: str) -> list[bytes] | np.ndarray | None:
        """A feature of the context: bytes, float32 or int64; None if it is not there."""
        feature = self.context.get(key)
        if feature is None or (kind := feature.WhichOneof("kind")) is None:
            return None
        if kind == "bytes_list":
            return list(feature.bytes_list.value)
        if kind == "float_list":
            return np.array(list(feature.float_list.value), dtype=np.float32)
        return np.array(list(feature.int64_list.value), dtype=np.int64)

    def rows(self, key: str) -> np.ndarray | None:
        """A feature list as an array (T, D): uint8, float32 or int64; None if it is not there.

        Raises MmfError where the rows differ in width or in kind.
        """
        data = self.lists.get(key)
        if data is None:
            return None
        for width in USUAL_WIDTHS:
            prefix = row_prefix(width)
            step = len(prefix) + width
            if len(data) % step or bytes(data[: len(prefix)]) != prefix:
                continue
            table = np.frombuffer(data, np.uint8).reshape(-1, step)
            if table[:, : len(prefix)].tobytes() == prefix * len(table):
                return table[:, len(prefix) :]
        return parse_rows(key, bytes(data))


def parse(data: bytes) -> Example:
    """Read the bytes of a SequenceExample or an Example; MmfError where they are neither."""
    parts = outline(data)
    try:
        if parts:
            context, lists = _CLASS["Features"].FromString(parts[0]), parts[1]
        else:
            read = _CLASS["SequenceExample"].FromString(data)
            context = read.context
            lists = {e.key: e.value for e in read.feature_lists.feature_list}
    except message.DecodeError as error:
        raise MmfError(f"the record is no Example and no SequenceExample: {error}.") from None
    return Example(context={e.key: e.value for e in context.feature}, lists=lists)


def parse_rows(key: str, data: bytes) -> np.ndarray:
    """Any feature list of equal rows as an array (T, D), message by message."""
    try:
        features = _CLASS["FeatureList"].FromString(data).feature
    except message.DecodeError as error:
        raise MmfError(f"the feature list {key!r} cannot be parsed: {error}.") from None
    kinds = {f.WhichOneof("kind") for f in features}
    if not kinds:
        return np.empty((0, 0), np.uint8)
    if kinds == {"bytes_list"} and all(len(f.bytes_list.value) == 1 for f in features):
        found = [np.frombuffer(f.bytes_list.value[0], np.uint8) for f in features]
    elif kinds == {"float_list"}:
        found = [np.array(f.float_list.value, np.float32) for f in features]
    elif kinds == {"int64_list"}:
        found = [np.array(f.int64_list.value, np.int64) for f in features]
    else:
        raise MmfError(
            f"the feature list {key!r} holds {', '.join(sorted(map(str, kinds)))}; expected one "
            "string, or floats, or integers, in every step."
        )
    widths = sorted({len(row) for row in found})
    if len(widths) != 1:
        raise MmfError(
            f"the feature list {key!r} has rows of {widths[0]} to {widths[-1]} values; expected "
            "as many in each."
        )
    return np.stack(found)


@functools.cache
def row_prefix(width: int) -> bytes:
    """What stands before the bytes of a row of `width` bytes in a feature list."""
    feature = _CLASS["Feature"]()
    feature.bytes_list.value.append(bytes(width))
    whole = _CLASS["FeatureList"](feature=[feature]).SerializeToString()
    return whole[: len(whole) - width]


def build(context: Mapping[str, Any], lists: Mapping[str, np.ndarray] | None = None) -> bytes:
    """The bytes of a SequenceExample; without `lists`, of an Example.

    Values of the context are bytes, or arrays of floats or integers; lists are uint8 (T, D).
    """
    example = _CLASS["SequenceExample"]()
    example.context.SetInParent()
    for key, value in context.items():
        feature = example.context.feature.add(key=key).value
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif np.asarray(value).dtype.kind == "f":
            feature.float_list.value.extend(np.asarray(value, np.float32).tolist())
        else:
            feature.int64_list.value.extend(np.asarray(value, np.int64).tolist())
    for key, codes in (lists or {}).items():
        prefix = np.frombuffer(row_prefix(codes.shape[1]), np.uint8)
        table = np.empty((len(codes), len(prefix) + codes.shape[1]), np.uint8)
        table[:, : len(prefix)], table[:, len(prefix) :] = prefix, codes
        example.feature_lists.feature_list.add(key=key, value=table.tobytes())
    return example.SerializeToString()
