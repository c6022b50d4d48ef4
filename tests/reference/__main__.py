"""Write the pages of docs/reference that are made from the code."""

from tests.reference.pages import PAGES, page_path

for name, make in PAGES.items():
    page_path(name).write_text(make())
