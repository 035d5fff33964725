# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of cli.py: every verb against a real control socket; wrong use is a line or two, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import DEADLINE

from lsyncd_sd import __version__, cli
from lsyncd_sd.config.document import sample_text, schema_text
from lsyncd_sd.errors import Problem
from lsyncd_sd.loop import Loop
from lsyncd_sd.service.control import ControlServer
from lsyncd_sd.service.control_interface import ControlError, Deferred, Handler
from lsyncd_sd.service.status import State, SyncStatus, document

TOP = Path(__file__).resolve().parents[2]

HOME = SyncStatus("home", "/home", "backup:/srv/home", State.IN_SYNC, 1000.0, last_batch=2000.0)
MAIL = replace(HOME, name="mail", state=State.HELD, reason="the source is empty", hold_id="token")


class Service:
    """A parent of some syncs, served by a thread."""

    def __init__(self, folder: Path, syncs: list[SyncStatus]) -> None:
        folder.mkdir(parents=True)
        self.answers: dict[str, Handler] = {
            "Status": lambda _parameters: document(syncs),
            "Reload": lambda _parameters: {"changed": []},
            "Restart": lambda _parameters: {},
            "Sync": lambda _parameters: {},
            "Accept": lambda _parameters: {},
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._loop = Loop()
        methods = {name: self._answer(name) for name in self.answers}
        self._server = ControlServer(self._loop, str(folder / "control"), methods)
        self._wake_read, self._wake_write = os.pipe()
        self._loop.watch_reads(self._wake_read, self._loop.stop)
        self._thread = threading.Thread(target=self._loop.run)
        self._thread.start()

    def _answer(self, name: str) -> Handler:
        def answer(parameters: dict[str, Any]) -> dict[str, Any] | Deferred:
            self.asked.append((name, parameters))
            return self.answers[name](parameters)

        return answer

    def wait_through(self, *statuses: SyncStatus, end: ControlError | None = None) -> None:
        """Have clients wait while the sync goes through these; the last one is the reply, or `end` is."""

        def answer(_parameters: dict[str, Any]) -> Deferred:
            reply = Deferred()

            def go_through(left: list[SyncStatus]) -> None:
                if left[1:] or (end is not None and left):
                    reply.tell({"sync": left[0].to_json()})
                    self._loop.call_later(0, lambda: go_through(left[1:]))
                elif end is not None:
                    reply.fail(end)
                else:
                    reply.finish({"sync": left[0].to_json()})

            go_through(list(statuses))
            return reply

        self.answers["Sync"] = answer

    def close(self) -> None:
        os.write(self._wake_write, b"x")
        self._thread.join(DEADLINE)
        self._server.close()
        self._loop.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


Serve = Callable[..., Service]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of the test's own: no service of this machine is ever asked."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    return tmp_path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[Service] = []

    def start(*syncs: SyncStatus, folder: str = "run") -> Service:
        service = Service(tmp_path / folder, list(syncs))
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return the exit status, and what was written to stdout and stderr."""
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        # argparse's own way out.
        assert isinstance(end.code, int)
        status = end.code
    told = capsys.readouterr()
    return int(status), told.out, told.err


Outcome = tuple[int, str, str]
Run = Callable[..., Outcome]


@pytest.fixture
def lsyncd_sd(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: run(capsys, *arguments)


# wrong use


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: VERB"),
        (["start"], "invalid choice: 'start'"),
        (["stat"], "invalid choice: 'stat'"),
        (["--verbose"], "the following arguments are required: VERB"),
        (["restart"], "the following arguments are required: NAME"),
        (["sync"], "the following arguments are required: NAME"),
        (["sync", "a", "--ful"], "unrecognized arguments: --ful"),
        (["sync", "a", "--wait", "--timeout", "soon"], "--timeout: not a number of seconds above 0"),
        (["sync", "a", "--wait", "--timeout", "0"], "--timeout: not a number of seconds above 0"),
        (["sync", "a", "--wait", "--timeout", "nan"], "--timeout: not a number of seconds above 0"),
        (["sync", "a", "--wait", "--timeout", "1e9"], "--timeout: not a number of seconds above 0"),
        (["accept"], "the following arguments are required: NAME"),
        (["restart", "a", "b"], "unrecognized arguments: b"),
        (["accept", "a", "--force"], "unrecognized arguments: --force"),
        (["status", "a", "b"], "unrecognized arguments: b"),
        (["status", "--js"], "unrecognized arguments: --js"),
        (["reload", "home"], "unrecognized arguments: home"),
        (["run", "--daemon"], "unrecognized arguments: --daemon"),
        (["check", "--connect"], "unrecognized arguments: --connect"),
        (["show-config", "--yaml"], "unrecognized arguments: --yaml"),
    ],
)
def test_wrong_use_is_said_in_a_line(lsyncd_sd: Run, arguments: list[str], says: str) -> None:
    status, out, err = lsyncd_sd(*arguments)
    assert (status, out) == (2, "")
    *usage, last = err.splitlines()
    assert says in last
    assert usage[0].startswith("usage: lsyncd-sd")


# command lines of Lsyncd's


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-rsync", "a"], "-rsync needs 2 words"),
        (["--nodaemon"], "nothing to mirror is given"),
        (["-foo", "-rsync", "a", "b"], "unknown option -foo"),
        (["-rsync", "/nosuch", "host:/x"], "-rsync /nosuch host:/x: source: '/nosuch' is not there"),
        (["-delay", "x", "-rsync", "/etc", "h:/x"], "-delay x: delay: 'x' is not a duration"),
        (
            ["-logfile", "/nosuch/log", "-rsync", "/etc", "h:/x"],
            "cannot write the log file /nosuch/log: No such",
        ),
        (
            ["-pidfile", "/nosuch/pid", "-onepass", "-rsync", "/etc", "h:/x"],
            "cannot use the pid file /nosuch/pid",
        ),
        (
            ["/etc/lsyncd/lsyncd.conf.lua"],
            "/etc/lsyncd/lsyncd.conf.lua: Lsyncd's configuration files, in Lua,",
        ),
        (["-nodaemon", "lsyncd.conf"], "lsyncd.conf: Lsyncd's configuration files, in Lua,"),
    ],
)
def test_wrong_use_ends_as_lsyncd_does(lsyncd_sd: Run, arguments: list[str], says: str) -> None:
    status, out, err = lsyncd_sd(*arguments)
    assert (status, out) == (255, "")
    told = [line for line in err.splitlines() if line.startswith("lsyncd-sd: ")]
    assert told[-1].startswith(f"lsyncd-sd: {says}")
    assert err.splitlines()[-1].startswith("    ")


@pytest.mark.parametrize("arguments", [["-help"], ["-nodaemon", "--help"]])
def test_help_is_the_same_with_one_dash(lsyncd_sd: Run, arguments: list[str]) -> None:
    assert lsyncd_sd(*arguments) == lsyncd_sd("--help")
    assert "lsyncd-sd -rsync SOURCE TARGET" in " ".join(lsyncd_sd("--help")[1].split())


@pytest.mark.parametrize("arguments", [["-version"], ["-nodaemon", "--version"]])
def test_version_is_the_same_with_one_dash(lsyncd_sd: Run, arguments: list[str]) -> None:
    assert lsyncd_sd(*arguments) == lsyncd_sd("--version")


def test_a_lua_file_that_is_named_as_ours(lsyncd_sd: Run, tmp_path: Path) -> None:
    (tmp_path / "lsyncd.conf.lua").write_text(
        'settings{ nodaemon = true }\nsync{ default.rsync, source = "/a" }\n'
    )
    for arguments in (["check"], ["run"]):
        status, out, err = lsyncd_sd(*arguments, f"{tmp_path}/lsyncd.conf.lua")
        assert status == 2
        assert "COMING FROM LSYNCD in lsyncd-sd(8)" in out + err


def test_a_directory_that_is_gone(lsyncd_sd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, _out, err = lsyncd_sd("-rsync", "a", "b")
    assert status == 255
    assert err.startswith("lsyncd-sd: the current directory cannot be used: No such file")


@pytest.mark.parametrize("verb", ["run", "check", "show-config"])
def test_no_configuration_at_all(lsyncd_sd: Run, tmp_path: Path, verb: str) -> None:
    status, out, err = lsyncd_sd(verb)
    assert (status, out) == (2, "")
    first, second = err.splitlines()
    assert first == f"lsyncd-sd: there is no configuration: {tmp_path}/config holds no *.yaml"
    assert second.startswith("    write one with two lines")


@pytest.mark.parametrize("verb", ["run", "check", "show-config"])
@pytest.mark.parametrize("argument", ["missing", "./missing.yaml", ""])
def test_a_file_that_is_not_there(lsyncd_sd: Run, verb: str, argument: str) -> None:
    status, out, err = lsyncd_sd(verb, argument)
    assert status == 2
    assert "there is no such file" in out + err
    assert len((out + err).splitlines()) == 2


@pytest.mark.parametrize("verb", ["run", "check", "show-config"])
def test_a_file_with_errors(lsyncd_sd: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "config" / "home.yaml").write_text("source: /home\ntarget: h:/x\nexlude: a\ndelay: soon\n")
    status, out, err = lsyncd_sd(verb, "home")
    assert status == 2
    assert "home.yaml:3:1: unknown key 'exlude'\n    did you mean 'exclude'?" in out + err
    assert "home.yaml:4:8: " in out + err, "all of them at once"


def test_what_becomes_of_a_path(lsyncd_sd: Run, tmp_path: Path) -> None:
    (tmp_path / "config" / "home.yaml").write_text("source: /home\ntarget: h:/x\nexclude: '*.o'\n")
    status, out, err = lsyncd_sd("check", "--path", "a.o")
    assert (status, err) == (1, "")
    assert out.splitlines()[0].startswith("home: /home/a.o (not there, taken for a file")
    assert lsyncd_sd("check", "home", "--path=/home/a.c")[0] == 0
    status, out, err = lsyncd_sd("check", "--path", "/elsewhere")
    assert (status, out) == (2, "")
    assert err == "lsyncd-sd: /elsewhere lies in no source\n    the sources are: /home\n"


@pytest.mark.parametrize("folder", ["run", "state"])
def test_a_folder_that_cannot_be_used(lsyncd_sd: Run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "config" / "home.yaml").write_text(f"source: {tmp_path}/config\ntarget: h:/x\n")
    (tmp_path / folder).touch()
    status, out, err = lsyncd_sd("run", "home")
    assert (status, out) == (2, "")
    first, _hint = err.splitlines()
    assert first == f"lsyncd-sd: cannot make the folder {tmp_path}/{folder}: File exists"


def test_a_second_one_in_the_same_place(lsyncd_sd: Run, serve: Serve, tmp_path: Path) -> None:
    serve(HOME)
    (tmp_path / "config" / "home.yaml").write_text(f"source: {tmp_path}/config\ntarget: h:/x\n")
    status, out, err = lsyncd_sd("run", "home")
    assert (status, out) == (1, "")
    first, _hint = err.splitlines()
    assert first == f"lsyncd-sd: a service already running listens on {tmp_path}/run/control"


CLIENTS = [
    ["status"],
    ["status", "--json"],
    ["reload"],
    ["restart", "home"],
    ["sync", "home"],
    ["sync", "home", "--wait"],
    ["accept", "home"],
]


@pytest.mark.parametrize("arguments", CLIENTS)
@pytest.mark.parametrize("place", ["no folder", "no socket", "dead socket", "no variable"])
def test_nothing_runs(
    lsyncd_sd: Run,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    place: str,
) -> None:
    if place == "no socket":
        (tmp_path / "run").mkdir()
    elif place == "dead socket":
        service = serve(HOME)
        (tmp_path / "run" / "control").rename(tmp_path / "run" / "kept")
        service.close()
        service.close = lambda: None  # type: ignore[method-assign]
        (tmp_path / "run" / "kept").rename(tmp_path / "run" / "control")
    elif place == "no variable":
        monkeypatch.delenv("RUNTIME_DIRECTORY")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    status, out, err = lsyncd_sd(*arguments)
    assert (status, out) == (3, "")
    first, hint = err.splitlines()
    assert first.startswith("lsyncd-sd: lsyncd-sd is not running")
    assert hint.startswith("    ")


@pytest.mark.parametrize("arguments", CLIENTS)
def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, arguments: list[str]) -> None:
    """As after `su`, which keeps the variable of who called it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    (tmp_path / "private" / "lsyncd-sd" / "all").mkdir(parents=True)
    (tmp_path / "private").chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "private"), "PYTHONPATH": str(TOP)}
    del environment["RUNTIME_DIRECTORY"]
    done = subprocess.run(
        [sys.executable, "-m", "lsyncd_sd", *arguments],
        cwd="/",
        env=environment,
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 2, done.stderr


@pytest.mark.parametrize("verb", ["status", "restart", "sync", "accept"])
def test_a_name_that_no_sync_has(lsyncd_sd: Run, serve: Serve, verb: str) -> None:
    service = serve(HOME)
    status, out, err = lsyncd_sd(verb, "hom")
    assert (status, out) == (2, "")
    assert err == "lsyncd-sd: there is no sync 'hom'\n    `lsyncd-sd status` shows all that run\n"
    assert [method for method, _parameters in service.asked] == ["Status"]


def test_a_name_does_not_control_the_terminal(lsyncd_sd: Run, serve: Serve) -> None:
    serve(HOME)
    _status, _out, err = lsyncd_sd("restart", "\x1b[2J\udcff\n")
    assert all(line.isprintable() for line in err.splitlines())
    assert len(err.splitlines()) == 2


# what the service says


def test_status_is_a_table(lsyncd_sd: Run, serve: Serve) -> None:
    serve(HOME, MAIL)
    status, out, err = lsyncd_sd("status")
    assert (status, err) == (1, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["NAME", "STATE"],
        ["home", "in-sync"],
        ["mail", "held"],
        ["the", "source"],
    ]


def test_status_of_one_has_its_exit_status(lsyncd_sd: Run, serve: Serve) -> None:
    serve(HOME, MAIL)
    status, out, _err = lsyncd_sd("status", "home")
    assert (status, len(out.splitlines())) == (0, 2)
    status, out, _err = lsyncd_sd("status", "mail")
    assert (status, len(out.splitlines())) == (1, 3)


def test_status_for_programs(lsyncd_sd: Run, serve: Serve) -> None:
    serve(HOME, MAIL)
    status, out, _err = lsyncd_sd("status", "--json")
    assert (status, json.loads(out)) == (1, document([HOME, MAIL]))
    status, out, _err = lsyncd_sd("status", "--json", "home")
    assert (status, json.loads(out)) == (0, document([HOME]))


def test_no_syncs_at_all(lsyncd_sd: Run, serve: Serve) -> None:
    serve()
    status, out, _err = lsyncd_sd("status")
    assert (status, len(out.splitlines())) == (0, 1)


def test_reload_says_what_changed(lsyncd_sd: Run, serve: Serve) -> None:
    service = serve(HOME)
    assert lsyncd_sd("reload") == (0, "configuration read again; changed: nothing\n", "")
    service.answers["Reload"] = lambda _parameters: {"changed": ["home", "mail"]}
    assert lsyncd_sd("reload") == (0, "configuration read again; changed: home, mail\n", "")


def test_a_reload_that_is_refused(lsyncd_sd: Run, serve: Serve) -> None:
    def refuse(_parameters: dict[str, Any]) -> dict[str, Any]:
        problems = [Problem("home.yaml:1:1", "no", "do so"), Problem("b", "no")]
        raise ControlError.configuration_invalid(problems)

    serve(HOME).answers["Reload"] = refuse
    status, out, err = lsyncd_sd("reload")
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "lsyncd-sd: home.yaml:1:1: no",
        "    do so",
        "b: no",
        "    the configuration that was in force stays in force",
    ]


