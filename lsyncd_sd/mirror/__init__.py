# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirror room: a batch to commands, commands to an outcome."""
