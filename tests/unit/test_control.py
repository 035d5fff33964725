# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/control.py over real sockets: good clients are answered, bad ones stop nobody."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.looping import SteppedLoop
from helpers.waiting import DEADLINE
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd.errors import ExitStatus, LsyncdError
from lsyncd_sd.loop import Loop
from lsyncd_sd.service.control import (
    ACCEPT_PAUSE,
    IDLE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_REQUEST,
    MAX_WAITING,
    ControlServer,
)
from lsyncd_sd.service.control_client import call, follow
from lsyncd_sd.service.control_interface import INTERFACE, ControlError, Deferred


class Service:
    """A server with recording handlers, stepped by the test."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.loop = SteppedLoop()
        self.calls: list[dict[str, Any]] = []
        self.reply: dict[str, Any] = {"version": 1, "syncs": []}
        # The promises given, and whose were abandoned.
        self.deferred: list[Deferred] = []
        self.abandoned: list[Deferred] = []
        methods = {"Status": self.status, "Restart": self.restart, "Sync": self.sync}
        self.server = ControlServer(self.loop, self.path, methods)

    def status(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(parameters)
        return self.reply

    def restart(self, parameters: dict[str, Any]) -> dict[str, Any]:
        raise ControlError("NoSuchSync", parameters)

    def sync(self, _parameters: dict[str, Any]) -> Deferred:
        deferred = Deferred()
        deferred.on_abandoned = partial(self.abandoned.append, deferred)
        self.deferred.append(deferred)
        return deferred

    def promised(self, count: int) -> Deferred:
        """Step until so many promises have been given; return the last one."""
        wait_stepping(self, lambda: len(self.deferred) >= count)
        return self.deferred[-1]

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(self.path)
        client.setblocking(False)
        return client

    def step(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.loop.run_once(0)

    def settle(self) -> None:
        """Step until a client that came later than all others was answered."""
        with self.connect() as last:
            last.sendall(request("org.varlink.service.GetInfo"))
            assert len(self.receive(last)) == 1

    def wait_until_alone(self) -> None:
        """Step until the server has noticed that all clients hung up."""
        for _ in range(1000):
            self.loop.run_once(0)
            if not self.server._connections and not self.server._waiting:
                return
        raise AssertionError("the server keeps connections of clients that are gone")

    def receive(self, client: socket.socket, count: int = 1) -> list[dict[str, Any]]:
        """Step until `count` replies have come, or the server hung up; return what came."""
        received = b""
        while received.count(b"\0") < count:
            self.loop.run_once(0.01)
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                break
            received += data
        *replies, rest = received.split(b"\0")
        assert rest == b""
        return [json.loads(reply) for reply in replies]

    def answers(self) -> bool:
        """Whether a new client gets its answer."""
        with self.connect() as client:
            client.sendall(request("Status"))
            return self.receive(client) == [{"parameters": self.reply}]

    def call(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Step the loop while the blocking client runs in a thread."""
        return self.while_stepping(lambda: call(self.path, method, parameters, DEADLINE))

    def while_stepping(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(function)
            while not future.done():
                self.loop.run_once(0.01)
            return future.result()

    def close(self) -> None:
        self.server.close()
        self.loop.close()


def wait_stepping(service: Service, condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        service.loop.run_once(0.01)
    raise AssertionError("it does not come to that")


def request(method: str, **rest: Any) -> bytes:
    full_name = method if "." in method else f"{INTERFACE}.{method}"
    return json.dumps({"method": full_name, **rest}).encode() + b"\0"


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "control")
    yield service
    service.close()


@pytest.fixture(scope="module")
def lasting_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("lasting") / "control")
    yield service
    service.close()


# good clients


def test_call_returns_the_parameters_of_the_reply(service: Service) -> None:
    service.reply = {"version": 1, "syncs": [{"name": "grün\n"}]}
    assert service.call("Status", {"name": "home"}) == service.reply
    assert service.calls == [{"name": "home"}]


