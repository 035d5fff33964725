# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration room: YAML text to frozen values, every one with its place."""
