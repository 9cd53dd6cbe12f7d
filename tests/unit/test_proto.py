"""The protobuf schema, the module made from it, and the bytes that both stand for."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.descriptor import FileDescriptor

from cdn77_exporter.core.encode import remote_write_2_pb2
from cdn77_exporter.core.encode.remote_write_pb2 import DESCRIPTOR, Histogram, MetricMetadata, WriteRequest
from tools.generate_proto import OUTPUTS, ROOT, stale

#: The published schema of remote write 1.0: message -> field -> (number, type, repeated).
SPECIFIED = {
    "WriteRequest": {
        "timeseries": (1, Field.TYPE_MESSAGE, True),
        "metadata": (3, Field.TYPE_MESSAGE, True),
    },
    "TimeSeries": {
        "labels": (1, Field.TYPE_MESSAGE, True),
        "samples": (2, Field.TYPE_MESSAGE, True),
        "histograms": (4, Field.TYPE_MESSAGE, True),
    },
    "Histogram": {
        "count_int": (1, Field.TYPE_UINT64, False),
        "count_float": (2, Field.TYPE_DOUBLE, False),
        "sum": (3, Field.TYPE_DOUBLE, False),
        "schema": (4, Field.TYPE_SINT32, False),
        "zero_threshold": (5, Field.TYPE_DOUBLE, False),
        "zero_count_int": (6, Field.TYPE_UINT64, False),
        "zero_count_float": (7, Field.TYPE_DOUBLE, False),
        "positive_spans": (11, Field.TYPE_MESSAGE, True),
        "positive_deltas": (12, Field.TYPE_SINT64, True),
        "reset_hint": (14, Field.TYPE_ENUM, False),
        "timestamp": (15, Field.TYPE_INT64, False),
    },
    "BucketSpan": {"offset": (1, Field.TYPE_SINT32, False), "length": (2, Field.TYPE_UINT32, False)},
    "Label": {"name": (1, Field.TYPE_STRING, False), "value": (2, Field.TYPE_STRING, False)},
    "Sample": {"value": (1, Field.TYPE_DOUBLE, False), "timestamp": (2, Field.TYPE_INT64, False)},
    "MetricMetadata": {
        "type": (1, Field.TYPE_ENUM, False),
        "metric_family_name": (2, Field.TYPE_STRING, False),
        "help": (4, Field.TYPE_STRING, False),
        "unit": (5, Field.TYPE_STRING, False),
    },
}


def test_the_generated_module_is_fresh() -> None:
    """Generating again gives the committed files, byte for byte."""
    assert stale() == []


def test_a_stale_module_is_found(tmp_path: Path) -> None:
    """A changed file and those that are missing are named."""
    first, *others = OUTPUTS
    (tmp_path / first).parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "src" / first, tmp_path / first)
    with (tmp_path / first).open("a") as lines:
        lines.write("# changed\n")
    assert stale(tmp_path) == [first.as_posix(), *(one.as_posix() for one in others)]


#: That of 2.0, which Prometheus 3.5 reads.
SPECIFIED_2 = {
    "Request": {"symbols": (4, Field.TYPE_STRING, True), "timeseries": (5, Field.TYPE_MESSAGE, True)},
    "TimeSeries": {
        "labels_refs": (1, Field.TYPE_UINT32, True),
        "samples": (2, Field.TYPE_MESSAGE, True),
        "histograms": (3, Field.TYPE_MESSAGE, True),
        "metadata": (5, Field.TYPE_MESSAGE, False),
        "created_timestamp": (6, Field.TYPE_INT64, False),
    },
    "Metadata": {
        "type": (1, Field.TYPE_ENUM, False),
        "help_ref": (3, Field.TYPE_UINT32, False),
        "unit_ref": (4, Field.TYPE_UINT32, False),
    },
    **{name: SPECIFIED[name] for name in ("Sample", "Histogram", "BucketSpan")},
}


@pytest.mark.parametrize(
    ("descriptor", "specified", "message"),
    [
        *((DESCRIPTOR, SPECIFIED, message) for message in SPECIFIED),
        *((remote_write_2_pb2.DESCRIPTOR, SPECIFIED_2, message) for message in SPECIFIED_2),
    ],
)
def test_the_schema_is_the_published_one(
    descriptor: FileDescriptor, specified: dict[str, dict[str, tuple[int, int, bool]]], message: str
) -> None:
    """Every field has the number and the type of the specification."""
    fields = descriptor.message_types_by_name[message].fields
    assert {field.name: (field.number, field.type, field.is_repeated) for field in fields} == specified[message]


def test_every_message_is_looked_at() -> None:
    """No message is declared without a place in the tables above."""
    assert set(DESCRIPTOR.message_types_by_name) == set(SPECIFIED)
    assert set(remote_write_2_pb2.DESCRIPTOR.message_types_by_name) == set(SPECIFIED_2)


def test_no_field_of_a_request_is_one_of_the_other_version() -> None:
    """Who reads a request of one version as the other finds nothing in it, and one byte tells which it is."""
    numbers = [
        {number for number, _, _ in table.values()} for table in (SPECIFIED["WriteRequest"], SPECIFIED_2["Request"])
    ]
    assert numbers[0].isdisjoint(numbers[1])


def test_metric_types_have_the_published_numbers() -> None:
    """The enumerations are the specification's, in their order."""
    names = ["UNKNOWN", "COUNTER", "GAUGE", "HISTOGRAM", "GAUGEHISTOGRAM", "SUMMARY", "INFO", "STATESET"]
    assert dict(MetricMetadata.MetricType.items()) == {name: number for number, name in enumerate(names)}
    assert dict(remote_write_2_pb2.Metadata.MetricType.items()) == {
        f"METRIC_TYPE_{'UNSPECIFIED' if name == 'UNKNOWN' else name}": number for number, name in enumerate(names)
    }
    assert dict(Histogram.ResetHint.items()) == {"UNKNOWN": 0, "YES": 1, "NO": 2, "GAUGE": 3}


def test_a_request_is_these_bytes() -> None:
    """A request written down byte by byte is read and written as such; a NaN keeps its bits."""
    label = b"\x0a\x08__name__\x12\x01m"
    sample = b"\x09" + struct.pack("<Q", 0x7FF0000000000002) + b"\x10\xac\x02"
    series = b"\x0a" + bytes([len(label)]) + label + b"\x12" + bytes([len(sample)]) + sample
    metadata = b"\x08\x01\x12\x01m\x22\x04Help"
    body = b"\x0a" + bytes([len(series)]) + series + b"\x1a" + bytes([len(metadata)]) + metadata
    request = WriteRequest.FromString(body)
    assert request.timeseries[0].samples[0].timestamp == 300
    assert struct.pack("<d", request.timeseries[0].samples[0].value) == struct.pack("<Q", 0x7FF0000000000002)
    assert (request.metadata[0].metric_family_name, request.metadata[0].help) == ("m", "Help")
    assert request.SerializeToString(deterministic=True) == body


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_the_module_works_on_both_runtimes(implementation: str) -> None:
    """It can be imported and used on protobuf's compiled and on its pure runtime, in a fresh process."""
    code = (
        "from google.protobuf.internal import api_implementation as a;"
        "from cdn77_exporter.core.encode.remote_write_pb2 import WriteRequest;"
        "print(a.Type(), len(WriteRequest(timeseries=[{'labels': [{'name': 'a', 'value': 'b'}]}]).SerializeToString()))"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout == f"{implementation} 10\n"
