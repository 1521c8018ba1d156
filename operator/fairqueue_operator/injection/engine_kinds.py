"""What the injector knows of each kind of engine: its port, and the options and variables by which it is told things.

Read in the sources of TGI 3.3, vLLM 0.32, SGLang 0.5 and llama.cpp's server. `$VLLM_PORT` and `$VLLM_HOST_IP` are left
alone: they are for vLLM's own processes.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that an engine is told: by any of these options (the first is the one to add), or by a variable."""

    options: tuple[str, ...] = ()
    variable: str | None = None

    def __bool__(self) -> bool:
        return bool(self.options) or self.variable is not None


@dataclass(frozen=True, slots=True)
class Listening:
    """How an engine is told where to listen."""

    host: Setting
    port: Setting


@dataclass(frozen=True, slots=True)
class EngineKind:
    default_port: int | None
    listening: Listening
    marks: tuple[str, ...] = ()
    """Parts of an image's or a program's name by which the engine is known."""
    batch: Setting = Setting()
    """The number of requests that it runs at once."""
    ranks: Setting = Setting()
    """With several data-parallel ranks, `batch` is the number of one of them and says nothing of the whole."""
    other_transport: tuple[Setting, ...] = ()
    """Told any of these, it does not listen for plain HTTP over TCP."""


# The launcher's own default is port 3000, but every published image sets PORT=80. Images since 2.3 start by a script
# that calls the launcher with the arguments as they are.
_TGI: Final = EngineKind(
    default_port=80,
    listening=Listening(Setting(("--hostname",), "HOSTNAME"), Setting(("--port", "-p"), "PORT")),
    marks=("text-generation", "tgi"),
)
_VLLM: Final = EngineKind(
    default_port=8000,
    listening=Listening(Setting(("--host",)), Setting(("--port",))),
    marks=("vllm",),
    batch=Setting(("--max-num-seqs",)),
    ranks=Setting(("--data-parallel-size", "-dp")),
    other_transport=(Setting(("--uds",)), Setting(("--ssl-keyfile",)), Setting(("--ssl-certfile",))),
)
_SGLANG: Final = EngineKind(
    default_port=30000,
    listening=Listening(Setting(("--host",)), Setting(("--port",))),
    marks=("sglang",),
    batch=Setting(("--max-running-requests",)),
    ranks=Setting(("--data-parallel-size", "--dp-size", "--dp")),
    other_transport=(Setting(("--ssl-keyfile",)), Setting(("--ssl-certfile",))),
)
_LLAMA_CPP: Final = EngineKind(
    default_port=8080,
    listening=Listening(Setting(("--host",), "LLAMA_ARG_HOST"), Setting(("--port",), "LLAMA_ARG_PORT")),
    marks=("llama.cpp", "llama-server", "llamacpp", "llama-cpp"),
    batch=Setting(("--parallel", "-np"), "LLAMA_ARG_N_PARALLEL"),
    other_transport=(
        Setting(("--ssl-key-file",), "LLAMA_ARG_SSL_KEY_FILE"),
        Setting(("--ssl-cert-file",), "LLAMA_ARG_SSL_CERT_FILE"),
    ),
)
_OPENAI: Final = EngineKind(default_port=None, listening=Listening(Setting(), Setting()))

ENGINE_KINDS: Final = {"TGI": _TGI, "VLLM": _VLLM, "SGLang": _SGLANG, "LlamaCpp": _LLAMA_CPP, "OpenAI": _OPENAI}
