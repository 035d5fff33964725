#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the manual pages: make-man.py OUTPUT turns docs/man/*.scd into OUTPUT/NAME.SECTION.

The settings in lsyncd-sd.yaml(5) come from the table in lsyncd_sd/config/settings.py. It needs scdoc and
PyYAML.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACEHOLDER = "@SETTINGS@\n"


def page_text(source: pathlib.Path) -> str:
    """Return the text of a page with the settings put in."""
    from lsyncd_sd.config.document import manual_options

    return source.read_text(encoding="utf-8").replace(PLACEHOLDER, manual_options())


def main(arguments: list[str]) -> int:
    """Write every page into the folder named by the only argument. Return the exit status."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    output = pathlib.Path(arguments[0])
    output.mkdir(parents=True, exist_ok=True)
    for source in sorted((ROOT / "docs" / "man").glob("*.scd")):
        text = page_text(source).encode()
        page = subprocess.run(["scdoc"], input=text, stdout=subprocess.PIPE, check=True)
        (output / source.stem).write_bytes(page.stdout)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
