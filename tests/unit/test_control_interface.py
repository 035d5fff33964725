# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of service/control_interface.py: requests are checked and answered as Varlink has it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsyncd_sd import __version__
from lsyncd_sd.errors import ExitStatus, Problem
from lsyncd_sd.service.control_interface import (
    DESCRIPTION,
    DESCRIPTIONS,
    INTERFACE,
    PARAMETERS,
    VARLINK_INTERFACE,
    ControlError,
    Dispatcher,
    Parameter,
    ProtocolError,
)
from lsyncd_sd.service.status import State, SyncStatus, TargetStatus

PROBLEMS = [
    Problem("home.yaml:7:3", "unknown key 'exlude'", "did you mean 'exclude'?"),
    Problem("home.yaml:9:1", "odd", is_warning=True),
]


def echo(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"got": parameters}


def refuse_reload(_parameters: dict[str, Any]) -> dict[str, Any]:
    raise ControlError.configuration_invalid(PROBLEMS)


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"Status": echo, "Restart": echo, "Sync": echo, "Reload": refuse_reload})


def ask(dispatcher: Dispatcher, method: str, **rest: Any) -> Any:
    reply = dispatcher.answer(json.dumps({"method": method, **rest}).encode())
    assert reply.endswith(b"\0") and reply.count(b"\0") == 1
    return json.loads(reply[:-1])


# requests


@pytest.mark.parametrize(
    ("request_rest", "got"),
    [
        ({}, {}),
        ({"parameters": None}, {}),
        ({"parameters": {}}, {}),
        ({"parameters": {"name": None}}, {}),
        ({"parameters": {"name": "home"}, "more": True, "upgrade": False}, {"name": "home"}),
    ],
)
def test_a_handler_gets_what_was_given(dispatcher: Dispatcher, request_rest: Any, got: Any) -> None:
    assert ask(dispatcher, f"{INTERFACE}.Status", **request_rest) == {"parameters": {"got": got}}


@pytest.mark.parametrize(
    ("method", "parameters", "error", "error_parameters"),
    [
        ("Restart", {}, "InvalidParameter", {"parameter": "name"}),
        ("Restart", {"name": None}, "InvalidParameter", {"parameter": "name"}),
        ("Restart", {"name": 7}, "InvalidParameter", {"parameter": "name"}),
        ("Restart", {"name": "a", "force": True}, "InvalidParameter", {"parameter": "force"}),
        ("Sync", {"name": "a", "full": "yes"}, "InvalidParameter", {"parameter": "full"}),
        ("Sync", {"name": "a", "full": 1}, "InvalidParameter", {"parameter": "full"}),
        ("Sync", {"name": True}, "InvalidParameter", {"parameter": "name"}),
        ("Accept", {"name": "a"}, "MethodNotFound", {"method": f"{INTERFACE}.Accept"}),
        ("status", {}, "MethodNotFound", {"method": f"{INTERFACE}.status"}),
        ("org.example.Other.Do", {}, "InterfaceNotFound", {"interface": "org.example.Other"}),
        ("..", {}, "InterfaceNotFound", {"interface": "."}),
        (f"{VARLINK_INTERFACE}.GetInterfaceDescription", {"interface": "a.b"}, "InterfaceNotFound",
         {"interface": "a.b"}),
    ],
)  # fmt: skip
def test_wrong_requests_get_the_standard_errors(
    dispatcher: Dispatcher, method: str, parameters: Any, error: str, error_parameters: Any
) -> None:
    full_name = method if "." in method else f"{INTERFACE}.{method}"
    assert ask(dispatcher, full_name, parameters=parameters) == {
        "error": f"{VARLINK_INTERFACE}.{error}",
        "parameters": error_parameters,
    }


def test_oneway_requests_get_no_reply_not_even_an_error(dispatcher: Dispatcher) -> None:
    for method in ("Status", "Reload", "Unknown"):
        request = {"method": f"{INTERFACE}.{method}", "oneway": True}
        assert dispatcher.answer(json.dumps(request).encode()) == b""


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
near_requests = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from([*PARAMETERS, f"{INTERFACE}.X"]) | json_values,
        "parameters": json_values | st.dictionaries(st.sampled_from(["name", "interface"]), json_values),
        "oneway": json_values,
        "more": json_values,
    },
)


