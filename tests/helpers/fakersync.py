# SPDX-License-Identifier: GPL-2.0-or-later
"""A program to be run instead of rsync, which does what the test says: fail, hang, die, wait, be rsync."""

from __future__ import annotations

import contextlib
from pathlib import Path

from helpers.waiting import wait_until

SCRIPT = """\
#!/bin/sh
folder={folder}
gate() {{
    echo $$ > "$folder/waiting"
    until [ -e "$folder/verdict" ] || [ "$mode" != gate ]; do
        sleep 0.02
        read -r mode < "$folder/mode"
    done
    rm "$folder/waiting"
    if [ -e "$folder/verdict" ]; then
        read -r mode < "$folder/verdict"
        rm "$folder/verdict"
    fi
}}
read -r mode < "$folder/mode"
if [ "$mode" = gate ]; then gate; fi
case $mode in
    pass) exec rsync "$@" ;;
    hang) exec sleep 1000 ;;
    die) kill -KILL $$ ;;
    linger) rsync "$@"; status=$?; mode=gate; gate; exit $status ;;
    moody) luck=$(od -An -N1 -tu1 /dev/urandom) ;;
    *) cat "$folder/errors" >&2; exit "$mode" ;;
esac
case $((luck % 40)) in
    0) exit 12 ;;
    1) echo "rsync: something that nobody has heard of" >&2; exit 23 ;;
    2) kill -KILL $$ ;;
    3) rsync "$@"; exit 30 ;;
    4 | 5) exec timeout --foreground -s KILL "0.0$((luck % 10))" rsync "$@" ;;
    *) exec rsync "$@" ;;
esac
"""


class FakeRsync:
    """One such program in a folder of its own; begins as the real rsync."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = folder / "rsync"
        self._folder = folder
        self.become("pass")
        self.path.write_text(SCRIPT.format(folder=folder))
        self.path.chmod(0o755)

    def become(self, mode: str | int, errors: str = "") -> None:
        """From the next run on: `pass`, `hang`, `die`, or an exit status, with `errors` on stderr.

        `moody`: about every seventh fails, before, while or after it does its work.
        `gate`: each run waits for `let_go`, or until it is another mode's turn.
        """
        (self._folder / "errors").write_text(errors)
        self._tell("mode", mode)

    def is_gated(self) -> bool:
        """Tell whether a run waits for `let_go`."""
        with contextlib.suppress(OSError):
            waiting = (self._folder / "waiting").read_text().strip()
            return bool(waiting) and Path("/proc", waiting).exists()
        return False

    def waiting_arguments(self) -> list[str]:
        """Return the command line of the run that waits."""
        return (self._waiting() / "cmdline").read_text().split("\0")

    def waiting_list(self) -> bytes:
        """Return what the run that waits is to read on its standard input."""
        return (self._waiting() / "fd" / "0").read_bytes()

    def _waiting(self) -> Path:
        return Path("/proc", (self._folder / "waiting").read_text().strip())

    def wait_until_gated(self) -> None:
        """Wait until a run waits for `let_go`."""
        wait_until(self.is_gated, "a run of rsync waits")

    def let_go(self, mode: str | int) -> None:
        """Let the run that waits be what `become` allows; the next one waits again.

        `linger`: it is rsync, and waits once more before it ends.
        """
        self._tell("verdict", mode)
        wait_until(lambda: not (self._folder / "verdict").exists(), "the run goes on")

    def _tell(self, name: str, mode: str | int) -> None:
        # at once for whoever reads it meanwhile
        (self._folder / "new").write_text(f"{mode}\n")
        (self._folder / "new").rename(self._folder / name)
