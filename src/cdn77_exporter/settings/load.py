"""Loads the settings from the environment, and reports all its faults at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.masking import Masker
from cdn77_exporter.edge.proxies import Proxies
from cdn77_exporter.flow.sizes import files_in_memory
from cdn77_exporter.settings.faults import combinations, doubts, misspelt
from cdn77_exporter.settings.secret import read_secret
from cdn77_exporter.settings.toml_file import FileFaults, shown
from cdn77_exporter.settings.values import Settings
from cdn77_exporter.settings.variables import VARIABLES, Variable

#: What stands for the required variables of a side that is not contacted.
_NO_BUCKET = {
    "S3_ENDPOINT": "http://127.0.0.1:9",
    "S3_PREFIX": "/",
    **dict.fromkeys(("S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY"), "unused"),
}
_NO_RECEIVER = {"PROMETHEUS_URL": "http://127.0.0.1:9/api/v1/write"}


def load(environ: Mapping[str, str], *, bucket: bool = True, receiver: bool = True) -> Settings:
    """Return the settings that `environ` describes; an empty variable is an unset one. Raises ConfigError, every fault.

    `bucket`, `receiver`: whether that side is contacted; of one that is not, no variable need be set.
    """
    given = {name: value for name, value in environ.items() if value.strip()}
    stand_ins = ({} if bucket else _NO_BUCKET) | ({} if receiver else _NO_RECEIVER)
    for name, text in stand_ins.items():
        if f"{name}_FILE" not in given:
            given.setdefault(name, text)
    return _Loader(given).load()


def load_some(names: Collection[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of some variables alone, by their fields. Raises ConfigError, every fault."""
    loader = _Loader({name: value for name, value in environ.items() if value.strip()})
    found = {variable.field: loader.value(variable) for variable in VARIABLES if variable.name in names}
    loader.judge()
    return found


class _Loader:
    """Reads the table row by row and collects faults."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []
        self._guess = misspelt(environ)
        self._known = _known_secrets(environ)
        self._masker = Masker(lambda: self._known)

    def load(self) -> Settings:
        """Return the whole; raises ConfigError."""
        values = {variable.field: self.value(variable) for variable in VARIABLES}
        if "PRESENCE_SECONDS" not in self._environ and values["tick_seconds"]:
            values["presence_seconds"] = max(values["presence_seconds"], values["tick_seconds"])
        self._faults += combinations(values, self._environ)
        proxies = self._proxies()
        self.judge()
        if not values["download_concurrency"]:
            cluster = values["dask_scheduler"] is not None
            values["download_concurrency"] = files_in_memory(values["decode_workers"], cluster=cluster)
        return Settings(**values, doubts=tuple(self._doubts(values)), proxies=proxies)

    def _proxies(self) -> Proxies:
        try:
            return Proxies.of(self._environ)
        except ValueError as error:
            self._faults.append(str(error))
            return Proxies()

    def judge(self) -> None:
        """Raise ConfigError with what was at fault so far."""
        if self._faults:
            raise ConfigError(self._faults)

    def _fault(self, name: str, text: str) -> None:
        self._faults.append(f"{name} {text.replace('; ', '; expected ', 1)}.")

    def value(self, variable: Variable) -> Any:
        """Return one variable's value; None when it is unset, or at fault."""
        name, from_file = variable.name, f"{variable.name}_FILE"
        given = self._environ.get(name)
        path = self._environ.get(from_file) if variable.from_file else None
        if given is not None and path is not None:
            self._fault(name, f"and {from_file} are both set; one of the two")
            return None
        if path is not None:
            return self._from_file(variable, Path(path))
        if given is None and variable.required:
            self._missing(variable)
            return None
        text = given if given is not None else variable.default
        if text is None:
            return None
        if not variable.secret:
            text = text.strip()
        try:
            return variable.parse(text)
        except FileFaults as error:
            self._faults += [f"{name} ({shown(text, 200)}): {fault}" for fault in error.faults]
        except ValueError as error:
            self._fault(name, f"{self._excerpt(variable, text)}{error}")
        return None

    def _excerpt(self, variable: Variable, text: str) -> str:
        """Quote the value at fault, unless it is or may hold a secret: a wrong number says more when it is shown."""
        telling = text.isprintable() and len(text) <= 60 and "@" not in text and "?" not in text
        if variable.secret or not telling or self._masker.secrets(text) != text:
            return ""
        return f"(`{text}`) "

    def _missing(self, variable: Variable) -> None:
        names = [variable.name, f"{variable.name}_FILE"] if variable.from_file else [variable.name]
        words = "is not set; " + variable.help.rstrip(".").lower()[:1] + variable.help.rstrip(".")[1:]
        if variable.example:
            words += f", such as `{variable.example}`"
        if variable.from_file:
            words += f", or {names[1]} with a file that holds it"
        meant = [wrong for wrong, right in self._guess.items() if right in names]
        if meant:
            words += f" ({meant[0]} is set: did you mean {names[0]}?)"
        self._fault(variable.name, words)

    def _from_file(self, variable: Variable, path: Path) -> object:
        name = f"{variable.name}_FILE"
        try:
            text = read_secret(path)
            return variable.parse(text, path) if variable.secret else variable.parse(text)
        except OSError as error:
            self._fault(name, f"cannot be read ({error.strerror}); a file that this user may read")
        except ValueError as error:
            self._fault(name, str(error))
        return None

    def _doubts(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for wrong, right in self._guess.items():
            yield wrong, f"unknown setting; did you mean {right}?"
        yield from doubts(values)


def _known_secrets(environ: Mapping[str, str]) -> frozenset[str]:
    """Return everything secret that can be read now, so that no fault of another variable quotes it."""
    found = set()
    for variable in VARIABLES:
        if variable.secret:
            found.add(environ.get(variable.name, ""))
            with suppress(OSError, ValueError):
                found.add(read_secret(Path(environ.get(f"{variable.name}_FILE", ""))))
    return frozenset(found - {""})
