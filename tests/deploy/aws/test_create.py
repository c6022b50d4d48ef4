"""`aws.sh create`: what it makes, once, and what it leaves alone."""

import os
import signal
from typing import Any

import pytest

from tests.deploy.aws.account import PROGRAMS, Account, tags_of
from tests.deploy.aws.deployment import ME, Deployment
from tests.deploy.aws.instance import write_program
from tests.deploy.aws.prices import PriceList
from tests.program import PATIENCE_SECONDS

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

A_STRANGER = "ResourceType={},Tags=[{{Key=memcache-kv-deployment,Value=another}},{{Key=Name,Value=trial-server}}]"
"""The tags of what belongs to somebody else."""


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
        assert [each["GroupId"] for each in made["NetworkInterfaces"][0]["Groups"]] == [group["GroupId"]]
        assert made["InstanceId"] in said
        assert made["PublicIpAddress"] in said
    things = [group, server, client, *account.key_pairs(), *account.volumes()]
    assert len(things) == 6
    assert [tags_of(thing)["memcache-kv-deployment"] for thing in things] == ["trial"] * 6
    assert "together: about $0.1903 an hour" in said


def test_create_again_makes_nothing_twice_and_sets_the_rules_anew(deployment: Deployment, account: Account) -> None:
    deployment.create()
    before = [account.key_pairs(), account.instances(), account.volumes()]
    [group] = account.groups()
    said = deployment.create()
    assert [account.key_pairs(), account.instances(), account.volumes()] == before
    assert account.groups() == [group]
    assert "made" not in said
    assert "cost" not in said

    deployment.configure(MY_ADDRESS="198.51.100.0/24")
    said = deployment.create()
    [after] = account.groups()
    line, memcached, ssh = ports_of(deployment, "LINE_PORT", "MEMCACHED_PORT", "SSH_PORT")
    assert {(port, who) for port, who in rules_of(after) if "/" in who} == {
        (port, "198.51.100.0/24") for port in (line, memcached, ssh)
    }
    assert "rules for other ports or addresses: removed 3" in said

    stopped = account.instance("client")["InstanceId"]
    account.ask("ec2", "stop-instances", "--instance-ids", stopped)
    assert f"client {stopped}: started again" in deployment.create()
    assert account.instance("client")["State"]["Name"] == "running"


def test_what_belongs_to_others_is_neither_used_nor_removed(deployment: Deployment, account: Account) -> None:
    [network] = {account.ask("ec2", "describe-subnets", "--subnet-ids", account.subnet)["Subnets"][0]["VpcId"]}
    theirs = Deployment(deployment.folder / "theirs", account, "theirs")
    theirs.create()
    account.ask("ec2", "create-volume", "--size", "8", "--availability-zone", "eu-central-1a",
                "--tag-specifications", A_STRANGER.format("volume"))  # fmt: skip
    account.ask(
        "ec2", "create-security-group", "--group-name", "trial-2", "--description", "no tags", "--vpc-id", network
    )
    account.ask(
        "ec2", "run-instances", "--image-id", "ami-12345678", "--tag-specifications", A_STRANGER.format("instance")
    )
    before = [account.key_pairs(), account.groups(), account.instances(), account.volumes()]

    deployment.create()
    deployment.run("teardown", "--yes")
    assert [account.key_pairs(), account.groups(), account.instances(), account.volumes()] == before


def test_a_group_or_a_key_of_that_name_which_is_not_ours_stops_create(deployment: Deployment, account: Account) -> None:
    [network] = {account.ask("ec2", "describe-subnets", "--subnet-ids", account.subnet)["Subnets"][0]["VpcId"]}
    account.ask("ec2", "create-security-group", "--group-name", "trial", "--description", "theirs", "--vpc-id", network)
    said = deployment.run("create", "--yes", status=1)
    assert "a security group trial is there that is not part of this deployment" in said
    assert "set another NAME" in said
    account.ask("ec2", "create-key-pair", "--key-name", "theirs")
    deployment.configure(KEY_NAME="theirs")
    said = deployment.run("create", "--yes", status=1)
    assert "a key pair theirs is there that is not part of this deployment" in said
    assert "set another KEY_NAME" in said
    assert account.instances() == []
    deployment.run("teardown", "--yes")
    assert [key["KeyName"] for key in account.key_pairs()] == ["theirs"]
    assert [group["GroupName"] for group in account.groups()] == ["trial"]


def test_a_key_file_that_was_lost_is_made_anew_only_while_no_instance_needs_it(
    deployment: Deployment, account: Account
) -> None:
    deployment.create()
    (deployment.folder / "key").unlink()
    said = deployment.run("create", "--yes", status=1)
    assert "were made with another key" in said
    assert "set KEY_FILE" in said
    account.ask("ec2", "terminate-instances", "--instance-ids", *(each["InstanceId"] for each in account.instances()))
    [before] = account.key_pairs()
    deployment.create()
    [after] = account.key_pairs()
    assert before["PublicKey"] != after["PublicKey"]
    assert len(account.instances()) == 2