@pytest.mark.parametrize(
    ("arguments", "method", "more", "says"),
    [
        (["restart"], "Restart", {}, "mail is restarted\n"),
        (["sync"], "Sync", {"full": False}, "mail is told to mirror what is pending now\n"),
        (["sync", "--full"], "Sync", {"full": True}, "mail is told to mirror everything now\n"),
        (
            ["accept"],
            "Accept",
            {"hold_id": "token"},
            "mail goes on with what it was held for\n    the source is empty\n",
        ),
    ],
)
def test_what_is_done_with_one_sync(
    lsyncd_sd: Run, serve: Serve, arguments: list[str], method: str, more: dict[str, Any], says: str
) -> None:
    service = serve(HOME, MAIL)
    assert lsyncd_sd(*arguments, "mail") == (0, says, "")
    assert service.asked[-1] == (method, {"name": "mail", **more})


DONE = "home: everything that was changed before is on the target\n"


def test_waiting_for_a_sync_that_is_well_says_nothing_on_the_way(lsyncd_sd: Run, serve: Serve) -> None:
    service = serve(HOME)
    service.wait_through(replace(HOME, state=State.PENDING), replace(HOME, state=State.SYNCING), HOME)
    assert lsyncd_sd("sync", "home", "--wait") == (0, DONE, "")
    assert service.asked[-1] == ("Sync", {"name": "home", "full": False, "wait": True})
    assert lsyncd_sd("sync", "home", "--wait", "--full", "--timeout=60")[0] == 0
    assert service.asked[-1] == ("Sync", {"name": "home", "full": True, "wait": True})


