"""The receiver of the samples: what is written to it, and what can be asked of it."""

from cdn77_exporter.edge.receiver.remote_write import RemoteWriter

__all__ = ["RemoteWriter"]
