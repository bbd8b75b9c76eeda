"""The Protocol Buffers messages `tf.train.Example` and `tf.train.SequenceExample`, made at run time."""

from functools import cache
from typing import Any


@cache
def record_message() -> Any:
    """Make the class of both messages, which share the number of their features.

    A record is {1: features, 2: feature lists}, the first the only field of an Example; features are
    {1: name to feature}, feature lists {1: name to {1: features}}, and a feature holds {1: bytes, 2: floats,
    3: integers}, each {1: values}. Source: tensorflow/core/example/example.proto and feature.proto.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="fnn_record.proto", package="fnn", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool, str]) -> None:
        made = file.message_type.add(name=name)
        for field, number, kind, many, other in fields:
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if many else 1
            made.field.add(name=field, number=number, type=kind, label=label, type_name=other or None)

    number, integer, text, other, raw = 2, 3, 9, 11, 12  # float, int64, string, message, bytes
    message("Bytes", ("value", 1, raw, True, ""))
    message("Floats", ("value", 1, number, True, ""))
    message("Integers", ("value", 1, integer, True, ""))
    kinds = ("bytes", 1, "Bytes"), ("floats", 2, "Floats"), ("integers", 3, "Integers")
    message("Feature", *((name, i, other, False, f".fnn.{kind}") for name, i, kind in kinds))
    message("Entry", ("key", 1, text, False, ""), ("value", 2, other, False, ".fnn.Feature"))
    message("Features", ("feature", 1, other, True, ".fnn.Entry"))
    message("Steps", ("feature", 1, other, True, ".fnn.Feature"))
    message("Sequence", ("key", 1, text, False, ""), ("value", 2, other, False, ".fnn.Steps"))
    message("Sequences", ("sequence", 1, other, True, ".fnn.Sequence"))
    features, sequences = ("features", 1, ".fnn.Features"), ("sequences", 2, ".fnn.Sequences")
    message("Record", *((name, i, other, False, kind) for name, i, kind in (features, sequences)))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fnn.Record"))
