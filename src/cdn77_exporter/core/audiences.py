"""Viewers by labels beyond those of a profile: each label set of an address is a viewer of its own.

So a viewer that appears with two values of a label counts in both, and one table of last requests serves all. The
profile of such a viewer names the labels of its *audience* and their values in the places of device and country.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdn77_exporter.core.keys import Places as Numbers
from cdn77_exporter.core.keys import RowTable
from cdn77_exporter.core.label_sets import LabelSets
from cdn77_exporter.core.measures import STREAM, Label
from cdn77_exporter.core.viewers.profiles import Profile

_MARK, _SEPARATOR = "\x1e", "\x1f"  # no label value has control characters
_NOWHERE = ("", "")


class Audience:
    """The label sets of an audience: rows of texts by number, of which at most `limit` count on their own (0: all)."""

    def __init__(self, labels: tuple[Label, ...], limit: int) -> None:
        self.labels = labels
        self.table = RowTable(len(labels))
        self.stream = labels.index(STREAM) if STREAM in labels else None
        own = [place for place, label in enumerate(labels) if label != STREAM]
        self.sets = LabelSets(self.table, own, limit) if limit and own else None
        #: By the numbers of its texts, the number of a label set's profile and its hash.
        self.known: dict[tuple[int, ...], tuple[int, int]] = {}

    def forget(self, numbers: Numbers) -> None:
        """Forget label sets; those that come again are new."""
        self.table.remove(numbers)
        if self.sets is not None:
            self.sets.forget(numbers)


def profile_of(audience: Sequence[Label], texts: Sequence[str]) -> Profile:
    """Return the profile of an audience's viewers that have these label values."""
    own = dict(zip(audience, texts, strict=True))
    names = _MARK + _SEPARATOR.join(label.name for label in audience)
    return Profile(own.get(STREAM, ""), names, _SEPARATOR.join(texts), _NOWHERE)


def values_of(profile: Profile) -> dict[str, str] | None:
    """Return the label values of an audience's profile by their names; None for any other profile."""
    if profile.device is None or not profile.device.startswith(_MARK):
        return None
    names = profile.device.removeprefix(_MARK).split(_SEPARATOR)
    return dict(zip(names, (profile.country or "").split(_SEPARATOR), strict=False))
