"""The servers that the contract tests share."""

from __future__ import annotations

from collections.abc import Iterator

import botocore.session
import pytest

from tests.support.ceph_gateway import CephGateway, ceph_gateway, require_ceph
from tests.support.moto_server import moto_server


@pytest.fixture(scope="session", autouse=True)
def models_are_read_once() -> Iterator[None]:
    """Every client reads the library's description of S3, a tenth of a second long; here they share one."""
    loader = botocore.session.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda *_: loader)
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of an S3 server without access control."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ceph() -> Iterator[CephGateway]:
    """An S3 server of the kind that CDN77 runs."""
    require_ceph()
    with ceph_gateway() as gateway:
        yield gateway
