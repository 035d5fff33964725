# SPDX-License-Identifier: GPL-2.0-or-later
"""Live mirroring for Linux servers, the systemd way."""

__version__ = "0.1.0"
