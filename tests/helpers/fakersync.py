# SPDX-License-Identifier: GPL-2.0-or-later
"""A program to be run instead of rsync, which does what the test says: fail, hang, die, or be rsync."""

from __future__ import annotations

from pathlib import Path

SCRIPT = """\
#!/bin/sh
folder={folder}
read -r mode < "$folder/mode"
case $mode in
    pass) exec rsync "$@" ;;
    hang) exec sleep 1000 ;;
    die) kill -KILL $$ ;;
    *) cat "$folder/errors" >&2; exit "$mode" ;;
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
        """From the next run on: `pass`, `hang`, `die`, or an exit status, with `errors` on stderr."""
        (self._folder / "errors").write_text(errors)
        # at once for whoever reads it meanwhile
        (self._folder / "new").write_text(f"{mode}\n")
        (self._folder / "new").rename(self._folder / "mode")
