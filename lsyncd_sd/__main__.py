# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets `python3 -m lsyncd_sd` be the command `lsyncd-sd`."""

import sys

from lsyncd_sd.cli import main

if __name__ == "__main__":
    sys.exit(main())
