"""The agent's configuration: one TOML file (docs/design.md, "The agent's configuration")."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from vps.xen.messages import TrustedKeys


class ConfigRefused(ValueError):
    """A configuration that cannot be used. The text names the file, the key and the cure."""


@dataclass(frozen=True)
class Config:
    """What an agent must know. `redis` and `web` are addresses without the secret."""

    path: Path
    dom0: UUID
    name: str
    secret: str = field(repr=False)
    web: str
    redis: str
    trusted_keys: tuple[str, ...]
    state_dir: Path
    config_dir: Path
    disk_dir: Path
    xl: tuple[str, ...]
    xl_log_dir: Path
    simulated: bool = False
    bridges: tuple[str, ...] = ()  # empty: what the system shows
    tsc_native: bool = False  # PVH guests need it where Xen itself runs in an emulator
    boot_id: Path = Path(
        "/proc/sys/kernel/random/boot_id"
    )  # its content tells one boot of the dom0 from another
    lanes: int = 4  # domUs that are worked on at the same time
    log: str = "plain"  # or "json"
    # Who may have signed the certificates of the two, where it is no authority of the system.
    redis_ca: Path | None = None
    web_ca: Path | None = None

    @property
    def journal_path(self) -> Path:
        return self.state_dir / "journal.sqlite3"

    @property
    def blob_dir(self) -> Path:
        return self.state_dir / "blobs"

    @property
    def domu_dir(self) -> Path:
        return self.state_dir / "domus"

    @property
    def console_dir(self) -> Path:
        return self.state_dir / "consoles"

    @property
    def sysfs(self) -> Path:
        """Where the counters of disks and networks are; a simulated dom0 has its own beside its logs."""
        return self.xl_log_dir.parent / "sys" if self.simulated else Path("/sys")

    @property
    def xenstore(self) -> tuple[str, ...]:
        """How a key of the xenstore is read."""
        return (*self.xl, "xenstore-read") if self.simulated else ("xenstore-read",)

    def folders(self) -> tuple[Path, ...]:
        """The folders that are the agent's own; made when they are missing."""
        return (self.state_dir, self.blob_dir, self.domu_dir, self.console_dir, self.disk_dir)


