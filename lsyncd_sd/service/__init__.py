# SPDX-License-Identifier: GPL-2.0-or-later
"""The service room: the parent, its children, and how they talk to systemd and to the admin."""
