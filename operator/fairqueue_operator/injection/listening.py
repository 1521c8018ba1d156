"""Where an engine listens: reading it from its container, and telling it another address and port."""

from typing import Final

from fairqueue_api.models import Engine
from fairqueue_api.models import Listen as ListenField

from .command_line import CommandLine
from .engine_kinds import EngineKind, Listening, Setting
from .environment import Environment
from .names import Json
from .reasons import Reason, Refused
from .shells import has_script_in_sight, leaves_variables_alone, script_of

LOOPBACK: Final = "127.0.0.1"
_HIGHEST_PORT: Final = 65_535


def how_to_tell(engine: Engine, kind: EngineKind) -> Listening:
    """What the policy says, else what the kind is known for."""
    return kind.listening if engine.listen is None else _as_told(engine.listen)


def _as_told(listen: ListenField) -> Listening:
    def setting(option: str | None, variable: str | None) -> Setting:
        return Setting((option,) if option else (), variable or None)

    return Listening(setting(listen.host_arg, listen.host_env), setting(listen.port_arg, listen.port_env))


def listening_port(container: Json, engine: Engine, kind: EngineKind) -> int:
    """The port that clients know: the policy's, else the engine's argument, variable, or default. Raises `Refused`."""
    told = _told_port(container, how_to_tell(engine, kind).port, must_be_known=engine.port is None)
    if engine.port is not None:
        if told not in (None, engine.port):
            raise Refused(Reason.PORT_UNCLEAR, f"the policy says {engine.port}, container {container['name']} {told}")
        return engine.port
    if told is not None:
        return told
    if kind.default_port is None:
        raise Refused(Reason.BAD_POLICY, "spec.engine.port is required for kind OpenAI")
    return _trusted_default(container, kind, kind.default_port)


def _told_port(container: Json, setting: Setting, must_be_known: bool) -> int | None:
    line, environment = CommandLine(container), Environment(container)
    if line.has(setting.options):
        where, text = f"option {setting.options[0]}", line.value(setting.options)
    elif setting.variable is not None and setting.variable in environment:
        where, text = f"variable {setting.variable}", environment.value(setting.variable)
    else:
        return None
    if text is not None and text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _HIGHEST_PORT:
        return int(text)
    if must_be_known:
        raise Refused(Reason.UNKNOWN_VALUE, f"{where} of container {container['name']}")
    return None


def _trusted_default(container: Json, kind: EngineKind, default: int) -> int:
    """The default holds if the container declares it, or if nothing is there that could say otherwise."""
    declared = [port["containerPort"] for port in container.get("ports", []) if port.get("protocol", "TCP") == "TCP"]
    variable = kind.listening.port.variable
    may_be_set = script_of(CommandLine(container)) is not None or (
        variable is not None and Environment(container).has_unseen
    )
    if default in declared or not (declared or may_be_set):
        return default
    ports = ", ".join(str(port) for port in declared) or "no port"
    raise Refused(
        Reason.PORT_UNCLEAR,
        f"container {container['name']} declares {ports}, and the engine's default is {default}",
    )


def refuse_other_transports(container: Json, kind: EngineKind) -> None:
    line, environment = CommandLine(container), Environment(container)
    for setting in kind.other_transport:
        if line.has(setting.options) or (setting.variable is not None and setting.variable in environment):
            raise Refused(Reason.NOT_PLAIN_HTTP, f"{setting.options[0]} in container {container['name']}")


def tell(container: Json, kind: EngineKind, listening: Listening, port: int) -> None:
    """Has the engine listen on 127.0.0.1 and `port`, and nowhere else. Raises `Refused`."""
    if not listening.host or not listening.port:
        raise Refused(Reason.LISTEN_MISSING, f"container {container['name']}")
    line = CommandLine(container)
    script = script_of(line)
    if script is not None and not _by_variables_alone(line, script, kind, listening):
        raise Refused(Reason.SHELL_COMMAND, f"container {container['name']}")
    # What is there is replaced first: the last word may be an option that still wants its value.
    values = ((listening.host, LOOPBACK), (listening.port, str(port)))
    untold = [(setting, value) for setting, value in values if not _retell(container, setting, value)]
    for setting, value in untold:
        if not line.words:
            raise Refused(Reason.ARGS_IN_IMAGE, f"container {container['name']}")
        line.append(setting.options[0], value)


def _by_variables_alone(line: CommandLine, script: str, kind: EngineKind, listening: Listening) -> bool:
    if listening.host.variable is None or listening.port.variable is None:
        return False
    if listening is not kind.listening:
        # The policy names the variables, and its author knows the script.
        return not line.has((*listening.host.options, *listening.port.options))
    return has_script_in_sight(line.words) and leaves_variables_alone(script, kind, listening)


def _retell(container: Json, setting: Setting, value: str) -> bool:
    """Changes what the engine is told already, or is told by a variable. False: an option must be added."""
    # An option is stronger than a variable with every engine: where it is there, it must be replaced.
    replaced = CommandLine(container).replace(setting.options, value)
    if setting.variable is not None:
        Environment(container).set(setting.variable, value)
    return replaced or setting.variable is not None
