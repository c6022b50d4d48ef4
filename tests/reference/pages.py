"""Which pages are made from the code, and where they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.reference.api_page import api_page
from tests.reference.client_faults_page import client_faults_page
from tests.reference.differences import differences_page
from tests.reference.metrics_page import metrics_page
from tests.reference.settings_page import settings_page
from tests.reference.statistics_page import statistics_page

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "clients_under_faults.md": client_faults_page,
    "api.md": api_page,
    "differences.md": differences_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
    "statistics.md": statistics_page,
}


def page_path(name: str) -> Path:
    """Where a page is kept."""
    return REFERENCE / name
