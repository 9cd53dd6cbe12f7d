"""Less of the S3 library's own description of S3: what is never called takes no memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from botocore.loaders import Loader

#: The operations that the bucket uses; a call of any other fails.
OPERATIONS = frozenset({
    "AbortMultipartUpload",
    "CopyObject",
    "CreateBucket",  # by the demonstration and the tests
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "GetObject",
    "HeadBucket",
    "HeadObject",
    "ListMultipartUploads",
    "ListObjectsV2",
    "PutObject",
})  # fmt: skip


class SlimLoader(Loader):  # type: ignore[misc]
    """Reads the library's data files, and keeps of them what S3 and `OPERATIONS` need: 2 of 10 MB."""

    def load_data_with_path(self, name: str) -> tuple[Any, Any]:
        """Load as the library does, without what is not needed."""
        data, path = super().load_data_with_path(name)
        kind = Path(name).name
        if kind == "service-2":
            _keep_operations(data)
        elif kind == "endpoints":
            _keep_s3_endpoints(data)
        return data, path


@cache
def slim_loader(paths: tuple[str, ...]) -> SlimLoader:
    """Return one for all clients, since reading takes a tenth of a second."""
    return SlimLoader(extra_search_paths=list(paths))


def _keep_operations(model: dict[str, Any]) -> None:
    model["operations"] = {name: found for name, found in model["operations"].items() if name in OPERATIONS}
    needed: set[str] = set()
    waiting = list(_shapes_of(model["operations"]))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _shapes_of(model["shapes"][name])
    model["shapes"] = {name: shape for name, shape in model["shapes"].items() if name in needed}
    _forget_words(model)


def _shapes_of(part: Any) -> Iterator[str]:
    """Return the names of the shapes that a part of the model refers to."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "shape" and isinstance(value, str):
                yield value
            else:
                yield from _shapes_of(value)
    elif isinstance(part, list):
        for value in part:
            yield from _shapes_of(value)


def _forget_words(part: Any) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("documentation"), str):
            part["documentation"] = ""
        for value in part.values():
            _forget_words(value)
    elif isinstance(part, list):
        for value in part:
            _forget_words(value)


def _keep_s3_endpoints(endpoints: dict[str, Any]) -> None:
    for partition in endpoints.get("partitions", []):
        partition["services"] = {name: found for name, found in partition["services"].items() if name == "s3"}
