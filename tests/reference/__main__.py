"""Write docs/reference/settings.md and docs/reference/statistics.md."""

from tests.reference.pages import PAGES, page_path

for name, make in PAGES.items():
    page_path(name).write_text(make())