def kill_after(deployment: Deployment, command: str, line: str, signum: int) -> tuple[int, str]:
    """Start a command, and send a signal to all its processes when it says a line; return status and what it said."""
    with deployment.start(command, "--yes") as process:
        assert process.stdout is not None
        said = ""
        while line not in said:
            piece = process.stdout.readline()
            assert piece, said
            said += piece
        os.killpg(process.pid, signum)
        return process.wait(PATIENCE_SECONDS), said + process.stdout.read()


@pytest.mark.parametrize(("line", "signum"), [("key pair trial: made", signal.SIGKILL), ("server i-", signal.SIGTERM)])
def test_an_interrupted_create_and_an_interrupted_teardown_go_on(
    deployment: Deployment, account: Account, line: str, signum: signal.Signals
) -> None:
    status, said = kill_after(deployment, "create", line, signum)
    assert status == (-signum if signum is signal.SIGKILL else 130), said
    deployment.create()
    assert [tags_of(each)["memcache-kv-role"] for each in account.instances()] == ["server", "client"]
    assert [len(account.key_pairs()), len(account.groups())] == [1, 1]
    kill_after(deployment, "teardown", "waiting until", signum)
    deployment.run("teardown", "--yes")
    assert [account.key_pairs(), account.groups(), account.instances(), account.volumes()] == [[], [], [], []]


def test_ctrl_c_while_an_instance_is_made_waits_for_it_and_teardown_finds_it(
    deployment: Deployment, account: Account
) -> None:
    calls = deployment.folder / "calls"
    write_program(
        deployment.folder / "bin" / "aws",
        f'#!/bin/sh\ncase "$*" in *run-instances*) echo "$*" >> {calls}; kill -INT 0;; esac\n'
        f'exec {PROGRAMS}/aws "$@"\n',
    )
    said = deployment.run("create", "--yes", status=130)
    assert "interrupted in the middle of create" in said
    assert "run create again to finish it" in said
    [group] = account.groups()
    assert f"--client-token server-{group['GroupId']} " in calls.read_text()
    assert [tags_of(each)["memcache-kv-role"] for each in account.instances()] == ["server"]
    assert "everything is gone" in deployment.run("teardown", "--yes")
    assert [account.key_pairs(), account.groups(), account.instances(), account.volumes()] == [[], [], [], []]


def test_the_price_is_said_and_asked_about(deployment: Deployment, account: Account) -> None:
    deployment.configure(SERVER_TYPE="x9z.metal", CLIENT_TYPE="t3.small", CLIENT_PRICE="0.5")
    said = deployment.run("create", status=1)
    assert "server, x9z.metal: price unknown" in said
    assert "client, t3.small: $0.5 an hour, by the configuration" in said
    assert "there is no terminal to ask on" in said
    assert "add --yes" in said
    assert [account.key_pairs(), account.groups(), account.instances()] == [[], [], []]


def test_the_price_list_of_aws_is_asked_first(deployment: Deployment) -> None:
    with PriceList("0.1020000000") as prices:
        said = deployment.run("create", status=1, AWS_ENDPOINT_URL_PRICING=prices.url)
    assert "server, c7i.large: $0.1020000000 an hour, by the AWS price list of today" in said
    assert "together: about $0.2158 an hour, $5.18 a day" in said
    filters = {each["Field"]: each["Value"] for each in prices.asked[0]["Filters"]}
    assert filters["regionCode"] == "eu-central-1"
    assert filters["instanceType"] == "c7i.large"
    assert filters["operatingSystem"] == "Linux"


def test_the_own_address_is_asked_of_aws(deployment: Deployment, account: Account) -> None:
    curl = deployment.folder / "bin" / "curl"
    write_program(curl, "#!/bin/sh\necho 203.0.113.99\n")
    deployment.configure(MY_ADDRESS="")
    deployment.create()
    [group] = account.groups()
    assert {who for _, who in rules_of(group) if "/" in who} == {"203.0.113.99/32"}
    write_program(curl, "#!/bin/sh\nexit 6\n")
    said = deployment.run("create", "--yes", status=1)
    assert "public address can't be found" in said
    assert "set MY_ADDRESS" in said


@pytest.mark.parametrize(
    ("settings", "variables", "error", "advice"),
    [
        (
            {},
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "Unable to locate credentials",
            "run aws configure",
        ),
        ({}, {"AWS_PROFILE": "nobody"}, "profile", "set AWS_PROFILE"),
        ({}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect", "check REGION"),
        ({"AMI_PARAMETER": "/no/such/image"}, {}, "ParameterNotFound", "AMI_PARAMETER"),
        ({"SUBNET_ID": "subnet-00000000"}, {}, "InvalidSubnetID.NotFound", "SUBNET_ID"),
    ],
)
def test_an_error_says_what_to_do(
    deployment: Deployment,
    account: Account,
    settings: dict[str, str],
    variables: dict[str, str],
    error: str,
    advice: str,
) -> None:
    deployment.configure(**settings)
    said = deployment.run("create", "--yes", status=1, AWS_MAX_ATTEMPTS="1", **variables)
    assert error in said
    assert advice in said
    assert account.instances() == []
