"""Simulated model servers and workloads, to try fair scheduling without a GPU.

An engine in a test:

    async with running_engine("tgi", profile="tiny", slots=4) as engine:
        ...  # speak HTTP to engine.url; look at engine.model and engine.truth
"""

from fairqueue_sim.batching import ContinuousBatch
from fairqueue_sim.engine import EngineSettings
from fairqueue_sim.generation import BatchLimits, FinishReason, Generation, GenerationState, Step
from fairqueue_sim.profiles import ModelProfile, UnknownProfileError, load_profile, profile_names
from fairqueue_sim.running import ENGINE_KINDS, EngineKind, RunningEngine, running_engine, start_engine
from fairqueue_sim.step_log import StepLog
from fairqueue_sim.truth import Outcome, RequestTruth, TruthLog

__all__ = [
    "ENGINE_KINDS",
    "BatchLimits",
    "ContinuousBatch",
    "EngineKind",
    "EngineSettings",
    "FinishReason",
    "Generation",
    "GenerationState",
    "ModelProfile",
    "Outcome",
    "RequestTruth",
    "RunningEngine",
    "Step",
    "StepLog",
    "TruthLog",
    "UnknownProfileError",
    "load_profile",
    "profile_names",
    "running_engine",
    "start_engine",
]
