# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan room: changes to batches, purely; no clock, no files, no processes."""
