# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch room: what the kernel says about the source, turned into changes."""