def test_call_raises_the_error_of_the_reply(service: Service) -> None:
    with pytest.raises(ControlError) as caught:
        service.call("Restart", {"name": "hme"})
    assert caught.value.name == "org.lsyncd-sd.Control.NoSuchSync"
    assert caught.value.parameters == {"name": "hme"}
    assert "hme" in caught.value.message
    assert caught.value.exit_status is ExitStatus.USAGE


def test_call_gets_an_answer_of_many_megabytes(service: Service) -> None:
    service.reply = {"version": 1, "syncs": ["x" * 1000] * 5000}
    assert service.call("Status", {}) == service.reply


def test_many_requests_on_one_connection_are_answered_in_order(service: Service) -> None:
    with service.connect() as client:
        client.sendall(
            request("Status")
            + request("Restart", parameters={"name": "a"})
            + request("Status", oneway=True)
            + request("Restart", parameters={"name": "b"}, more=True)
        )
        client.shutdown(socket.SHUT_WR)
        assert service.receive(client, 9) == [
            {"parameters": service.reply},
            {"error": f"{INTERFACE}.NoSuchSync", "parameters": {"name": "a"}},
            {"error": f"{INTERFACE}.NoSuchSync", "parameters": {"name": "b"}},
        ]
    assert len(service.calls) == 2


def test_a_request_may_arrive_byte_by_byte(service: Service) -> None:
    with service.connect() as client:
        for byte in request("Status").rjust(100):
            client.send(bytes([byte]))
            service.step()
        assert service.receive(client) == [{"parameters": service.reply}]
        client.sendall(request("Status"))
        assert service.receive(client) == [{"parameters": service.reply}]


def test_a_pass_of_the_loop_answers_few_requests_of_one_client(service: Service) -> None:
    with service.connect() as client:
        service.step()
        client.sendall(request("Status") * 20)
        service.step()
        assert 1 <= len(service.calls) <= 2
        assert len(service.receive(client, 20)) == 20


# bad clients


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"\0" * 100_000,
        b"GET / HTTP/1.0\r\n\r\n\0",
        b"\xff\xfe\0",
        b"[]\0",
        b"{}\0",
        b'{"method":7}\0',
        b'{"method":"a.B","parameters":[]}\0',
        b"[" * 60_000 + b"\0",
        b"9" * 60_000 + b"\0",
        b'{"method":"' + b"x" * MAX_REQUEST + b'"}\0',
        b"x" * (MAX_REQUEST + 1),
    ],
)
def test_garbage_ends_that_connection_only(service: Service, garbage: bytes) -> None:
    with service.connect() as good, service.connect() as bad:
        service.settle()
        bad.setblocking(True)
        sender = threading.Thread(target=send_ignoring_errors, args=(bad, garbage))
        sender.start()
        while sender.is_alive():
            service.loop.run_once(0.01)
        bad.setblocking(False)
        assert service.receive(bad) == []
        good.sendall(request("Status"))
        assert service.receive(good) == [{"parameters": service.reply}]
    assert service.answers()


def send_ignoring_errors(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


def test_the_largest_request_is_still_answered(service: Service) -> None:
    with service.connect() as client:
        padded = request("Status")[:-1].ljust(MAX_REQUEST) + b"\0"
        sender = threading.Thread(target=send_ignoring_errors, args=(client, padded))
        client.setblocking(True)
        sender.start()
        while sender.is_alive():
            service.loop.run_once(0.01)
        client.setblocking(False)
        assert service.receive(client) == [{"parameters": service.reply}]


chunks = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([request("Status"), request("Restart", parameters={"name": "x"})]),
        st.sampled_from([b"\0", b'{"method"']),
    ),
    max_size=8,
)


@given(st.lists(chunks, max_size=4), st.randoms())
def test_random_bytes_split_anywhere_never_stop_the_next_client(
    lasting_service: Service, streams: list[list[bytes]], random: Any
) -> None:
    service = lasting_service
    service.wait_until_alone()
    before = open_descriptors()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.connect()) for _ in streams]
        todo = [(client, chunk) for client, stream in zip(clients, streams, strict=True) for chunk in stream]
        random.shuffle(todo)
        for client, chunk in todo:
            cut = random.randint(0, len(chunk))
            for part in (chunk[:cut], chunk[cut:]):
                send_ignoring_errors(client, part)
                service.step(random.randint(0, 2))
        assert service.answers()
    service.wait_until_alone()
    assert open_descriptors() == before


