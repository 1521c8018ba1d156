"""Counts the tokens of replies as they pass, exactly where the engine allows it.

Pure: bytes in, bytes and counts out. No I/O, no clock, no knowledge of tenants or queues.
"""

from fairqueue_proxy.metering.llamacpp import LlamaNativeMeter, LlamaOpenAiMeter
from fairqueue_proxy.metering.meter import Meter
from fairqueue_proxy.metering.openai import OpenAiMeter
from fairqueue_proxy.metering.sse import EventSplitter, OpaquePiece
from fairqueue_proxy.metering.tgi import TgiChatMeter, TgiCompletionsMeter, TgiNativeMeter
from fairqueue_proxy.metering.usage import EngineError, ErrorKind, Usage

__all__ = [
    "EngineError",
    "ErrorKind",
    "EventSplitter",
    "LlamaNativeMeter",
    "LlamaOpenAiMeter",
    "Meter",
    "OpaquePiece",
    "OpenAiMeter",
    "TgiChatMeter",
    "TgiCompletionsMeter",
    "TgiNativeMeter",
    "Usage",
]
