"""The fairness lab: what a scheduler does with a workload, in virtual time.

The product's own scheduler, capacity and tenants stand before a model of an engine with continuous batching, beside
other schedulers inside such an engine.
"""
