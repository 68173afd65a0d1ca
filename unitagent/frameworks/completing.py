"""From a command as the user wrote it, a shell's text included, to the plan of one rank.

The invariant: what cannot be read is left as it is, and that is said; who named a framework that could
complete nothing is told so before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from unitagent.errors import ConfigurationError
from unitagent.frameworks.adapter import Context, Framework, Plan
from unitagent.frameworks.command import is_shell_text
from unitagent.frameworks.registry import FRAMEWORKS, choose
from unitagent.frameworks.shell_text import Plain, read
from unitagent.frameworks.start_script import drops_flags, script_of
from unitagent.frameworks.untold import UNTOLD, UntoldError

Place = Callable[[str, Plain], Context]
"""Makes the context for a framework of this name and the command that it is going to complete."""

_UNKNOWN = (
    "COMMAND is left as it is: no framework recognizes it (UNIT_FRAMEWORK=auto); it learns its "
    "rank by variables (RANK_ID, UNIT_SIZE, MASTER_ADDRESS, MASTER_PORT …) and by placeholders in its words"
)
_BY_HAND = "tell the engine its rank yourself ({RANK_ID}, {UNIT_SIZE}, {MASTER_ADDRESS}, {MASTER_PORT})"
_ANY_COMMAND = frozenset({"ray", "torchrun"})  # a cluster, or variables, for whatever it is
_ASKED = ("health", "traffic_port", "said_port", "running_metrics", "progress_metric", "metrics_url")
_WRITTEN = {
    "vllm": "vllm serve MODEL",
    "sglang": "python3 -m sglang.launch_server --model-path MODEL",
    "accelerate": "accelerate launch PROGRAM",
    "deepspeed": "deepspeed PROGRAM",
    "lmdeploy": "lmdeploy serve api_server MODEL",
    "tensorrt-llm": "trtllm-serve MODEL --tp_size N",
}


@dataclass(frozen=True, slots=True)
class Completed:
    """What became of a command.

    Attributes:
        plan: None where no framework had anything to do with it.
        notices: sentences that a person should read once.
        hidden: why its health and port are not known, where the text hides them; else empty.

    """

    plan: Plan | None = None
    notices: tuple[str, ...] = ()
    hidden: str = ""


def complete(
    name: str, argv: tuple[str, ...], env: Mapping[str, str], folder: str | None, place: Place
) -> Completed:
    """Complete ``argv`` by the framework called ``name``.

    Raises:
        ConfigurationError: the user's words contradict the Unit, or a framework was named in vain.

    """
    framework = choose(name, argv)
    whole = framework is not None and (framework.name == "ray" or framework.recognizes(argv))
    command = Plain(argv, env, folder, tuple)
    try:
        if not whole and is_shell_text(argv):
            command = _inside(command, framework)
            framework = framework or choose("auto", command.argv)
        if framework is None:
            return Completed(notices=(_UNKNOWN,))
        plan = framework.plan(place(framework.name, command), command.argv, command.env)
        plan = replace(plan, argv=_written(command, plan.argv, argv))
    except UntoldError as error:
        return _unread(name, str(error))
    if name != "auto" and _in_vain(framework, command, plan, argv):
        raise _useless(name, "it is no command that it knows")
    handed = _handed_over(framework, command, plan)
    plan, hidden, assumed = _listening(framework, command, plan, place)
    return Completed(plan, (*plan.notices, *handed, *assumed), hidden)


def _listening(
    framework: Framework, command: Plain, plan: Plan, place: Place
) -> tuple[Plan, str, tuple[str, ...]]:
    """Find out where the engine behind a program of the user's listens: where its script has it, else at the
    port that the user tells, else at the default of the engine, which is said.

    Returns the plan, why the port is not known, and what is to be said.
    """
    if plan.said_port is not None or plan.traffic_port is None or framework.recognizes(command.argv):
        return plan, _hidden(command, plan), ()
    found = _in_script(framework, command, place)
    if found is not None:
        inner, known = found
        return _asked_like(plan, known), _hidden(inner, known), ()
    told = place(framework.name, command).traffic_port
    if told:
        return plan if told == plan.traffic_port else _asked_like(plan, Plan(argv=())), "", ()
    assumed = (
        f"UNIT_FRAMEWORK={framework.name}: no port can be read in {PurePosixPath(command.argv[0]).name}, so "
        f"the default {plan.traffic_port} is assumed; if the engine listens at another one, set "
        f"UNIT_TRAFFIC_PORT and UNIT_HEALTH_URL"
    )
    return plan, "", (assumed,)


def _in_script(framework: Framework, command: Plain, place: Place) -> tuple[Plain, Plan] | None:
    """Find the engine's plain command in a start script, and plan it; None where that cannot be done."""
    script = script_of(command.argv, command.folder)
    if script is None:
        return None
    try:
        inner = _inside(Plain(script.as_text, command.env, command.folder, tuple), framework)
        return inner, framework.plan(place(framework.name, inner), inner.argv, inner.env)
    except (UntoldError, ConfigurationError):
        return None


