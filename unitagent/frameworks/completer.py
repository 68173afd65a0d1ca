"""From a command as the user wrote it, shell text included, to the plan of one rank, by the framework that
``UNIT_FRAMEWORK`` chooses.

The invariant: an unreadable command stays unchanged, with a notice; a framework that was named but cannot
complete anything is an error before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import PurePosixPath

from unitagent import frameworks
from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import UNKNOWN, UnreadableError, is_shell_text
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.shell_text import PlainCommand, drops_flags, find_plain_command, read_script

ContextFactory = Callable[[str, PlainCommand], RankContext]
"""Makes the context for the framework of this name and the command that it will complete."""

_UNKNOWN = (
    "COMMAND is left unchanged: no framework recognizes it (UNIT_FRAMEWORK=auto); it learns its rank from "
    "variables (RANK_ID, UNIT_SIZE, MASTER_ADDRESS, MASTER_PORT …) and from placeholders in its arguments"
)
_BY_HAND = "pass the rank to the engine yourself ({RANK_ID}, {UNIT_SIZE}, {MASTER_ADDRESS}, {MASTER_PORT})"
_ASKED = ("health", "traffic_port", "stated_port", "running_metrics", "progress_metric", "metrics_url")


def _load_framework(name: str) -> Framework:
    module = import_module(f"{frameworks.__name__}.{name.replace('-', '_')}")
    framework: Framework = module.FRAMEWORK
    return framework


FRAMEWORKS: tuple[Framework, ...] = tuple(map(_load_framework, frameworks.FRAMEWORKS))
NAMES = ("none", "auto", *frameworks.FRAMEWORKS)


def choose_framework(name: str, argv: Sequence[str]) -> Framework | None:
    """Return the framework called ``name``; for ``auto`` the one that recognizes ``argv``, for ``none`` None.

    Raises:
        ConfigurationError: no framework has this name.

    """
    if name not in NAMES:
        raise ConfigurationError(f"UNIT_FRAMEWORK={name!r}: must be one of {', '.join(NAMES)}")
    if name == "auto":
        return next((each for each in FRAMEWORKS if each.recognizes(tuple(argv))), None)
    return next((each for each in FRAMEWORKS if each.name == name), None)


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """The result for a command.

    Attributes:
        plan: None if no framework handled it.
        notices: sentences to show once.
        hidden: why its health check and port are unknown, if the text hides them; else empty.
        framework: which one has completed it; empty for none.

    """

    plan: LaunchPlan | None = None
    notices: tuple[str, ...] = ()
    hidden: str = ""
    framework: str = ""


def complete_command(
    name: str, argv: tuple[str, ...], env: Mapping[str, str], folder: str | None, place: ContextFactory
) -> CompletedCommand:
    """Complete ``argv`` by the framework called ``name``.

    Raises:
        ConfigurationError: the user's flags contradict the Unit, or the named framework cannot complete
            anything.

    """
    framework = choose_framework(name, argv)
    whole = framework is not None and (framework.name == "ray" or framework.recognizes(argv))
    command = PlainCommand(argv, env, folder, tuple)
    try:
        if not whole and is_shell_text(argv):
            command = _enter_shell_text(command, framework)
            framework = framework or choose_framework("auto", command.argv)
        if framework is None:
            return CompletedCommand(notices=(_UNKNOWN,))
        plan = framework.plan(place(framework.name, command), command.argv, command.env)
        plan = replace(plan, argv=_rewrite_command(command, plan.argv, argv))
    except UnreadableError as error:
        return _report_unreadable(name, framework, str(error))
    if name != "auto" and _did_nothing(framework, command, plan, argv):
        raise _make_useless_error(framework, "this framework does not recognize it")
    handed = _explain_arguments(framework, command, plan)
    plan, hidden, assumed = _locate_port(framework, command, plan, place)
    return CompletedCommand(plan, (*plan.notices, *handed, *assumed), hidden, framework.name)


def _locate_port(
    framework: Framework, command: PlainCommand, plan: LaunchPlan, place: ContextFactory
) -> tuple[LaunchPlan, str, tuple[str, ...]]:
    """Find out where the engine behind the user's own program listens: the port in its script, else the port
    that the user set, else the engine's default, with a notice.

    Returns the plan, why the port is unknown, and the notices.
    """
    if plan.stated_port is not None or plan.traffic_port is None or framework.recognizes(command.argv):
        return plan, _explain_hidden_port(command, plan), ()
    planned = _plan_script(framework, command, place)
    if planned is not None:
        inner, known = planned
        return _copy_endpoints(plan, known), _explain_hidden_port(inner, known), ()
    stated = place(framework.name, command).traffic_port
    if stated:
        return plan if stated == plan.traffic_port else _copy_endpoints(plan, LaunchPlan(argv=())), "", ()
    assumed = (
        f"UNIT_FRAMEWORK={framework.name}: {PurePosixPath(command.argv[0]).name} names no port, so the "
        f"default {plan.traffic_port} is assumed; if the engine listens on another port, set "
        "UNIT_TRAFFIC_PORT and UNIT_HEALTH_URL"
    )
    return plan, "", (assumed,)


def _plan_script(
    framework: Framework, command: PlainCommand, place: ContextFactory
) -> tuple[PlainCommand, LaunchPlan] | None:
    """Find the engine's plain command in a start script, and plan it; None if that is impossible."""
    script = read_script(command.argv, command.folder)
    if script is None:
        return None
    try:
        inner = _enter_shell_text(PlainCommand(script.as_text, command.env, command.folder, tuple), framework)
        return inner, framework.plan(place(framework.name, inner), inner.argv, inner.env)
    except (UnreadableError, ConfigurationError):
        return None


