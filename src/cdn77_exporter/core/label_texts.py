"""Makes label values of a line's fields: cleaned, or what stands for a missing one."""

from __future__ import annotations

from cdn77_exporter.core.device import DeviceRules
from cdn77_exporter.core.lines import clean
from cdn77_exporter.core.measures import Label, Source

MEMO_ENTRIES = 50_000
MEMO_LENGTH = 512  # longer texts are not remembered

Raw = str | int | None


def label_text(label: Label, raw: Raw, devices: DeviceRules) -> str:
    """Return a label's value for what the field holds: a text, a number, true or false, or nothing."""
    if label.source is Source.DEVICE:
        return devices.device_type(str(raw or ""))
    if raw is None or raw == "":
        return label.missing
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return clean(str(raw))


class LabelTexts(dict[Raw, str]):
    """The values of one label by what fields hold, each worked out once; a bounded memory.

    Equal values are one object.
    """

    def __init__(self, label: Label, devices: DeviceRules) -> None:
        super().__init__()
        self._label = label
        self._devices = devices
        self._values: dict[str, str] = {}

    def __missing__(self, raw: Raw) -> str:
        value = label_text(self._label, raw, self._devices)
        if len(self) >= MEMO_ENTRIES or len(self._values) >= MEMO_ENTRIES:
            self.clear()
            self._values.clear()
        value = self._values.setdefault(value, value)
        if not isinstance(raw, str) or len(raw) <= MEMO_LENGTH:
            self[raw] = value
        return value