def test_waiting_says_why_it_takes_so_long(lsyncd_sd: Run, serve: Serve) -> None:
    away = replace(HOME, state=State.UNREACHABLE, reason="no\nroute \x1b[2J")
    service = serve(HOME)
    service.wait_through(HOME, away, away, replace(HOME, state=State.SYNCING), HOME)
    status, out, err = lsyncd_sd("sync", "home", "--wait")
    assert (status, out) == (0, DONE)
    assert err.splitlines() == [
        "home: unreachable: no route \\x1b[2J",
        "home: syncing",
        "home: in-sync",
    ]


def test_waiting_for_what_will_never_be(lsyncd_sd: Run, serve: Serve) -> None:
    service = serve(HOME)
    service.wait_through(HOME, end=ControlError("Unavailable", {"name": "home", "reason": "it crashed"}))
    assert lsyncd_sd("sync", "home", "--wait") == (
        1,
        "",
        "lsyncd-sd: sync 'home' cannot do it: it crashed\n",
    )


def test_waiting_for_too_long(lsyncd_sd: Run, serve: Serve) -> None:
    service = serve(HOME)
    service.answers["Sync"] = lambda _parameters: Deferred()
    status, out, err = lsyncd_sd("sync", "home", "--wait", "--timeout", "0.1")
    assert (status, out) == (1, "")
    assert "not everything is on the target of home after 0.1 s" in err


