"""An empty account, and a deployment in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.aws.account import Account
from tests.deploy.aws.deployment import Deployment


@pytest.fixture(scope="session")
def shared_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with Account(tmp_path_factory.mktemp("moto") / "log") as made:
        yield made


@pytest.fixture
def account(shared_account: Account) -> Account:
    """An account without anything in it."""
    shared_account.empty()
    return shared_account


@pytest.fixture
def deployment(account: Account, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path, account) as made:
        yield made