def test_slow_readers_hold_back_only_themselves(service: Service) -> None:
    service.reply = {"version": 1, "syncs": ["x" * 1_000_000]}
    with service.connect() as slow:
        slow.sendall(request("Status") * 5)
        service.settle()
        service.step(100)
        # One answer is on its way and waits to be taken: the others are not even made.
        assert len(service.calls) == 1
        assert service.answers()
        assert len(service.receive(slow, 5)) == 5


def test_a_client_that_is_gone_before_its_answer_does_no_harm(service: Service) -> None:
    service.reply = {"version": 1, "syncs": ["x" * 1_000_000]}
    before = open_descriptors()
    for passes in range(6):
        client = service.connect()
        client.sendall(request("Status") * 3)
        service.step(passes)
        client.close()
    assert service.answers()
    service.wait_until_alone()
    assert open_descriptors() == before


def test_too_many_clients_push_out_the_one_silent_longest(service: Service) -> None:
    clients = [service.connect() for _ in range(MAX_CONNECTIONS)]
    service.step(MAX_CONNECTIONS)
    clients[0].sendall(request("Status"))
    assert len(service.receive(clients[0])) == 1
    assert service.answers()
    assert service.receive(clients[1]) == []
    for client in (clients[0], clients[2]):
        client.sendall(request("Status"))
        assert len(service.receive(client)) == 1
    for client in clients:
        client.close()


def test_idle_clients_are_hung_up_on_and_then_no_timer_is_left(service: Service) -> None:
    with service.connect() as idle, service.connect() as dripping:
        service.settle()
        service.loop.ahead += IDLE_TIMEOUT / 2
        dripping.sendall(request("Status")[:-1])
        assert service.answers()
        service.loop.ahead += IDLE_TIMEOUT / 2
        assert service.receive(idle) == []
        assert service.receive(dripping) == []
    service.loop.ahead += IDLE_TIMEOUT
    service.step(3)
    assert service.server._idle_check is None
    assert service.answers()


def test_a_busy_client_is_not_idle(service: Service) -> None:
    with service.connect() as client:
        for _ in range(5):
            service.loop.ahead += IDLE_TIMEOUT * 0.9
            client.sendall(request("Status"))
            assert len(service.receive(client)) == 1


def test_without_descriptors_the_loop_pauses_and_then_goes_on(service: Service) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with service.connect() as client:
        client.sendall(request("Status"))
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            service.step()
            passes: list[int] = []
            service.loop.call_later(0.05, lambda: passes.append(1))
            wakeups = 0
            while not passes:
                service.loop.run_once()
                wakeups += 1
            assert wakeups <= 2, "the loop spins"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert service.calls == []
        service.loop.ahead += ACCEPT_PAUSE
        assert service.receive(client) == [{"parameters": service.reply}]


