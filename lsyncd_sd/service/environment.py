# SPDX-License-Identifier: GPL-2.0-or-later
"""Knows the folders the program uses, from systemd's variables or their defaults.

RUNTIME_DIRECTORY, STATE_DIRECTORY and CONFIGURATION_DIRECTORY (systemd.exec(5)) make everything run
unprivileged from a checkout too.
"""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path

from lsyncd_sd.errors import ExitStatus, LsyncdError

CONTROL_SOCKET = "control"
NOTIFY_SOCKET = "notify"

# Command lines of Lsyncd's have folders of their own, whatever a unit is called.
_LINES = "lines"

# The folder of one unit lies below this one; locks lie beside, because they hold between units.
_PROJECT = "lsyncd-sd"


def _is_root() -> bool:
    return os.geteuid() == 0


def _from_variable(name: str) -> Path | None:
    # systemd gives several folders separated by colons; ours is the first.
    value = os.environ.get(name, "").split(":")[0]
    return Path(value) if value else None


def _runtime_base() -> Path:
    if _is_root():
        return Path("/run") / _PROJECT
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / _PROJECT


def runtime_directory(instance: str) -> Path:
    """Return the folder for sockets: the one systemd made, or the one `lsyncd@INSTANCE` would have.

    An empty `instance` means the parent of all files, `lsyncd-sd.service`.
    """
    given = _from_variable("RUNTIME_DIRECTORY")
    if given is not None:
        return given
    return _runtime_base() / "i" / instance if instance else _runtime_base() / "all"


def line_runtime_directory(name: str) -> Path:
    """Return the folder for the sockets of a command line of Lsyncd's, whose first sync has this name.

    It lies beside those of the units, or below that of the environment: several have room there.
    """
    return (_from_variable("RUNTIME_DIRECTORY") or _runtime_base()) / _LINES / name


def line_state_directory() -> Path:
    """Return the folder of what outlives such command lines; no file's syncs are kept in it."""
    return state_directory() / _LINES


def cookie_directory(runtime: Path, sync: str) -> Path:
    """Return the folder in which one sync makes the files that its queue is to report."""
    return runtime / f"cookies.{sync}"


def ssh_socket(runtime: Path, sync: str, target: str) -> Path:
    """Return where ssh listens for those who go over its connection to this target.

    A short name: ssh takes no path of more than 90 bytes.
    """
    digest = hashlib.sha256(f"{sync}\0{target}".encode("utf-8", "surrogateescape")).hexdigest()
    return runtime / f"m{digest[:8]}"


def locks_directory(runtime: Path) -> Path:
    """Return the folder of the locks that hold between all instances of the system (or of the user)."""
    for folder in (runtime, *runtime.parents):
        if folder.name == _PROJECT:
            return folder / "locks"
    return (_from_variable("RUNTIME_DIRECTORY") or runtime) / "locks"


def state_directory() -> Path:
    """Return the folder of what outlives the process."""
    given = _from_variable("STATE_DIRECTORY")
    if given is not None:
        return given
    if _is_root():
        return Path("/var/lib") / _PROJECT
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / _PROJECT


def configuration_directory() -> Path:
    """Return the folder of the configuration files."""
    given = _from_variable("CONFIGURATION_DIRECTORY")
    if given is not None:
        return given
    if _is_root():
        return Path("/etc/lsyncd.d")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lsyncd.d"


def configuration_file(name: str) -> str:
    """Return the file that a NAME or FILE argument means; a name has no slash and no suffix."""
    # Nobody means a file of Lsyncd's to be a name.
    if "/" in name or name.endswith((".yaml", ".yml", ".lua")):
        return name
    return str(configuration_directory() / f"{name}.yaml")


def configuration_files() -> list[str]:
    """Return every configuration file there is, in the order of their names."""
    return sorted(glob.glob(glob.escape(str(configuration_directory())) + "/*.yaml"))


def control_sockets() -> list[str]:
    """Return the control sockets of the instances that may be running, those of the environment alone."""
    given = _from_variable("RUNTIME_DIRECTORY")
    if given is not None:
        return [str(given / CONTROL_SOCKET), *_sockets_below(given / _LINES)]
    base = _runtime_base()
    candidates = [
        *_sockets_below(base / "i"),
        str(base / "all" / CONTROL_SOCKET),
        *_sockets_below(base / _LINES),
    ]
    # Unlike Path.exists, os.path.exists does not raise where we may not look.
    return [path for path in candidates if os.path.exists(path)]


def _sockets_below(folder: Path) -> list[str]:
    return sorted(glob.glob(f"{glob.escape(str(folder))}/*/{CONTROL_SOCKET}"))


def make_directory(path: Path, mode: int) -> None:
    """Make a folder and those above it. Raises LsyncdError with what to do about it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o777 & ~mode:
            path.chmod(mode)
    except OSError as error:
        raise LsyncdError(
            f"cannot make the folder {path}: {error.strerror}",
            "set RUNTIME_DIRECTORY and STATE_DIRECTORY to folders of your own to run without the unit",
            ExitStatus.USAGE,
        ) from None
