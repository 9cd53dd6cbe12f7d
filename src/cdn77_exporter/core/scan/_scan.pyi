# What the compiled scan offers; see _scan.c.

class Scanner:
    """Adds up the plain lines of one file. Not for two threads at once."""

    def __new__(
        cls,
        *,
        fields: tuple[
            tuple[str, int, int], ...
        ],  # name, how it is read, 1 if it is a label, 2 if its texts are counted too
        cubes: tuple[
            tuple[bytes, bytes, bytes], ...
        ],  # fields of the labels, what each column adds, and of which field
        profile: bytes,  # fields of the labels
        stream: tuple[bytes, bytes, int, int, bytes, bool, bool],  # see `pattern.StreamPattern`
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
        """Return how many groups and viewers there are so far; some may be the same by their labels."""

    def events(self) -> bytes:
        """Return of each text how many events have it in the field whose texts are counted, 64 bits each."""

    def close(
        self,
    ) -> tuple[
        tuple[str, ...],
        tuple[tuple[bytes, bytes, bytes], ...],
        bytes,
        bytes,
        tuple[bytes, bytes, bytes, bytes],
        tuple[int, int, int],
        tuple[int, ...],
        tuple[int, int],
    ]:
        """All texts; of each cube ticks, labels and sums; profiles; addresses; of the viewers addresses, profiles,
        first and last; the lines that were rejected for having no stream, a refused one, and for being too old; of each
        field how many events had it malformed; the first and the last time of events without an address."""

def hash_addresses(addresses: bytes, key: bytes, /) -> bytes:
    """Return 8 bytes for each 16 of an address: keyed BLAKE2b of it, of an IPv4 address in its 4 bytes."""
