"""The discovery role announces what it would look for, and refuses what it could not."""

from datetime import timedelta

import pytest

from teleport_lite.model.host import Resource
from tests.plugins.makers import announce, keys, refusal


def test_what_is_looked_for_is_announced_under_the_name_of_the_group():
    shown = announce(
        "Discovery",
        discovery_group="production",
        poll_interval=timedelta(minutes=10),
        aws=[{"types": ("ec2", "rds")}, {"types": ("rds", "eks")}],
        kubernetes=[{"types": ("app",)}],
    )
    assert shown == (
        Resource(
            kind="discovery",
            name="production",
            spec={"aws": "ec2,rds,eks", "kubernetes": "app", "poll_interval": "10m0s"},
        ),
    )


def test_without_a_group_and_an_interval_there_are_defaults():
    [shown] = announce("Discovery", gcp=[{"types": ("gce",)}])
    assert (shown.name, shown.spec["poll_interval"]) == ("default", "5m0s")


def test_no_matchers_are_nothing_to_show():
    assert announce("Discovery", discovery_group="production") == ()


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp", "kubernetes"])
def test_an_unknown_type_is_refused_and_the_key_named(cloud):
    message = refusal("Discovery", **{cloud: [{"types": ("ec3",)}]})
    assert message.startswith(f"discovery_service.{cloud}[0].types 'ec3' is not known, one of ")


def test_a_matcher_without_types_is_refused():
    assert refusal("Discovery", aws=[{"regions": ("eu-west-1",)}]).startswith(
        "discovery_service.aws[0].types is missing, one or more of ec2"
    )


def test_clouds_are_not_asked_more_than_once_a_minute():
    message = refusal("Discovery", poll_interval=timedelta(seconds=59), gcp=[{"types": ("gce",)}])
    assert message == "discovery_service.poll_interval must be at least 1m"


def test_the_section_takes_every_key_people_know():
    assert keys("Discovery") == {
        "discovery_group",
        "poll_interval",
        "aws",
        "azure",
        "gcp",
        "kubernetes",
        "access_graph",
    }
    assert {"types", "regions", "tags", "install", "ssm"} <= keys("Discovery", "aws")