def test_a_fault_in_a_handler_is_an_error_reply(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.reply = {"syncs": float("nan")}
    with pytest.raises(ControlError, match="lsyncd-sd itself"):
        service.call("Status", {})
    assert "ValueError" in capsys.readouterr().err
    service.reply = {}
    assert service.answers()


# answers that take their time


SYNC = request("Sync", parameters={"name": "home", "wait": True})
SYNC_MORE = request("Sync", parameters={"name": "home", "wait": True}, more=True)


def test_a_deferred_answer_comes_when_it_is_given_and_others_are_answered_before(service: Service) -> None:
    with service.connect() as waiting:
        waiting.sendall(SYNC + request("Status"))
        promise = service.promised(1)
        promise.tell({"not": "asked for"})
        assert service.answers()
        assert service.calls == [{}], "what the client sent along waits for its turn"
        promise.finish({"done": True})
        assert service.receive(waiting, 2) == [{"parameters": {"done": True}}, {"parameters": service.reply}]
        waiting.sendall(request("Status"))
        assert service.receive(waiting) == [{"parameters": service.reply}]
    assert service.abandoned == []


def test_a_deferred_answer_may_be_an_error_or_there_at_once(service: Service) -> None:
    def at_once(_parameters: dict[str, Any]) -> Deferred:
        deferred = Deferred()
        deferred.tell({"left": "out"})
        deferred.fail(ControlError("NoSuchSync", {"name": "home"}))
        deferred.finish({"too": "late"})
        return deferred

    service.server._dispatcher._handlers[f"{INTERFACE}.Sync"] = at_once
    with service.connect() as client:
        client.sendall(SYNC_MORE + request("Status"))
        error = {"error": f"{INTERFACE}.NoSuchSync", "parameters": {"name": "home"}}
        assert service.receive(client, 2) == [error, {"parameters": service.reply}]


def test_who_asks_for_more_is_told_what_goes_on(service: Service) -> None:
    with service.connect() as client:
        client.sendall(SYNC_MORE)
        promise = service.promised(1)
        for number in (1, 2):
            promise.tell({"number": number})
            expected = {"parameters": {"number": number}, "continues": True}
            assert service.receive(client) == [expected]
        promise.finish({"number": 3})
        assert service.receive(client) == [{"parameters": {"number": 3}}]


def test_follow_yields_them_all(service: Service) -> None:
    def both() -> dict[str, Any]:
        return {"all": list(follow(service.path, "Sync", {"name": "home"}, DEADLINE, DEADLINE))}

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(both)
        promise = service.promised(1)
        promise.tell({"number": 1})
        promise.finish({"number": 2})
        wait_stepping(service, future.done)
        # What was told and not sent is left out, if the thread was slow.
        assert future.result()["all"][-1] == {"number": 2}


def test_for_a_client_that_does_not_read_only_the_last_word_is_kept(service: Service) -> None:
    with service.connect() as client:
        # The garbage behind it makes the server hang up when it has said all.
        client.sendall(SYNC_MORE + b"\0")
        promise = service.promised(1)
        for number in range(100):
            promise.tell({"number": number, "long": "x" * 100_000})
            service.step()
        promise.finish({"number": 100})
        numbers = [reply["parameters"]["number"] for reply in service.receive(client, 1000)]
        assert numbers[-1] == 100
        assert len(numbers) < 10
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("leftover", [b"", b'{"half'])
def test_a_waiting_client_that_hangs_up_is_forgotten(service: Service, leftover: bytes) -> None:
    before = open_descriptors()
    with service.connect() as client:
        client.sendall(SYNC + leftover)
        promise = service.promised(1)
    service.wait_until_alone()
    assert service.abandoned == [promise]
    promise.tell({"nobody": "hears"})
    promise.finish({})
    assert open_descriptors() == before
    assert service.answers()


def test_a_waiting_client_that_is_told_something_after_it_hung_up(service: Service) -> None:
    client = service.connect()
    client.sendall(SYNC_MORE)
    promise = service.promised(1)
    client.close()
    promise.tell({"nobody": "hears"})
    promise.finish({"nobody": "waits"})
    service.wait_until_alone()
    assert service.abandoned == [promise]


def test_a_waiting_client_is_not_idle_and_nobody_pushes_it_out(service: Service) -> None:
    with service.connect() as waiting, contextlib.ExitStack() as stack:
        waiting.sendall(SYNC)
        promise = service.promised(1)
        for _ in range(2 * MAX_CONNECTIONS):
            stack.enter_context(service.connect())
            service.step()
        service.loop.ahead += 10 * IDLE_TIMEOUT
        assert service.answers()
        promise.finish({"done": True})
        assert service.receive(waiting) == [{"parameters": {"done": True}}]
        service.loop.ahead += 2 * IDLE_TIMEOUT
        assert service.receive(waiting) == [], "now it is idle like any other"


def test_too_many_that_wait_push_out_the_one_that_waits_longest(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(MAX_WAITING + 1):
            client = stack.enter_context(service.connect())
            client.sendall(SYNC)
            service.promised(number + 1)
            clients.append(client)
        assert service.abandoned == service.deferred[:1]
        assert service.receive(clients[0]) == []
        assert service.answers()
        for promise in service.deferred:
            promise.finish({"done": True})
        for client in clients[1:]:
            assert service.receive(client) == [{"parameters": {"done": True}}]


def test_a_waiting_client_may_not_send_without_end(service: Service) -> None:
    with service.connect() as client:
        client.sendall(SYNC)
        service.promised(1)
        client.setblocking(True)
        sender = threading.Thread(target=send_ignoring_errors, args=(client, b"x" * 10_000_000))
        sender.start()
        wait_stepping(service, lambda: not sender.is_alive())
    assert service.abandoned == service.deferred
    assert service.answers()


def test_who_wants_no_answer_waits_for_none(service: Service) -> None:
    with service.connect() as client:
        client.sendall(SYNC.replace(b"{", b'{"oneway":true,', 1) + request("Status"))
        assert service.receive(client) == [{"parameters": service.reply}]
    assert service.abandoned == service.deferred
    assert len(service.deferred) == 1


def test_waiting_clients_are_hung_up_on_at_the_end(service: Service) -> None:
    with service.connect() as client:
        client.sendall(SYNC)
        service.promised(1)
        service.server.close()
        assert service.receive(client) == []
    assert service.abandoned == service.deferred


# the socket file


def test_the_socket_has_its_mode_and_is_removed_at_close(tmp_path: Path) -> None:
    loop = Loop()
    path = tmp_path / "control"
    server = ControlServer(loop, str(path), {}, mode=0o620)
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    server.close()
    server.close()
    assert not path.exists()
    loop.close()


def test_a_live_socket_is_not_taken_over(service: Service) -> None:
    with pytest.raises(LsyncdError, match="already running"):
        ControlServer(service.loop, service.path, {})
    assert service.answers()


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    service = Service(path)
    assert service.answers()
    service.close()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "control"
    make(path)
    loop = Loop()
    with pytest.raises(LsyncdError, match="not a socket"):
        ControlServer(loop, str(path), {})
    assert os.path.lexists(path)
    loop.close()


def test_a_missing_directory_is_explained(tmp_path: Path) -> None:
    loop = Loop()
    with pytest.raises(LsyncdError, match="No such file") as caught:
        ControlServer(loop, str(tmp_path / "missing" / "control"), {})
    assert "RUNTIME_DIRECTORY" in caught.value.hint
    loop.close()


def test_close_leaves_the_socket_of_another_daemon(tmp_path: Path) -> None:
    first = Service(tmp_path / "control")
    os.unlink(first.path)
    second = Service(tmp_path / "control")
    first.close()
    assert second.answers()
    second.close()


def test_a_path_too_long_for_an_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    service = Service(deep / "control")
    assert service.call("Status", {}) == service.reply
    with pytest.raises(LsyncdError, match="already running"):
        ControlServer(service.loop, service.path, {})
    service.close()
    assert list(deep.iterdir()) == []


def test_a_forked_child_does_not_keep_the_socket_alive(tmp_path: Path) -> None:
    first = Service(tmp_path / "control")
    is_ready, ready = os.pipe()
    until_closed, closing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(closing)
        first.server.close_in_child()
        first.server.close()
        os.write(ready, b"x")
        os.read(until_closed, 1)
        os._exit(0)
    try:
        os.read(is_ready, 1)
        assert first.answers()
        # The parent dies without cleaning up: its descriptors go, the file stays.
        first.server.close_in_child()
        first.loop.close()
        second = Service(tmp_path / "control")
        assert second.answers()
        second.close()
    finally:
        os.close(closing)
        os.waitpid(child, 0)
        for descriptor in (until_closed, is_ready, ready):
            os.close(descriptor)


# what the client says when there is no answer


def test_call_says_not_running_if_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "control"
    for _ in range(2):
        with pytest.raises(LsyncdError, match="not running") as caught:
            call(str(path), "Status", {}, 1.0)
        assert caught.value.exit_status is ExitStatus.NOT_RUNNING
        if not path.exists():
            dead = socket.socket(socket.AF_UNIX)
            dead.bind(str(path))
            dead.close()
    with pytest.raises(LsyncdError, match="not running"):
        call(str(tmp_path / "missing" / "control"), "Status", {}, 1.0)
    with pytest.raises(LsyncdError, match="not running"):
        call(str(path / "below"), "Status", {}, 1.0)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen(0)
        yield listener


def answer_with(listener: socket.socket, data: bytes) -> threading.Thread:
    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            send_ignoring_errors(client, data)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "hung up"),
        (b'{"parameters":{}}', "hung up"),
        (b"220 smtp ready\0", "does not answer like"),
        (b"[]\0", "does not answer like"),
        (b'{"parameters":7}\0', "does not answer like"),
        (b'{"error":7}\0', "does not answer like"),
        (b'{"error":"a.b.Strange"}\0', "a.b.Strange"),
        (b'{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"a.B"}}\0', "not know a.B"),
    ],
)
def test_call_explains_bad_answers(listener: socket.socket, data: bytes, message: str) -> None:
    thread = answer_with(listener, data)
    with pytest.raises(LsyncdError, match=message) as caught:
        call(listener.getsockname(), "Status", {}, DEADLINE)
    thread.join()
    assert caught.value.exit_status is ExitStatus.NOT_GOOD


