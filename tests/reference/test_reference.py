"""The pages that are made from the code are up to date, and the defaults that the help states are the real ones."""

import pytest

from memcache_kv.config.options import OPTIONS, Option
from memcache_kv.config.settings import Settings
from tests.reference.pages import PAGES, page_path
from tests.reference.settings_page import stated_default
from tests.reference.tables import UndescribedError, check_described

NOT_FIXED = {"threads", "listen", "stats-delimiter", "journal", "shards", "max-items", "connection-memory"}
"""Options whose default is in words."""
FIELDS = {"listen-backlog": "backlog", "protocol": "binding_protocol"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert page_path(name).read_text() == PAGES[name](), "python -m tests.reference writes it anew"


STATED = [option for option in OPTIONS if stated_default(option) and option.name not in NOT_FIXED]


@pytest.mark.parametrize("option", STATED, ids=lambda option: option.name)
def test_a_default_that_the_help_states_is_the_default(option: Option) -> None:
    stated = stated_default(option).replace(";", ",").partition(",")[0]
    assert option.convert(stated) == getattr(Settings(), FIELDS.get(option.name, option.field))


def test_most_defaults_are_held() -> None:
    assert len(STATED) > 12


@pytest.mark.parametrize(("names", "fault"), [(["a"], "described, and not in the code: b"), (["a", "b", "c"], "c")])
def test_what_is_not_described_or_gone_is_named(names: list[str], fault: str) -> None:
    with pytest.raises(UndescribedError, match=fault):
        check_described(names, {"a": "", "b": ""}, "settings")
