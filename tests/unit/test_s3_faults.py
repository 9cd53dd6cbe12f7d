"""What the bucket's answers about one object mean."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from cdn77_exporter.core.decoded import Failure
from cdn77_exporter.core.errors import Misconfigured, Unreadable
from cdn77_exporter.edge.s3.faults import meaning


def _answer(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def test_an_archived_object_is_unreadable_and_no_matter_of_rights() -> None:
    """Its 403 says nothing about the key's rights."""
    error = meaning(_answer("InvalidObjectState", 403), "get_object")
    assert isinstance(error, Unreadable)
    assert error.reason == "archived"


@pytest.mark.parametrize(
    ("code", "status", "of_object"),
    [
        ("AccessDenied", 403, True),
        ("403", 403, True),
        ("KMS.DisabledException", 400, True),
        ("InvalidAccessKeyId", 403, False),
        ("SignatureDoesNotMatch", 403, False),
        ("RequestTimeTooSkewed", 403, False),
        ("NoSuchBucket", 404, False),
    ],
)
def test_a_refusal_may_be_of_one_object(code: str, status: int, of_object: bool) -> None:
    """But not one that is about the credentials, the clock or the bucket; and it stays so on the way from a worker."""
    error = meaning(_answer(code, status), "get_object")
    assert isinstance(error, Misconfigured)
    assert error.of_object is of_object
    again = Failure.of(error).error()
    assert isinstance(again, Misconfigured)
    assert (again.of_object, again.remedy) == (of_object, error.remedy)
    listing = meaning(_answer(code, status), "list_objects_v2", of_object=False)
    assert isinstance(listing, Misconfigured)
    assert not listing.of_object