def test_a_timeout_without_a_wait(lsyncd_sd: Run, serve: Serve) -> None:
    service = serve(HOME)
    status, out, err = lsyncd_sd("sync", "home", "--timeout", "1")
    assert (status, out, err) == (2, "", "lsyncd-sd: --timeout says how long to --wait\n")
    assert service.asked == []


def test_a_wait_that_is_not_understood(lsyncd_sd: Run, serve: Serve) -> None:
    serve(HOME).answers["Sync"] = lambda _parameters: {"sync": {"name": "home"}}
    status, _out, err = lsyncd_sd("sync", "home", "--wait")
    assert status == 1
    assert "this command does not understand what listens on" in err


def test_accepting_what_is_not_held(lsyncd_sd: Run, serve: Serve) -> None:
    def refuse(parameters: dict[str, Any]) -> dict[str, Any]:
        raise ControlError("NotHeld", {"name": parameters["name"], "state": "in-sync"})

    serve(HOME).answers["Accept"] = refuse
    assert lsyncd_sd("accept", "home") == (
        1,
        "",
        "lsyncd-sd: sync 'home' is not held: its state is in-sync\n",
    )


# several instances


@pytest.fixture
def several(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Service, Service]:
    """Two instances, found without any variable, and one that is dead."""
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "lsyncd-sd/i/dead").mkdir(parents=True)
    (tmp_path / "lsyncd-sd/i/dead/control").touch()
    return serve(HOME, folder="lsyncd-sd/i/home"), serve(MAIL, folder="lsyncd-sd/all")