@given(near_requests)
def test_whatever_is_asked_there_is_one_reply_or_none_or_a_protocol_error(request: dict[str, Any]) -> None:
    dispatcher = Dispatcher({"Status": echo, "Restart": echo, "Reload": refuse_reload, "Accept": echo})
    try:
        reply = dispatcher.answer(json.dumps(request).encode())
    except ProtocolError:
        is_request = isinstance(request.get("method"), str) and isinstance(
            request.get("parameters"), dict | None
        )
        assert not is_request
    else:
        assert (reply == b"") == (request.get("oneway") is True)
        assert reply.count(b"\0") == len(reply[:1])


# introspection


def test_get_info_names_the_version_and_the_interfaces(dispatcher: Dispatcher) -> None:
    info = ask(dispatcher, f"{VARLINK_INTERFACE}.GetInfo")["parameters"]
    assert info["product"] == "lsyncd-sd"
    assert info["version"] == __version__
    assert info["interfaces"] == [INTERFACE, VARLINK_INTERFACE]
    assert set(info) == {"vendor", "product", "version", "url", "interfaces"}


@pytest.mark.parametrize("interface", list(DESCRIPTIONS))
def test_descriptions_are_served(dispatcher: Dispatcher, interface: str) -> None:
    method = f"{VARLINK_INTERFACE}.GetInterfaceDescription"
    reply = ask(dispatcher, method, parameters={"interface": interface})
    assert reply == {"parameters": {"description": DESCRIPTIONS[interface]}}
    assert f"\ninterface {interface}\n" in DESCRIPTIONS[interface]


def test_descriptions_and_checks_have_the_same_methods_and_parameters() -> None:
    described: dict[str, dict[str, Parameter]] = {}
    types = {"string": str, "bool": bool}
    for interface, description in DESCRIPTIONS.items():
        for name, arguments in re.findall(r"^method (\w+)\((.*?)\) ->", description, flags=re.MULTILINE):
            parameters = re.findall(r"(\w+): (\??)(\w+)", arguments)
            described[f"{interface}.{name}"] = {
                parameter: Parameter(types[type_name], is_required=not optional)
                for parameter, optional, type_name in parameters
            }
    assert described == PARAMETERS


@pytest.mark.parametrize("kind", [SyncStatus, TargetStatus])
def test_the_described_status_is_the_one_of_the_model(kind: type[SyncStatus | TargetStatus]) -> None:
    (body,) = re.findall(rf"^type {kind.__name__} \((.*?)^\)", DESCRIPTION, flags=re.MULTILINE | re.DOTALL)
    described = dict(re.findall(r"(\w+): (\??[\[\]\w]+)", body))
    varlink_types = {
        "str": "string",
        "State": "string",
        "int": "int",
        "float": "float",
        "int | None": "?int",
        "float | None": "?float",
        # left out where there is one target only
        "tuple[TargetStatus, ...]": "?[]TargetStatus",
    }
    assert described == {field.name: varlink_types[str(field.type)] for field in fields(kind)}
    assert all(state in DESCRIPTION for state in State)


def test_the_described_problem_is_the_one_of_errors() -> None:
    (body,) = re.findall(r"^type Problem \((.*?)^\)", DESCRIPTION, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(\w+): ", body) == [field.name for field in fields(Problem)]


def test_a_method_that_is_not_described_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Destroy"):
        Dispatcher({"Destroy": echo})


# errors


def test_problems_cross_the_wire_and_are_shown_as_check_shows_them(dispatcher: Dispatcher) -> None:
    reply = ask(dispatcher, f"{INTERFACE}.Reload")
    assert reply["error"] == f"{INTERFACE}.ConfigurationInvalid"
    received = ControlError(reply["error"], reply["parameters"])
    assert received.message.splitlines() == [line for problem in PROBLEMS for line in problem.lines()]
    assert received.exit_status is ExitStatus.USAGE


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("NoSuchSync", {"name": "hme"}, "there is no sync 'hme'"),
        ("NoSuchSync", {}, "there is no sync ''"),
        ("NotHeld", {"name": "home", "state": "in-sync"}, "sync 'home' is not held: its state is in-sync"),
        ("Unavailable", {"name": "a", "reason": "\x07"}, "sync 'a' cannot do it: \\x07"),
        ("ConfigurationInvalid", {"problems": 7}, "the configuration is invalid"),
        ("ConfigurationInvalid", {"problems": [7]}, ": "),
        ("org.example.Bad\x1b[2J", {}, "the service answered org.example.Bad\\x1b[2J"),
        ("NotHeld", {"name": "x", "state": "\x1b[2J"}, "sync 'x' is not held: its state is \\x1b[2J"),
    ],
)
def test_errors_explain_themselves_without_controlling_the_terminal(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    assert ControlError(name, parameters).message == message
