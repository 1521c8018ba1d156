"""Panels about tenants: who is served, who waits, who is refused, who used how much."""

from typing import Final

from .alerts import PROXIES
from .grafana import GREEN, ORANGE, RED, Panel, Query, Row, View, bad_from, number
from .selecting import (
    COST_RATE,
    OF_PROXY,
    OF_TENANT,
    PROXY_NAME,
    TENANT_NAME,
    by_policy,
    by_tenant,
    rate,
    tenant_seconds,
)

_ABOVE_ALL: Final = bad_from(1.0)
_FIRING: Final = 'ALERTS{alertname=~"Fairqueue.*",alertstate="firing"}'


def now(runbooks_url: str) -> Row:
    """The state of things in numbers."""
    return Row("Now", (*_NUMBERS, _firing_alerts(runbooks_url), _TENANTS))


_NUMBERS: Final = (
    number("Alerts firing", "Alerts of fairqueue that fire.", f"count({_FIRING}) or vector(0)", steps=_ABOVE_ALL),
    number("Proxies", "Proxies that Prometheus reads.", f"sum(up{{{PROXIES}}})"),
    number(
        "Engines down",
        "Engines that their proxy finds not healthy.",
        f"sum(1 - fairqueue_engine_up{{{OF_PROXY}}})",
        steps=_ABOVE_ALL,
    ),
    number("Waiting", "Requests queued in the proxies.", f"sum(fairqueue_queue_requests{{{OF_TENANT}}})"),
    number("In the engine", "Requests let in and not ended.", f"sum(fairqueue_in_flight_requests{{{OF_TENANT}}})"),
    number(
        "Refused",
        "Largest share of a proxy's requests refused for lack of engine, over five minutes.",
        f"max(fairqueue:refused_requests:ratio5m{{{OF_PROXY}}})",
        unit="percentunit",
        steps=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
    ),
)


def _firing_alerts(runbooks_url: str) -> Panel:
    return Panel(
        "Firing alerts",
        "Each alert that fires, with where; its name leads to its runbook.",
        "short",
        (Query(_FIRING, "Value"),),
        View.TABLE,
        width=12,
        hidden=("Value", "__name__", "alertstate", "job"),
        link=("alertname", f"{runbooks_url}/${{__data.fields.alertname}}"),
    )


_TENANTS: Final = Panel(
    "Tenants",
    "Each tenant's weight, what it gets and what it waits for, over the chosen proxies.",
    "short",
    (
        Query(by_tenant(f"fairqueue_tenant_weight{{{OF_TENANT}}}", operation="max"), "Weight"),
        Query(by_tenant(rate("fairqueue_service_total", OF_TENANT)), "Served", unit=COST_RATE),
        Query(by_tenant(f"fairqueue_in_flight_requests{{{OF_TENANT}}}"), "In the engine"),
        Query(by_tenant(f"fairqueue_queue_requests{{{OF_TENANT}}}"), "Waiting"),
    ),
    View.TABLE,
    width=12,
)

_GAP: Final = by_policy(
    f"fairqueue_fairness_gap{{{OF_PROXY}}} / (fairqueue_fairness_bound{{{OF_PROXY}}} > 0)", "group", operation="max"
)

FAIRNESS: Final = Row(
    "Fairness: who is served, who waits",
    (
        Panel(
            "Served and entitled",
            "Cost units a second of each tenant; dashed: its weighted share while it has requests waiting.",
            COST_RATE,
            (
                Query(by_tenant(rate("fairqueue_service_total", OF_TENANT)), TENANT_NAME),
                Query(by_tenant(rate("fairqueue_entitled_service_total", OF_TENANT)), TENANT_NAME, dashed=True),
            ),
        ),
        Panel(
            "Requests waiting",
            "Requests queued in the proxy, by tenant.",
            "short",
            (Query(by_tenant(f"fairqueue_queue_requests{{{OF_TENANT}}}"), TENANT_NAME),),
        ),
        Panel(
            "Requests in the engine",
            "Requests let in and not ended, by tenant.",
            "short",
            (Query(by_tenant(f"fairqueue_in_flight_requests{{{OF_TENANT}}}"), TENANT_NAME),),
        ),
        Panel(
            "Time in the queue",
            "99 of 100 requests are let in sooner, as near as the buckets tell; dashed: the mean.",
            "s",
            tenant_seconds("fairqueue_queue_seconds"),
        ),
        Panel(
            "Time to the first token",
            "From arrival: 99 of 100 requests have it sooner, as near as the buckets tell; dashed: the mean.",
            "s",
            tenant_seconds("fairqueue_time_to_first_token_seconds"),
        ),
        Panel(
            "Fairness gap over its bound",
            "How far apart a group's waiting members are, as a part of what is promised: never above 100 %.",
            "percentunit",
            (Query(f'label_replace({_GAP}, "group", "(root)", "group", "")', "{{group}} ({{policy}}) {{cluster}}"),),
            most=1.2,
            steps=_ABOVE_ALL,
        ),
    ),
)
"""The main row; docs/dashboard.png is made of it."""