def test_all_instances_in_one_table(lsyncd_sd: Run, several: tuple[Service, Service]) -> None:
    status, out, _err = lsyncd_sd("status", "--json")
    assert (status, json.loads(out)) == (1, document([HOME, MAIL]))


def test_a_sync_is_found_in_its_instance(lsyncd_sd: Run, several: tuple[Service, Service]) -> None:
    assert lsyncd_sd("restart", "mail")[0] == 0
    assert [method for method, _parameters in several[0].asked] == ["Status"]
    assert several[1].asked[-1] == ("Restart", {"name": "mail"})


def test_all_instances_are_reloaded(lsyncd_sd: Run, several: tuple[Service, Service]) -> None:
    status, out, _err = lsyncd_sd("reload")
    assert (status, len(out.splitlines())) == (0, 2)
    assert [service.asked[-1][0] for service in several] == ["Reload", "Reload"]


# a service of another version, and one that is none


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"version": 99, "syncs": []},
        {"version": 1},
        {"version": 1, "syncs": [{}]},
        {"version": 1, "syncs": ["home"]},
        {"version": 1, "syncs": [{"name": "home"}]},
    ],
)
@pytest.mark.parametrize("arguments", [["status"], ["restart", "home"]])
def test_a_status_that_is_not_understood(
    lsyncd_sd: Run, serve: Serve, arguments: list[str], answer: dict[str, Any]
) -> None:
    serve(HOME).answers["Status"] = lambda _parameters: answer
    status, out, err = lsyncd_sd(*arguments)
    assert (status, out) == (1, "")
    first, hint = err.splitlines()
    assert "does not understand" in first
    assert "restart" in hint


