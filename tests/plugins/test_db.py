"""The db role announces the databases of db_service, and refuses what none can be."""

import pytest
from teleport_lite_db.section import PROTOCOLS

from teleport_lite.model.host import Resource
from tests.plugins.makers import announce, keys, refusal

ORDERS = {"name": "orders", "protocol": "postgres", "uri": "localhost:5432"}


def test_a_database_is_announced_with_what_people_need_to_find_it():
    said = {**ORDERS, "description": "sales", "static_labels": {"env": "prod"}}
    assert announce("Db", databases=[said]) == (
        Resource(
            kind="db_server",
            name="orders",
            labels={"env": "prod"},
            spec={"protocol": "postgres", "uri": "localhost:5432", "description": "sales"},
        ),
    )


def test_no_databases_are_nothing_to_show():
    assert announce("Db") == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_is_taken(protocol):
    [database] = announce("Db", databases=[{**ORDERS, "protocol": protocol}])
    assert database.spec["protocol"] == protocol


@pytest.mark.parametrize(
    ("protocol", "cause"),
    [
        ("postgress", "'postgress' is not known, did you mean postgres"),
        ("Postgres", "'Postgres' is not known, did you mean postgres"),
        ("xyz", "'xyz' is not known, one of postgres, mysql,"),
        ("", "is missing, one of postgres"),
    ],
)
def test_an_unknown_protocol_is_refused_and_the_key_named(protocol, cause):
    message = refusal("Db", databases=[ORDERS, {**ORDERS, "name": "b", "protocol": protocol}])
    assert message.startswith("db_service.databases[1].protocol ")
    assert cause in message


@pytest.mark.parametrize(
    "uri",
    [
        "localhost:5432",
        "[::1]:3306",
        "mongodb+srv://cluster.example.net",
        "https://abc.snowflakecomputing.com",
        "rediss://redis.example.com:6379?mode=cluster",
    ],
)
def test_every_kind_of_uri_is_taken(uri):
    [database] = announce("Db", databases=[{**ORDERS, "uri": uri}])
    assert database.spec["uri"] == uri


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("", "is missing, expected host:port, like localhost:5432"),
        ("localhost", "'localhost' is not host:port"),
        (":5432", "is not host:port"),
        ("localhost:postgres", "has a host or port that is none"),
        ("localhost:70000", "has a host or port that is none"),
        ("postgres://app:hunter2@localhost:5432", "must not hold a user name or password"),
        ("app:hunter2@localhost:5432", "must not hold a user name or password"),
    ],
)
def test_a_wrong_uri_is_refused_and_the_key_named(uri, cause):
    message = refusal("Db", databases=[{**ORDERS, "uri": uri}])
    assert message.startswith("db_service.databases[0].uri ")
    assert cause in message
    assert "hunter2" not in message


def test_a_database_needs_a_name():
    assert refusal("Db", databases=[{**ORDERS, "name": ""}]).startswith(
        "db_service.databases[0].name is missing"
    )


def test_two_databases_of_one_name_are_refused():
    assert refusal("Db", databases=[ORDERS, ORDERS]) == (
        "db_service.databases[1].name 'orders' is given twice"
    )


def test_the_section_takes_every_key_people_know():
    assert keys("Db") == {"resources", "aws", "azure", "databases"}
    assert keys("Db", "databases", "tls") == {
        "mode",
        "server_name",
        "ca_cert_file",
        "trust_system_cert_pool",
    }
    more = {"admin_user", "mysql", "aws", "gcp", "ad", "azure", "oracle", "mongo_atlas"}
    assert more | {"static_labels", "dynamic_labels"} <= keys("Db", "databases")
