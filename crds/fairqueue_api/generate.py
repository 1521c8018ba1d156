"""Writes what is made from the models: the CRD beside the package, and the table of fields in the documentation.

Run in a checkout, as `make crd` does: `python -m fairqueue_api.generate`.
"""

from pathlib import Path

from .crd import manifest_yaml
from .reference import with_table

_ROOT = Path(__file__).parents[2]
CRD_FILE = _ROOT / "crds" / "fairnesspolicies.fairqueue.dev.yaml"
PAGE = _ROOT / "docs" / "policy.md"


def main() -> None:
    """Both files at once; each only after its new text is whole."""
    crd, page = manifest_yaml(), with_table(PAGE.read_text(encoding="utf-8"))
    CRD_FILE.write_text(crd, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
