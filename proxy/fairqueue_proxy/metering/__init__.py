"""Counts the tokens of replies as they pass, exactly where the engine allows it.

Pure: bytes in, bytes and counts out. No I/O, no clock, no knowledge of tenants or queues.
"""

from fairqueue_proxy.metering.input_only import InputOnlyMeter
from fairqueue_proxy.metering.llamacpp import LlamaNativeMeter, LlamaOpenAiMeter
from fairqueue_proxy.metering.messages import MessagesMeter
from fairqueue_proxy.metering.meter import Meter
from fairqueue_proxy.metering.openai import OpenAiMeter
from fairqueue_proxy.metering.other import OtherMeter
from fairqueue_proxy.metering.responses import ResponsesMeter
from fairqueue_proxy.metering.sglang import SglangMeter, SglangNativeMeter
from fairqueue_proxy.metering.sse import EventSplitter, OpaquePiece
from fairqueue_proxy.metering.tgi import TgiChatMeter, TgiCompletionsMeter, TgiNativeMeter
from fairqueue_proxy.metering.tgi_vertex import TgiVertexMeter
from fairqueue_proxy.metering.usage import EngineError, ErrorKind, Usage
from fairqueue_proxy.metering.vllm import VllmMeter

__all__ = [
    "EngineError",
    "ErrorKind",
    "EventSplitter",
    "InputOnlyMeter",
    "LlamaNativeMeter",
    "LlamaOpenAiMeter",
    "MessagesMeter",
    "Meter",
    "OpaquePiece",
    "OpenAiMeter",
    "OtherMeter",
    "ResponsesMeter",
    "SglangMeter",
    "SglangNativeMeter",
    "TgiChatMeter",
    "TgiCompletionsMeter",
    "TgiNativeMeter",
    "TgiVertexMeter",
    "Usage",
    "VllmMeter",
]