def test_call_gives_up_in_time(listener: socket.socket) -> None:
    with pytest.raises(LsyncdError, match=r"does not answer .* within 0\.05 s"):
        call(listener.getsockname(), "Status", {}, 0.05)


def test_follow_gives_up_in_time_without_an_answer_and_after_one(service: Service) -> None:
    def patience_ends() -> dict[str, Any]:
        for reply in follow(service.path, "Sync", {"name": "home"}, DEADLINE, 0.2):
            service.calls.append(reply)
        return {}

    with ThreadPoolExecutor(1) as executor:
        for number in (1, 2):
            future = executor.submit(patience_ends)
            promise = service.promised(number)
            if number == 2:
                promise.tell({"some": "news"})
            wait_stepping(service, future.done)
            with pytest.raises(TimeoutError):
                future.result()
    assert service.calls == [{"some": "news"}]
    service.wait_until_alone()
    assert service.abandoned == service.deferred


def test_follow_wants_a_first_answer_soon(listener: socket.socket) -> None:
    with pytest.raises(LsyncdError, match=r"does not answer .* within 0\.05 s"):
        list(follow(listener.getsockname(), "Sync", {}, 0.05, DEADLINE))


def test_follow_says_that_the_service_was_stopped(listener: socket.socket) -> None:
    thread = answer_with(listener, b'{"parameters":{"a":1},"continues":true}\0{"half')
    heard = []
    with pytest.raises(LsyncdError, match="in the middle") as caught:
        for reply in follow(listener.getsockname(), "Sync", {}, DEADLINE, DEADLINE):
            heard.append(reply)
    thread.join()
    assert heard == [{"a": 1}]
    assert caught.value.exit_status is ExitStatus.NOT_RUNNING


