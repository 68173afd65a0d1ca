"""From a command as the user wrote it, a shell's text included, to the plan of one rank.

The invariant: what cannot be read is left as it is, and that is said; who named a framework that could
complete nothing is told so before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import UNKNOWN, UnreadableError, is_shell_text
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.registry import FRAMEWORKS, choose_framework
from unitagent.frameworks.shell_text import PlainCommand, drops_flags, find_plain_command, read_script

ContextFactory = Callable[[str, PlainCommand], RankContext]
"""Makes the context for a framework of this name and the command that it is going to complete."""

_UNKNOWN = (
    "COMMAND is left as it is: no framework recognizes it (UNIT_FRAMEWORK=auto); it learns its "
    "rank by variables (RANK_ID, UNIT_SIZE, MASTER_ADDRESS, MASTER_PORT …) and by placeholders in its words"
)
_BY_HAND = "tell the engine its rank yourself ({RANK_ID}, {UNIT_SIZE}, {MASTER_ADDRESS}, {MASTER_PORT})"
_ANY_COMMAND = frozenset({"ray", "torchrun"})  # a cluster, or variables, for whatever it is
_ASKED = ("health", "traffic_port", "stated_port", "running_metrics", "progress_metric", "metrics_url")
_WRITTEN = {
    "vllm": "vllm serve MODEL",
    "sglang": "python3 -m sglang.launch_server --model-path MODEL",
    "accelerate": "accelerate launch PROGRAM",
    "deepspeed": "deepspeed PROGRAM",
    "lmdeploy": "lmdeploy serve api_server MODEL",
    "tensorrt-llm": "trtllm-serve MODEL --tp_size N",
}


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """What became of a command.

    Attributes:
        plan: None where no framework had anything to do with it.
        notices: sentences that a person should read once.
        hidden: why its health and port are not known, where the text hides them; else empty.

    """

    plan: LaunchPlan | None = None
    notices: tuple[str, ...] = ()
    hidden: str = ""


def complete_command(
    name: str, argv: tuple[str, ...], env: Mapping[str, str], folder: str | None, place: ContextFactory
) -> CompletedCommand:
    """Complete ``argv`` by the framework called ``name``.

    Raises:
        ConfigurationError: the user's words contradict the Unit, or a framework was named in vain.

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
        return _report_unreadable(name, str(error))
    if name != "auto" and _did_nothing(framework, command, plan, argv):
        raise _make_useless_error(name, "it is no command that it knows")
    handed = _explain_arguments(framework, command, plan)
    plan, hidden, assumed = _locate_port(framework, command, plan, place)
    return CompletedCommand(plan, (*plan.notices, *handed, *assumed), hidden)


def _locate_port(
    framework: Framework, command: PlainCommand, plan: LaunchPlan, place: ContextFactory
) -> tuple[LaunchPlan, str, tuple[str, ...]]:
    """Find out where the engine behind a program of the user's listens: where its script has it, else at the
    port that the user tells, else at the default of the engine, which is said.

    Returns the plan, why the port is not known, and what is to be said.
    """
    if plan.stated_port is not None or plan.traffic_port is None or framework.recognizes(command.argv):
        return plan, _explain_hidden_port(command, plan), ()
    found = _plan_script(framework, command, place)
    if found is not None:
        inner, known = found
        return _copy_endpoints(plan, known), _explain_hidden_port(inner, known), ()
    told = place(framework.name, command).traffic_port
    if told:
        return plan if told == plan.traffic_port else _copy_endpoints(plan, LaunchPlan(argv=())), "", ()
    assumed = (
        f"UNIT_FRAMEWORK={framework.name}: no port can be read in {PurePosixPath(command.argv[0]).name}, so "
        f"the default {plan.traffic_port} is assumed; if the engine listens at another one, set "
        f"UNIT_TRAFFIC_PORT and UNIT_HEALTH_URL"
    )
    return plan, "", (assumed,)


def _plan_script(
    framework: Framework, command: PlainCommand, place: ContextFactory
) -> tuple[PlainCommand, LaunchPlan] | None:
    """Find the engine's plain command in a start script, and plan it; None where that cannot be done."""
    script = read_script(command.argv, command.folder)
    if script is None:
        return None
    try:
        inner = _enter_shell_text(PlainCommand(script.as_text, command.env, command.folder, tuple), framework)
        return inner, framework.plan(place(framework.name, inner), inner.argv, inner.env)
    except (UnreadableError, ConfigurationError):
        return None


