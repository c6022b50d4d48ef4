"""The page about several nodes shows parts of the files of deploy/cluster/, as they are."""

from tests.deploy.cluster import FILES
from tests.deploy.test_hashing_clients import PAGE
from tests.pages import blocks_of

SHOWN = {"yaml": ["twemproxy.yaml"], "nginx": ["nginx.conf"], "lua": ["failover.lua", "replicate.lua"]}
"""The files of which the page shows parts, by the kind of block."""


def lines_of(text: str) -> str:
    """A text without indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def test_the_configurations_that_the_page_shows_are_parts_of_the_files() -> None:
    blocks = [block for block in blocks_of(PAGE) if block.kind in SHOWN]
    assert {block.kind for block in blocks} == set(SHOWN)
    for block in blocks:
        assert any(lines_of(block.text) in lines_of((FILES / name).read_text()) for name in SHOWN[block.kind]), block


def test_every_file_of_the_cluster_is_named_on_the_page() -> None:
    page = PAGE.read_text()
    shipped = {path.name for path in FILES.iterdir()} - {"twemproxy.Dockerfile"}
    assert {name for name in shipped if f"deploy/cluster/{name}" not in page} == set()
