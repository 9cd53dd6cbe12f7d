# What the compiled scan offers; see _scan.c.

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

    def close(self) -> tuple[tuple[str, ...], bytes, bytes]:
        """All texts, and of all lines taken the groups and the viewers, as `scan.GROUP` and `scan.VIEWER` have them."""
