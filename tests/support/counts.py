"""Counts as plain dicts and back: what a test compares, and what it makes by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import numpy as np

from cdn77_exporter.core.columns import ADDRESS_BYTES, Counts, Groups, Viewers
from cdn77_exporter.core.measures import MEASURES, PROFILE, Cube, Measures

#: By tick and labels, the sums of each column; of the first cube.
PlainGroups = Mapping[int, Mapping[tuple[str, ...], Sequence[int]]]
#: By tick and stream, address, device and country, the first and the last time.
PlainViewers = Mapping[int, Mapping[tuple[str, str, str, str], Sequence[int]]]


def address_text(packed: bytes) -> str:
    """An address of 16 bytes as it is usually written."""
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def packed_text(text: str) -> bytes:
    """The 16 bytes of an address."""
    address = ip_address(text)
    return IPv6Address(f"::ffff:{address}").packed if isinstance(address, IPv4Address) else address.packed


def plain_groups(counts: Counts, cube: int = 0) -> dict[int, dict[tuple[str, ...], list[int]]]:
    """The groups of one cube; no two rows are of one tick and the same labels."""
    found: dict[int, dict[tuple[str, ...], list[int]]] = {}
    if not counts.groups:
        return found
    groups = counts.groups[cube]
    for tick, labels, sums in zip(groups.ticks.tolist(), groups.labels.tolist(), groups.sums.tolist(), strict=True):
        key = tuple(counts.texts[number] for number in labels)
        assert key not in found.setdefault(tick, {})
        found[tick][key] = sums
    return found


def plain_viewers(counts: Counts) -> dict[int, dict[tuple[str, str, str, str], list[int]]]:
    """The viewers; no two rows are of one tick, address and profile, and no two addresses or profiles are equal."""
    found: dict[int, dict[tuple[str, str, str, str], list[int]]] = {}
    for tick, rows in plain_audience(counts, counts.viewers).items():
        found[tick] = {
            (stream, address, device, country): times for (address, stream, device, country), times in rows.items()
        }
    return found


def plain_audience(counts: Counts, rows: Viewers) -> dict[int, dict[tuple[str, ...], list[int]]]:
    """The viewers of one audience by tick, address and labels; no two rows are of the same."""
    addresses = [
        address_text(counts.addresses[at : at + ADDRESS_BYTES]) for at in range(0, len(counts.addresses), ADDRESS_BYTES)
    ]
    profiles = [tuple(counts.texts[number] for number in row) for row in rows.labels.tolist()]
    assert len(set(addresses)) == len(addresses)
    assert len(set(profiles)) == len(profiles)
    assert len(set(counts.texts)) == len(counts.texts)
    found: dict[int, dict[tuple[str, ...], list[int]]] = {}
    for tick, address, profile, first, last in zip(
        counts.ticks_of(rows).tolist(), rows.addresses.tolist(), rows.profiles.tolist(), rows.first.tolist(),
        rows.last.tolist(), strict=True,
    ):  # fmt: skip
        key = (addresses[address], *profiles[profile])
        assert key not in found.setdefault(tick, {})
        found[tick][key] = [first, last]
    return found


def plain_counts(counts: Counts) -> dict[str, Any]:
    """Both."""
    return {"groups": plain_groups(counts), "viewers": plain_viewers(counts)}


def counts_of(
    groups: PlainGroups, viewers: PlainViewers, measures: Measures = MEASURES, more: Sequence[PlainGroups] = ()
) -> Counts:
    """Counts that hold exactly this in the first cubes (`more`: after the first) and the first audience.

    Each group's events must be of a tick that has a group; columns that it does not have are 0.
    """
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def groups_of(cube: Cube, plain: PlainGroups) -> Groups:
        rows = [(tick, [*map(number, labels)], sums) for tick, found in plain.items() for labels, sums in found.items()]
        sums = [[*sums, *[0] * (len(cube.columns) - len(sums))] for _, _, sums in rows]
        return Groups(
            np.array([tick for tick, _, _ in rows], np.int64),
            np.array([labels for _, labels, _ in rows], np.uint32).reshape(-1, len(cube.labels)),
            np.array(sums, np.int64).reshape(-1, len(cube.columns)),
        )

    plain = [groups, *more, *[{}] * (len(measures.cubes) - 1 - len(more))]
    of_cubes = [groups_of(cube, of_cube) for cube, of_cube in zip(measures.cubes, plain, strict=True)]
    profiles: dict[tuple[int, ...], int] = {}
    addresses: dict[bytes, int] = {}
    seen = [
        (
            addresses.setdefault(packed_text(ip), len(addresses)),
            profiles.setdefault((number(stream), number(device), number(country)), len(profiles)),
            *times,
        )
        for found in viewers.values()
        for (stream, ip, device, country), times in found.items()
    ]
    columns = np.array(seen, np.int64).reshape(-1, 4)
    return Counts(
        list(texts),
        of_cubes if groups else [],
        b"".join(addresses),
        [
            Viewers(
                np.array(list(profiles), np.uint32).reshape(-1, len(PROFILE)),
                columns[:, 0].astype(np.uint32),
                columns[:, 1].astype(np.uint32),
                columns[:, 2],
                columns[:, 3],
            ),
            *(Viewers(np.zeros((0, len(labels)), np.uint32)) for labels in measures.audiences[1:]),
        ],
    )