ENTITLEMENT: Final = Row(
    "Entitlement: what the alerts on fairness look at",
    (
        Panel(
            "Owed, over the bound",
            "What a tenant that waits got less than its share, over the bound: a fair order never owes twice that.",
            "percentunit",
            (Query(by_tenant(f"fairqueue:tenant_owed_to_bound:ratio{{{OF_TENANT}}}", operation="max"), TENANT_NAME),),
            width=12,
            steps=bad_from(2.0),
        ),
        Panel(
            "Time with requests waiting",
            "Share of time in which the tenant had a queued request that its own limits allow.",
            "percentunit",
            (Query(by_tenant(f"fairqueue:tenant_backlogged:ratio5m{{{OF_TENANT}}}", operation="max"), TENANT_NAME),),
            width=12,
            most=1.0,
        ),
    ),
)

_ENDED_OTHERWISE: Final = rate("fairqueue_requests_total", f'{OF_TENANT},outcome!="completed"')
_REFUSED: Final = rate("fairqueue_requests_total", f'{OF_TENANT},outcome!~"completed|client_gone|engine_error"')

REFUSALS: Final = Row(
    "Refusals",
    (
        Panel(
            "Requests that did not complete",
            "A second, by how they ended.",
            "reqps",
            (Query(f"sum by (outcome) ({_ENDED_OTHERWISE})", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Refused, by tenant",
            "Requests a second that fairqueue refused; those of nobody known have an empty name.",
            "reqps",
            (Query(by_tenant(_REFUSED), TENANT_NAME),),
            stacked=True,
        ),
        Panel(
            "Refused for lack of engine",
            "Share of a proxy's requests, over five minutes; dashed: over an hour.",
            "percentunit",
            (
                Query(f"fairqueue:refused_requests:ratio5m{{{OF_PROXY}}}", PROXY_NAME),
                Query(f"fairqueue:refused_requests:ratio1h{{{OF_PROXY}}}", PROXY_NAME, dashed=True),
            ),
            steps=bad_from(0.05),
        ),
        Panel(
            "Would have been refused",
            "Under mode Observe: requests a second that were relayed all the same, by the outcome they would have had.",
            "reqps",
            (
                Query(
                    by_tenant(rate("fairqueue_observed_refusals_total", OF_TENANT), "outcome"),
                    f"{{{{outcome}}}}: {TENANT_NAME}",
                ),
            ),
            width=12,
        ),
        Panel(
            "All requests, by tenant",
            "Requests that ended a second, however they did.",
            "reqps",
            (Query(by_tenant(rate("fairqueue_requests_total", OF_TENANT)), TENANT_NAME),),
            width=12,
        ),
    ),
)


def _tokens(title: str, text: str, kind: str) -> Panel:
    expression = by_tenant(rate("fairqueue_tokens_total", f'{OF_TENANT},kind="{kind}"'))
    return Panel(title, text, "suffix: tokens/s", (Query(expression, TENANT_NAME),), stacked=True)


TOKENS: Final = Row(
    "Tokens",
    (
        _tokens("Output", "Tokens made a second.", "output"),
        _tokens("Input, not cached", "Prompt tokens read a second.", "input"),
        _tokens("Input, cached", "Prompt tokens a second that the engine had in its cache.", "cached_input"),
        Panel(
            "Metering drift",
            "Output tokens charged only at the end, or given back then, as a share of all.",
            "percentunit",
            (Query(f"fairqueue:metering_drift:ratio15m{{{OF_PROXY}}}", PROXY_NAME),),
            width=12,
            steps=bad_from(0.05),
        ),
        Panel(
            "Events that could not be read",
            "Events of the engine a second that were passed on without being understood.",
            "cps",
            (Query(rate("fairqueue_malformed_events_total", OF_PROXY), PROXY_NAME),),
            width=12,
        ),
    ),
)
