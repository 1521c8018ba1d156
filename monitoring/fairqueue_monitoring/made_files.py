"""Every file that is made of code, by its path in the repository."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .dashboard import FILE_NAME, dashboard_config_map, dashboard_file
from .metrics_page import metrics_page
from .rule_files import Rules, prometheus_rule, rule_file

ROOT: Final = Path(__file__).resolve().parents[2]
_NAMESPACE: Final = "fairqueue-system"
_MANIFESTS: Final = ROOT / "manifests" / "monitoring"
_COMPONENT: Final = ROOT / "manifests" / "components" / "monitoring"


def made_files(rules: Rules) -> dict[Path, str]:
    """What `make monitoring` writes."""
    return {
        **rule_files(rules, _MANIFESTS),
        _COMPONENT / "rules.yaml": prometheus_rule(rules, _NAMESPACE),
        _MANIFESTS / FILE_NAME: dashboard_file(rules.runbooks_url),
        _COMPONENT / "dashboard.yaml": dashboard_config_map(rules.runbooks_url, _NAMESPACE),
        ROOT / "docs" / "metrics.md": metrics_page(rules),
    }


def write(files: Mapping[Path, str]) -> list[Path]:
    """Makes folders where they are missing; returns the paths. Raises OSError."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)


def rule_files(rules: Rules, folder: Path) -> dict[Path, str]:
    """Those that proxies alone give reason for, and those that need operator and injector."""
    return {
        folder / "fairqueue-proxies.rules.yaml": rule_file(rules.proxy_groups()),
        folder / "fairqueue-kubernetes.rules.yaml": rule_file(rules.kubernetes_groups()),
    }
