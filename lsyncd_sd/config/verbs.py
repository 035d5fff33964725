# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs of the command line that need nothing but the configuration: check and show-config."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lsyncd_sd.config.document import sample_text, schema_text, show
from lsyncd_sd.config.load import Loaded, load
from lsyncd_sd.config.model import Configuration
from lsyncd_sd.errors import ExitStatus
from lsyncd_sd.printable import visible

# takes lines with their ends, as sys.stdout.write does
Write = Callable[[str], object]


def check(paths: Sequence[str], write: Write) -> ExitStatus:
    """Write every problem of the files, and one line for each good one; USAGE if there is an error."""
    loaded = load(paths)
    _write_problems(loaded, write)
    for configuration in loaded.configurations:
        write(f"{_good(configuration)}\n")
    return ExitStatus.USAGE if loaded.failures else ExitStatus.OK


def show_config(paths: Sequence[str], write: Write) -> ExitStatus:
    """Write the effective configuration of every file as YAML, or every problem and nothing else."""
    loaded = load(paths)
    if loaded.failures:
        _write_problems(loaded, write)
        return ExitStatus.USAGE
    write("---\n".join(show(configuration) for configuration in loaded.configurations))
    return ExitStatus.OK


def show_schema(write: Write) -> ExitStatus:
    """Write the JSON Schema of a configuration file."""
    write(schema_text())
    return ExitStatus.OK


def show_sample(write: Write) -> ExitStatus:
    """Write a commented configuration file."""
    write(sample_text())
    return ExitStatus.OK


def _write_problems(loaded: Loaded, write: Write) -> None:
    for problem in loaded.problems:
        for line in problem.lines():
            write(f"{line}\n")


def _good(configuration: Configuration) -> str:
    count = len(configuration.syncs)
    return f"{visible(configuration.file)}: good, {count} sync{'' if count == 1 else 's'}"
