"""The page of alerts is what the tests say."""

from fairqueue_monitoring.rule_files import Rules
from monitoring.alerts_page import PAGE, page, seen_firing


def test_the_page_is_as_it_is_made() -> None:
    assert PAGE.read_text() == page(seen_firing()), "docs/alerts.md is not what `make monitoring` writes"


def test_every_alert_was_seen_firing_and_ending() -> None:
    assert set(seen_firing()["alerts"]) == {alert.name for alert in Rules().alerts}