def test_follow_takes_replies_that_come_together_or_in_pieces(listener: socket.socket) -> None:
    replies = b'{"parameters":{"a":1},"continues":true}\0{"parameters":{"a":2},"continues":true}\0'
    thread = answer_with(listener, replies + b'{"parameters":{"a":3}}\0')
    heard = list(follow(listener.getsockname(), "Sync", {}, DEADLINE, DEADLINE))
    thread.join()
    assert heard == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_call_gives_up_at_once_if_the_queue_is_full(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(listener.getsockname())
        with pytest.raises(LsyncdError, match="too many clients"):
            call(listener.getsockname(), "Status", {}, DEADLINE)


def test_call_gives_up_on_an_answer_without_end(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsyncd_sd.service.control_client.MAX_REPLY", 100_000)
    thread = answer_with(listener, b"x" * 10_000_000)
    with pytest.raises(LsyncdError, match="does not end"):
        call(listener.getsockname(), "Status", {}, DEADLINE)
    thread.join()


def test_call_explains_a_lack_of_permission(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_socket: socket.socket, _address: str) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, whom no mode keeps out.
    monkeypatch.setattr("lsyncd_sd.service.control_client.socket.socket.connect", refuse)
    with pytest.raises(LsyncdError, match="may not talk") as caught:
        call(service.path, "Status", {}, 1.0)
    assert caught.value.hint == "try again as root"