def _copy_endpoints(plan: LaunchPlan, other: LaunchPlan) -> LaunchPlan:
    """Take health check, port and metrics from another plan."""
    return replace(plan, **{name: getattr(other, name) for name in _ASKED})


def _explain_hidden_port(command: PlainCommand, plan: LaunchPlan) -> str:
    """Explain a port that is not a number: how it is written, and why it is unknown."""
    stated = plan.stated_port
    if stated is None or plan.traffic_port or stated.isdigit():
        return ""
    if UNKNOWN in stated:
        written = _find_spelling(command, stated)
        return f"the port is {written}, which only the shell can expand" if written else ""
    if stated.startswith("$"):
        return f"the port is {stated}, which no shell expands here"
    if stated and not stated.startswith("-"):
        return "the port is not a number"
    return f"the port is {_find_spelling(command, stated) or 'a variable'}, which is unset or empty here"


def _find_spelling(command: PlainCommand, expanded: str) -> str:
    """Find how a value is written in the text: after a flag and "=", or as its own word."""
    if expanded in command.spelled and not expanded.startswith("-"):
        return command.spelled[expanded]
    behind = (text for word, text in command.spelled.items() if word.endswith(f"port={expanded}"))
    return next(behind, "").partition("=")[2]


def _explain_arguments(framework: Framework, command: PlainCommand, plan: LaunchPlan) -> tuple[str, ...]:
    """Name the user's own program that gets the framework's flags; a program that drops them would start a
    separate engine on each rank, so it is refused.
    """
    known = not framework.example or framework.recognizes(command.argv)
    if known or plan.argv == command.argv:
        return ()
    other = next((each.name for each in FRAMEWORKS if each.recognizes(command.argv)), "")
    if other:
        raise _make_useless_error(framework, f"it is a command of {other}")
    program = PurePosixPath(command.argv[0]).name
    if drops_flags(command.argv, command.folder):
        raise _make_useless_error(framework, _describe_lost_flags(command))
    added = " ".join(plan.argv[len(command.argv) :])
    notice = f"UNIT_FRAMEWORK={framework.name}: {program} gets {added} as arguments"
    return (f"{notice}, and must pass them on to the engine",)


def _describe_lost_flags(command: PlainCommand) -> str:
    script = read_script(command.argv, command.folder)
    name = PurePosixPath((script or command).argv[0]).name
    return f'the script {name} passes no arguments on (it contains no "$@"), so the flags would be lost'


def _is_known(argv: tuple[str, ...]) -> bool:
    return any(each.recognizes(argv) for each in FRAMEWORKS)


def _enter_shell_text(command: PlainCommand, framework: Framework | None) -> PlainCommand:
    """Find the command of ``framework``, or of any framework, in the shell's text or in a text that it
    starts.
    """
    inner, outer = find_plain_command(command.argv, command.env, command.folder, _is_known), command.rewrite
    entered = replace(inner, rewrite=lambda words: outer(inner.rewrite(words)))
    if (framework.recognizes if framework else _is_known)(inner.argv):
        return entered
    if not is_shell_text(inner.argv):
        raise UnreadableError("no framework recognizes the last command of its text")
    return _enter_shell_text(entered, framework)


def _rewrite_command(
    command: PlainCommand, planned: tuple[str, ...], argv: tuple[str, ...]
) -> tuple[str, ...]:
    return argv if planned == command.argv else command.rewrite(planned)


def _did_nothing(
    framework: Framework, command: PlainCommand, plan: LaunchPlan, argv: tuple[str, ...]
) -> bool:
    if not framework.example or framework.recognizes(command.argv):
        return False
    return (plan.argv, plan.env, plan.health, plan.traffic_port) == (argv, {}, None, None)


def _report_unreadable(name: str, framework: Framework | None, why: str) -> CompletedCommand:
    if name != "auto" and framework is not None and framework.example:
        raise _make_useless_error(framework, why)
    notice = f"COMMAND is left unchanged: {why} (UNIT_FRAMEWORK={name})"
    remedy = f"; put the engine's command last in the text, unconditionally, or {_BY_HAND}"
    return CompletedCommand(notices=(notice + remedy * (name == "auto"),))


def _make_useless_error(framework: Framework, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"UNIT_FRAMEWORK={framework.name}: no part of COMMAND can be completed: {why}; write "
        f"`{framework.example} …`, alone or as the last command of a shell's text, unconditionally; or "
        f"set UNIT_FRAMEWORK=none and {_BY_HAND}"
    )