# the terminal


def test_version_and_help(lsyncd_sd: Run) -> None:
    assert lsyncd_sd("--version") == (0, f"lsyncd-sd {__version__}\n", "")
    status, out, err = lsyncd_sd("--help")
    assert (status, err) == (0, "")
    for verb in ("run", "check", "show-config", "status", "reload", "restart", "accept"):
        assert f"\n    {verb}" in out
        assert lsyncd_sd(verb, "--help")[0] == 0


def test_schema_and_sample_need_no_configuration(lsyncd_sd: Run) -> None:
    assert lsyncd_sd("show-config", "--schema") == (0, schema_text(), "")
    assert lsyncd_sd("show-config", "--sample") == (0, sample_text(), "")


def test_check_of_all_files(lsyncd_sd: Run, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "config" / f"{name}.yaml").write_text(f"source: {tmp_path}/config\ntarget: h:/{name}\n")
    status, out, err = lsyncd_sd("check")
    assert (status, err) == (0, "")
    assert [Path(line.split(":")[0]).name for line in out.splitlines()] == ["a.yaml", "b.yaml"]


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, which buffers what it writes, as by default."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "lsyncd_sd", *arguments],
        cwd=TOP,
        text=True,
        timeout=DEADLINE,
        check=False,
        **{"stderr": subprocess.PIPE, "env": variables, **options},
    )


# One is kept back until the program ends, the other does not fit in the buffer.
SHORT_AND_LONG = pytest.mark.parametrize("arguments", [["status", "home"], ["show-config", "--schema"]])


@SHORT_AND_LONG
def test_a_reader_that_has_seen_enough(serve: Serve, arguments: list[str]) -> None:
    serve(HOME)
    read, write = os.pipe()
    os.close(read)
    done = command(*arguments, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@SHORT_AND_LONG
def test_a_disk_that_is_full(serve: Serve, arguments: list[str]) -> None:
    serve(HOME)
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "lsyncd-sd: cannot write: No space left on device\n"


def test_a_terminal_that_cannot_show_everything(serve: Serve) -> None:
    serve(replace(MAIL, reason="ein Ürgernis"))
    done = command(
        "status",
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "ein \\xdcrgernis" in done.stdout


def test_a_user_who_has_waited_long_enough(
    lsyncd_sd: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lsyncd_sd.service.control_client.call", interrupt)
    serve(HOME)
    assert lsyncd_sd("status") == (130, "", "")


def test_asking_loads_nothing_that_only_the_daemon_needs(serve: Serve) -> None:
    serve(HOME)
    program = (
        "import sys; from lsyncd_sd.cli import main; main(['status']);"
        "print(*({'yaml', 'pyinotify', 'systemd', 'sdnotify', 'lsyncd_sd.loop'} & sys.modules.keys()))"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.splitlines()[-1] == ""
