"""The durable state: in a file, in the bucket, or in memory."""

from cdn77_exporter.edge.state.bucket import BucketState
from cdn77_exporter.edge.state.database import Database
from cdn77_exporter.edge.state.store import State

__all__ = ["BucketState", "Database", "State"]
