"""The gauges and counters that vLLM exports (0.32.0), without its histograms and without the process's own."""

from fairqueue_sim.exposition import Family, render
from fairqueue_sim.vllm_engine import VllmEngine

__all__ = ["vllm_metrics"]


def vllm_metrics(engine: VllmEngine) -> bytes:
    """The exposition text for now. Preempted requests count as waiting."""
    batch = engine.batch
    labels = f'engine="0",model_name="{engine.model_id}"'
    waiting = {f'{labels},reason="capacity"': batch.waiting, f'{labels},reason="deferred"': 0}
    rejected = {f'model_name="{engine.model_id}",reason="max_num_queued_reqs"': engine.admission_rejections}
    used = batch.kv_used_tokens / batch.capacity_tokens
    families: list[Family] = [
        ("vllm:num_requests_running", "gauge", {labels: batch.running}),
        ("vllm:num_requests_waiting", "gauge", {labels: batch.waiting}),
        ("vllm:num_requests_waiting_by_reason", "gauge", waiting),
        ("vllm:kv_cache_usage_perc", "gauge", {labels: used}),
        ("vllm:num_preemptions_total", "counter", {labels: batch.preemptions}),
        ("vllm:prompt_tokens_total", "counter", {labels: engine.prompt_tokens_total}),
        ("vllm:generation_tokens_total", "counter", {labels: engine.generation_tokens_total}),
        ("vllm:admission_rejections_total", "counter", rejected),
        ("vllm:cache_config_info", "gauge", {_cache_config(engine): 1}),
    ]
    return render(families)


def _cache_config(engine: VllmEngine) -> str:
    values = {
        "block_size": engine.limits.rules.block_tokens,
        "engine": 0,
        "kv_cache_size_tokens": engine.limits.kv_tokens,
        "num_gpu_blocks": engine.blocks,
    }
    return ",".join(f'{name}="{value}"' for name, value in values.items())