def _copy_endpoints(plan: LaunchPlan, other: LaunchPlan) -> LaunchPlan:
    """Let a plan's engine be asked where another one's is."""
    return replace(plan, **{name: getattr(other, name) for name in _ASKED})


def _explain_hidden_port(command: PlainCommand, plan: LaunchPlan) -> str:
    """Say of a port that is no number how it is written, and why nobody knows it."""
    said = plan.stated_port
    if said is None or plan.traffic_port or said.isdigit():
        return ""
    if UNKNOWN in said:
        written = _find_spelling(command, said)
        return f"the port is {written}, which only the shell knows" if written else ""
    if said.startswith("$"):
        return f"the port is {said}, which no shell replaces here"
    if said and not said.startswith("-"):
        return "the port is no number"
    return f"the port is {_find_spelling(command, said) or 'a variable'}, which is unset or empty here"


def _find_spelling(command: PlainCommand, said: str) -> str:
    """How a value is written in the text; behind a flag and "=", or as a word of its own."""
    if said in command.spelled and not said.startswith("-"):
        return command.spelled[said]
    behind = (text for word, text in command.spelled.items() if word.endswith(f"port={said}"))
    return next(behind, "").partition("=")[2]


def _explain_arguments(framework: Framework, command: PlainCommand, plan: LaunchPlan) -> tuple[str, ...]:
    """Say who is given the flags of a named framework, where that is another program; one that drops them
    would start an engine of its own on each rank.
    """
    known = framework.name in _ANY_COMMAND or framework.recognizes(command.argv)
    if known or plan.argv == command.argv:
        return ()
    other = next((each.name for each in FRAMEWORKS if each.recognizes(command.argv)), "")
    if other:
        raise _make_useless_error(framework.name, f"it is {other}'s")
    program = PurePosixPath(command.argv[0]).name
    if drops_flags(command.argv, command.folder):
        raise _make_useless_error(framework.name, _describe_lost_flags(command))
    added = " ".join(plan.argv[len(command.argv) :])
    told = f"UNIT_FRAMEWORK={framework.name}: {program} is given {added} as its arguments"
    return (f"{told}, and has to hand them on to the engine",)


def _describe_lost_flags(command: PlainCommand) -> str:
    script = read_script(command.argv, command.folder)
    name = PurePosixPath((script or command).argv[0]).name
    return f'the script {name} hands no arguments on (no "$@" is in it), so the flags would be lost'


def _is_known(argv: tuple[str, ...]) -> bool:
    return any(each.recognizes(argv) for each in FRAMEWORKS)


def _enter_shell_text(command: PlainCommand, framework: Framework | None) -> PlainCommand:
    """Go into the shell's text, and into the one that it starts, to a command of ``framework`` or of any."""
    inner, outer = find_plain_command(command.argv, command.env, command.folder, _is_known), command.rewrite
    found = replace(inner, rewrite=lambda words: outer(inner.rewrite(words)))
    if (framework.recognizes if framework else _is_known)(inner.argv):
        return found
    if not is_shell_text(inner.argv):
        raise UnreadableError("the last command of its text is none that is known")
    return _enter_shell_text(found, framework)


def _rewrite_command(
    command: PlainCommand, planned: tuple[str, ...], argv: tuple[str, ...]
) -> tuple[str, ...]:
    return argv if planned == command.argv else command.rewrite(planned)


def _did_nothing(
    framework: Framework, command: PlainCommand, plan: LaunchPlan, argv: tuple[str, ...]
) -> bool:
    if framework.name in _ANY_COMMAND or framework.recognizes(command.argv):
        return False
    return (plan.argv, plan.env, plan.health, plan.traffic_port) == (argv, {}, None, None)


def _report_unreadable(name: str, why: str) -> CompletedCommand:
    if name in _WRITTEN:
        raise _make_useless_error(name, why)
    said = f"COMMAND is left as it is: {why} (UNIT_FRAMEWORK={name})"
    remedy = f"; let an engine's command stand last in the text, under no condition, or {_BY_HAND}"
    return CompletedCommand(notices=(said + remedy * (name == "auto"),))


def _make_useless_error(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"UNIT_FRAMEWORK={name}: nothing of COMMAND could be completed: {why}; accepted is "
        f"`{_WRITTEN[name]} …`, by itself or as the last command of a shell's text, under no condition; or "
        f"set UNIT_FRAMEWORK=none and {_BY_HAND}"
    )
