# What the compiled scan offers; see _scan.c.

# tick, stream, CDN id, cache status, POP, response status; requests, bytes, sum and number of times to first byte
_Group = tuple[int, str, int, str, str, int, int, int, int, int]
# tick, stream, client IP, User-Agent, country; the first and the last time
_Viewer = tuple[int, str, str, str, str, int, int]

class Scanner:
    """Sums up the plain lines of one file. Not for two threads at once."""

    def __new__(
        cls,
        tick_seconds: int,
        line_bytes: int,
        oldest_ms: int,
        latest_ms: int,
        admitted_only: bool,
        secrets: tuple[int, int],
    ) -> Scanner: ...
    def take(self, piece: bytes, begin: int, /) -> list[tuple[int, int, int]]:
        """Count plain lines from `begin` on; what is left (begin and end), each with the lines taken before it."""

    def admit(self, stream: str, /) -> None:
        """Take lines of this stream, too, if only admitted ones are taken."""

    def close(self) -> tuple[list[_Group], list[_Viewer]]:
        """The groups and the viewers of all lines taken; ends the scanner."""
