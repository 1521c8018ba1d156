"""How the dashboard's queries choose: by its variables `$policy`, `$tenant` and `$instance` (the proxies of these
policies), and over Grafana's own `$__rate_interval`.

Tenants of several policies are kept apart by the label `policy`, which only `fairqueue_config_info` has, and by
`cluster`, where one Prometheus has several.
"""

from string import Template
from typing import Final

from .grafana import Query

OF_PROXY: Final = 'instance=~"$instance"'
OF_TENANT: Final = f'{OF_PROXY},tenant=~"$tenant"'

# On Kubernetes pods have names; elsewhere there is only the address.
PROXY_NAME: Final = "{{pod}} {{instance}}"
TENANT_NAME: Final = "{{tenant}} ({{policy}}) {{cluster}}"

COST_RATE: Final = "suffix: cost units/s"

_POLICIES: Final = 'max by (cluster, job, instance, policy) (fairqueue_config_info{policy=~"$policy"})'


def filled(expression: str, *, rate_interval: str, policy: str = ".+", instance: str = ".+", tenant: str = ".*") -> str:
    """An expression as Grafana sends it, with values in place of variables; by itself with all there are."""
    values = {"policy": policy, "instance": instance, "tenant": tenant, "__rate_interval": rate_interval}
    return Template(expression).substitute(values)


def rate(metric: str, matchers: str = "") -> str:
    """A counter's growth in a second."""
    return f"rate({metric}{{{matchers}}}[$__rate_interval])" if matchers else f"rate({metric}[$__rate_interval])"


def by_policy(expression: str, *labels: str, operation: str = "sum") -> str:
    """By cluster, policy and these labels, over all proxies that the expression has."""
    by = ", ".join(("cluster", "policy", *labels))
    return f"{operation} by ({by}) (\n{expression}\n* on (cluster, job, instance) group_left (policy)\n{_POLICIES})"


def by_tenant(expression: str, *more: str, operation: str = "sum") -> str:
    """By cluster, policy and tenant, and `more` labels."""
    return by_policy(expression, "tenant", *more, operation=operation)


def tenant_seconds(histogram: str) -> tuple[Query, Query]:
    """Of each tenant's requests: what 99 of 100 stay below, and, dashed, the mean.

    The mean is exact. With the few buckets that there are the median is a guess: half of the waits between 15 and 60
    seconds would be said to be above 37.
    """
    total, number = (by_tenant(rate(f"{histogram}_{part}", OF_TENANT)) for part in ("sum", "count"))
    buckets = by_tenant(rate(f"{histogram}_bucket", OF_TENANT), "le")
    return _seconds(buckets, f"{total} / {number}", TENANT_NAME)


def all_seconds(histogram: str, legend: str) -> tuple[Query, Query]:
    """The same of a histogram without tenants."""
    total, number = (f"sum({rate(f'{histogram}_{part}')})" for part in ("sum", "count"))
    return _seconds(f"sum by (le) ({rate(f'{histogram}_bucket')})", f"{total} / {number}", legend)


def _seconds(buckets: str, mean: str, legend: str) -> tuple[Query, Query]:
    return Query(f"histogram_quantile(0.99, {buckets})", legend), Query(mean, legend, dashed=True)
