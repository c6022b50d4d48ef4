"""`aws.sh create`: what it makes, once, and what it leaves alone."""

from typing import Any

import pytest

from tests.deploy.aws.account import Account, tags_of
from tests.deploy.aws.deployment import ME, Deployment

pytestmark = pytest.mark.long


def rules_of(group: dict[str, Any]) -> set[tuple[int, str]]:
    """The ports that a group opens, and for whom."""
    return {
        (rule["FromPort"], source)
        for rule in group["IpPermissions"]
        for source in [
            *(each["CidrIp"] for each in rule["IpRanges"]),
            *(each["GroupId"] for each in rule["UserIdGroupPairs"]),
        ]
    }


def ports_of(deployment: Deployment, *names: str) -> list[int]:
    return [int(deployment.ports[name]) for name in names]


def test_create_makes_two_instances_that_only_its_maker_can_reach(deployment: Deployment, account: Account) -> None:
    said = deployment.create()
    [group] = account.groups()
    line, memcached, ssh = ports_of(deployment, "LINE_PORT", "MEMCACHED_PORT", "SSH_PORT")
    assert rules_of(group) == {
        (ssh, ME), (line, ME), (memcached, ME), (line, group["GroupId"]), (memcached, group["GroupId"]),
    }  # fmt: skip
    server, client = account.instance("server"), account.instance("client")
    assert server["SubnetId"] == client["SubnetId"] == account.subnet
    for made in (server, client):
        assert made["State"]["Name"] == "running"
        assert made["InstanceType"] == "c7i.large"
        assert [each["GroupId"] for each in made["SecurityGroups"]] == [group["GroupId"]]
        assert made["InstanceId"] in said
        assert made["PublicIpAddress"] in said
    things = [group, server, client, *account.keys(), *account.volumes()]
    assert len(things) == 6
    assert [tags_of(thing)["memcache-kv-deployment"] for thing in things] == ["trial"] * 6
    assert "together: about $0.1903 an hour" in said
