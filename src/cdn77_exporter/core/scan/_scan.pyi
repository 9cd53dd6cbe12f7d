# What the compiled scan offers; see _scan.c.

# Pieces (see `path_pattern.Piece`), where the name begins and ends, whether it is anchored, and of ASCII only.
_Pattern = tuple[tuple[tuple[bytes, bytes, int, int, bool], ...], int, int, bool, bool]

class Scanner:
    """Adds up the plain lines of one file. Not for two threads at once."""

    def __new__(
        cls,
        *,
        # Name, how it is read, and 1 if it is a label, 2 if its texts are counted too.
        fields: tuple[tuple[str, int, int], ...],
        conditions: tuple[tuple[int, bytes], ...],  # a field, and the text that it must hold
        buckets: tuple[tuple[int, bytes, int], ...],  # a field, the buckets' bounds, the first one's number
        # Labels, those that are required, and of each column what it adds, of which field, the most that counts, and
        # its conditions as bits.
        cubes: tuple[tuple[bytes, bytes, bytes, bytes, bytes, bytes], ...],
        audiences: tuple[tuple[bytes, bytes], ...],  # the labels of each, and those that are required
        stream: _Pattern,
        track: _Pattern | tuple[()],
        tick_seconds: int,
        line_bytes: int,
        oldest_ms: int,
        latest_ms: int,
        rows: int,  # of each table, at most
        admitted_only: bool,
        examples: int,  # rejected lines of each reason that are left to Python
        secrets: tuple[int, int],
        ipv6_prefix: int,  # bits of an IPv6 address that tell viewers apart
    ) -> Scanner: ...
    def take(self, piece: bytes, begin: int, end: int = -1, /) -> list[tuple[int, int, int]]:
        """Count plain lines from `begin` to `end` (-1: all); return what is left (begin and end), each with the lines
        taken before it."""

    def admit(self, stream: str, admitted: bool, /) -> None:
        """Say whether a stream is counted, if only admitted ones are."""

    def rows(self) -> int:
        """Return how many groups of one cube there are, or viewers of one audience, at most; some may be the same."""

    def events(self) -> bytes:
        """Return of each text how many events have it in the field whose texts are counted, 64 bits each."""

    def close(
        self,
    ) -> tuple[
        tuple[str, ...],
        tuple[tuple[bytes, bytes, bytes], ...],
        bytes,
        tuple[tuple[bytes, tuple[bytes, bytes, bytes, bytes]], ...],
        tuple[int, int, int],
        tuple[int, ...],
        tuple[int, int],
    ]:
        """All texts; of each cube ticks, labels and sums; addresses; of each audience its profiles, and of its viewers
        addresses, profiles, first and last; the lines that were rejected for having no stream, a refused one, and for
        being too old; of each field how many events had it malformed; the first and the last time of events without an
        address."""

def hash_addresses(addresses: bytes, key: bytes, /) -> bytes:
    """Return 8 bytes for each 16 of an address: keyed BLAKE2b of it, of an IPv4 address in its 4 bytes."""
