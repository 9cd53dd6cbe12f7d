"""The known traffic, and receivers that hold it, for the tests of this folder."""

from tests.support.said import said, servers

__all__ = ["said", "servers"]