def load(path: Path) -> Config:
    """Read the configuration. Raises ConfigRefused."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            values = tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigRefused(
            f"{path} is not there; the operator's page of this dom0 gives its text."
        ) from error
    except OSError as error:
        raise ConfigRefused(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigRefused(f"{path} is not TOML: {error}.") from error
    if mode & 0o007:
        raise ConfigRefused(f"{path} holds a secret and every user can read it; run: chmod 600 {path}")
    return _Reader(path, values).config()


class _Reader:
    """Takes the values out of the table, one sentence for each that is wrong."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self._path = path
        self._values = values

    def config(self) -> Config:
        unknown = sorted(set(self._values) - set(_EXAMPLES))
        if unknown:
            raise ConfigRefused(f"{self._path}: the key {unknown[0]} is not known; take it out or mend it.")
        return Config(
            path=self._path,
            dom0=self._uuid("dom0"),
            name=self._text("name"),
            secret=self._text("secret"),
            web=self._address("web", ("http", "https")).rstrip("/"),
            redis=self._redis(),
            trusted_keys=self._keys(),
            state_dir=self._folder("state_dir"),
            config_dir=self._folder("config_dir"),
            disk_dir=self._folder("disk_dir"),
            xl=self._texts("xl", ("xl",)),
            xl_log_dir=self._folder("xl_log_dir"),
            simulated=self._truth("simulated"),
            bridges=self._texts("bridges", ()),
            tsc_native=self._truth("tsc_native"),
            boot_id=self._boot_id(),
            lanes=self._number("lanes", 4, 1, 64),
            log=self._choice("log", "plain", ("plain", "json")),
            redis_ca=self._authority("redis_ca", "redis", "rediss://"),
            web_ca=self._authority("web_ca", "web", "https://"),
        )

    def _wrong(self, key: str, what: str) -> ConfigRefused:
        return ConfigRefused(f"{self._path}: {key} {what}; write for example: {key} = {_EXAMPLES[key]}")

    def _text(self, key: str) -> str:
        value = self._values.get(key)
        if value is None:
            raise self._wrong(key, "is missing")
        if not isinstance(value, str) or not value or "\n" in value:
            raise self._wrong(key, "must be a text of one line")
        return value

    def _uuid(self, key: str) -> UUID:
        try:
            return UUID(self._text(key))
        except ValueError as error:
            if isinstance(error, ConfigRefused):
                raise
            raise self._wrong(key, "is not a UUID") from error

    def _address(self, key: str, schemes: tuple[str, ...]) -> str:
        value = self._text(key)
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise self._wrong(key, f"must be an address that begins with {' or '.join(schemes)}://")
        if parts.username or parts.password:
            raise self._wrong(key, "must not hold a user or a password; the agent adds its own")
        return value

    def _redis(self) -> str:
        value = self._address("redis", ("redis", "rediss"))
        # SELECT is not among the commands that a dom0's Redis user may give.
        if urlsplit(value).path.strip("/") not in ("", "0"):
            raise self._wrong("redis", "must name database 0, for the agent may not choose another")
        return value

    def _keys(self) -> tuple[str, ...]:
        keys = self._texts("trusted_keys", ())
        if not keys:
            raise self._wrong("trusted_keys", "holds no key, so that no order could be believed")
        try:
            TrustedKeys(keys)
        except ValueError as error:
            raise self._wrong("trusted_keys", "holds what is no public key in base64") from error
        return keys

    def _folder(self, key: str, default: str = "") -> Path:
        value = Path(self._text(key) if key in self._values or not default else default)
        if not value.is_absolute():
            raise self._wrong(key, "must be a path that begins with /")
        return value

    def _authority(self, key: str, place: str, scheme: str) -> Path | None:
        if key not in self._values:
            return None
        if not self._text(place).startswith(scheme):
            raise self._wrong(key, f"is of no use, for {place} does not begin with {scheme}")
        path = self._folder(key)
        if not path.is_file():
            raise self._wrong(key, f"names {path}, which is no file")
        return path

    def _boot_id(self) -> Path:
        """What tells one boot of the dom0 from another; a simulated dom0 boots when its state says so."""
        xl = self._texts("xl", ("xl",))
        if self._truth("simulated") and "--state" in xl[:-1]:
            return self._folder("boot_id", f"{xl[xl.index('--state') + 1]}/boot_id")
        return self._folder("boot_id", "/proc/sys/kernel/random/boot_id")

    def _texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._values.get(key, list(default))
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, "must be a list of texts")
        if key == "xl" and not value:
            raise self._wrong(key, "is empty")
        return tuple(value)

    def _truth(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "must be true or false")
        return value

    def _number(self, key: str, default: int, least: int, most: int) -> int:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, f"must be a number from {least} to {most}")
        return value

    def _choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._values.get(key, default)
        if value not in choices:
            raise self._wrong(key, f"must be {' or '.join(choices)}")
        return str(value)


_EXAMPLES = {
    "dom0": '"01931f6a-7c1e-7b6e-9d3a-2f9a3c1e4b5d"',
    "name": '"host1"',
    "secret": '"<the secret from the operator\'s page>"',
    "web": '"https://berth.example.org"',
    "redis": '"rediss://berth.example.org:6379/0"',
    "trusted_keys": '["<base64 from the operator\'s page>"]',
    "state_dir": '"/var/lib/berth"',
    "config_dir": '"/etc/xen"',
    "disk_dir": '"/var/lib/berth/disks"',
    "xl": '["xl"]',
    "xl_log_dir": '"/var/log/xen"',
    "simulated": "false",
    "bridges": '["xenbr0"]',
    "tsc_native": "false",
    "boot_id": '"/proc/sys/kernel/random/boot_id"',
    "lanes": "4",
    "log": '"plain"',
    "redis_ca": '"/etc/berth/ca.crt"',
    "web_ca": '"/etc/berth/ca.crt"',
}