def _asked_like(plan: Plan, other: Plan) -> Plan:
    """Let a plan's engine be asked where another one's is."""
    return replace(plan, **{name: getattr(other, name) for name in _ASKED})


def _hidden(command: Plain, plan: Plan) -> str:
    """Say of a port that is no number how it is written, and why nobody knows it."""
    said = plan.said_port
    if said is None or plan.traffic_port or said.isdigit():
        return ""
    if UNTOLD in said:
        written = _spelling(command, said)
        return f"the port is {written}, which only the shell knows" if written else ""
    if said.startswith("$"):
        return f"the port is {said}, which no shell replaces here"
    if said and not said.startswith("-"):
        return "the port is no number"
    return f"the port is {_spelling(command, said) or 'a variable'}, which is unset or empty here"


def _spelling(command: Plain, said: str) -> str:
    """How a value is written in the text; behind a flag and "=", or as a word of its own."""
    if said in command.spelled and not said.startswith("-"):
        return command.spelled[said]
    behind = (text for word, text in command.spelled.items() if word.endswith(f"port={said}"))
    return next(behind, "").partition("=")[2]


def _handed_over(framework: Framework, command: Plain, plan: Plan) -> tuple[str, ...]:
    """Say who is given the flags of a named framework, where that is another program; one that drops them
    would start an engine of its own on each rank.
    """
    known = framework.name in _ANY_COMMAND or framework.recognizes(command.argv)
    if known or plan.argv == command.argv:
        return ()
    other = next((each.name for each in FRAMEWORKS if each.recognizes(command.argv)), "")
    if other:
        raise _useless(framework.name, f"it is {other}'s")
    program = PurePosixPath(command.argv[0]).name
    if drops_flags(command.argv, command.folder):
        raise _useless(framework.name, _lost(command))
    added = " ".join(plan.argv[len(command.argv) :])
    told = f"UNIT_FRAMEWORK={framework.name}: {program} is given {added} as its arguments"
    return (f"{told}, and has to hand them on to the engine",)


def _lost(command: Plain) -> str:
    script = script_of(command.argv, command.folder)
    name = PurePosixPath((script or command).argv[0]).name
    return f'the script {name} hands no arguments on (no "$@" is in it), so the flags would be lost'


def _is_known(argv: tuple[str, ...]) -> bool:
    return any(each.recognizes(argv) for each in FRAMEWORKS)


def _inside(command: Plain, framework: Framework | None) -> Plain:
    """Go into the shell's text, and into the one that it starts, to a command of ``framework`` or of any."""
    inner, outer = read(command.argv, command.env, command.folder, _is_known), command.rewritten
    found = replace(inner, rewritten=lambda words: outer(inner.rewritten(words)))
    if (framework.recognizes if framework else _is_known)(inner.argv):
        return found
    if not is_shell_text(inner.argv):
        raise UntoldError("the last command of its text is none that is known")
    return _inside(found, framework)


def _written(command: Plain, planned: tuple[str, ...], argv: tuple[str, ...]) -> tuple[str, ...]:
    return argv if planned == command.argv else command.rewritten(planned)


def _in_vain(framework: Framework, command: Plain, plan: Plan, argv: tuple[str, ...]) -> bool:
    if framework.name in _ANY_COMMAND or framework.recognizes(command.argv):
        return False
    return (plan.argv, plan.env, plan.health, plan.traffic_port) == (argv, {}, None, None)


def _unread(name: str, why: str) -> Completed:
    if name in _WRITTEN:
        raise _useless(name, why)
    said = f"COMMAND is left as it is: {why} (UNIT_FRAMEWORK={name})"
    remedy = f"; let an engine's command stand last in the text, under no condition, or {_BY_HAND}"
    return Completed(notices=(said + remedy * (name == "auto"),))


def _useless(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"UNIT_FRAMEWORK={name}: nothing of COMMAND could be completed: {why}; accepted is "
        f"`{_WRITTEN[name]} …`, by itself or as the last command of a shell's text, under no condition; or "
        f"set UNIT_FRAMEWORK=none and {_BY_HAND}"
    )
