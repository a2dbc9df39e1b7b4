"""TLS from elsewhere: who is believed, and what is said when one is not."""

import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from teleport_lite.agent.join import Keys, hello_of, identity_of
from teleport_lite.auth.caller import Caller, Kind
from teleport_lite.auth.desks import Desks
from teleport_lite.cli.tctl.parcel import Parcel
from teleport_lite.cli.tctl.shape import Shape
from teleport_lite.client import identity_file
from teleport_lite.client.admin import AdminClient
from teleport_lite.client.find import Places, Wish, find
from teleport_lite.client.transport import Transport
from teleport_lite.errors import Denied, Unauthenticated, Unavailable
from teleport_lite.model.authority import CaType
from teleport_lite.model.system_role import AUTH
from teleport_lite.net.tls import server_context
from tests.cli import real_auth
from tests.cli.fake_auth import FakeAuth, running, running_tls
from tests.cli.real_auth import CLUSTER

ROOT = Caller(kind=Kind.ADMIN, name="root", address="local")


def context_of(desks: Desks) -> ssl.SSLContext:
    """What the auth service of `desks` shows, and whom it lets in."""
    keys = Keys.new()
    hello = hello_of(keys, node_name="auth-1", roles=(AUTH,), host_id="", principals=())
    identity = identity_of(desks.local.admit(hello, (AUTH,)), keys)
    cas = [*desks.cas.tls(CaType.HOST), *desks.cas.tls(CaType.USER)]
    return server_context(identity.tls_cert, identity.tls_private, cas)


@contextmanager
def auth_of(desks: Desks) -> Iterator[str]:
    with running_tls(context_of(desks)) as (fake, address):
        real_auth.put_behind(fake, desks)
        yield address


def alice_of(desks: Desks, directory: Path) -> Path:
    """An identity file, as `tctl auth sign` on the auth host makes it."""
    parcel = Parcel(str(directory / "alice"), Shape.FILE, overwrite=True)
    with running(directory / "s") as fake:
        real_auth.put_behind(fake, desks)
        admin = AdminClient(
            Transport(find(Wish(data_dir=str(directory)), _places(fake, directory)))
        )
        admin.add_user("alice", roles=["access"], logins=["root"])
        signed = admin.sign_user(user="alice", ttl="1h", **parcel.request("alice"))
    parcel.write(signed)
    return directory / "alice"


def _places(fake: FakeAuth, directory: Path) -> Places:
    assert fake.asked == []
    (directory / "auth.sock").symlink_to(directory / "s")
    return Places(home=directory / ".tsh")


@pytest.fixture
def directory() -> Iterator[Path]:

    with tempfile.TemporaryDirectory(prefix="tl") as made:
        yield Path(made)


def ask(identity: Path, address: str) -> str:
    wish = Wish(identity=str(identity), auth_servers=(address,))
    return AdminClient(Transport(find(wish))).status().text("cluster")


def test_an_identity_file_is_enough_to_ask_from_elsewhere(directory: Path) -> None:
    desks = real_auth.desks()
    with auth_of(desks) as address:
        assert ask(alice_of(desks, directory), address) == CLUSTER


def test_another_cluster_at_the_address_is_refused_and_named(directory: Path) -> None:
    identity = alice_of(real_auth.desks(), directory)
    evil = real_auth.desks(cluster="evil.example.com")
    with auth_of(evil) as address, pytest.raises(Denied) as caught:
        ask(identity, address)
    assert caught.value.message.startswith(
        f"{address} is not the auth service of cluster {CLUSTER}, which {identity} is for: "
    )


def test_an_expired_certificate_asks_for_a_login(directory: Path) -> None:
    desks = real_auth.desks(real_auth.Late(timedelta(hours=2)))
    expired = pytest.raises(Unauthenticated, match="your certificate has expired")
    with auth_of(desks) as address, expired:
        ask(alice_of(desks, directory), address)


def test_a_certificate_of_somebody_else_is_refused_in_words(directory: Path) -> None:
    desks, other = real_auth.desks(), real_auth.desks()
    stranger = identity_file.load(alice_of(other, directory))
    mixed = identity_file.IdentityFile(
        cluster=stranger.cluster,
        ssh_private=stranger.ssh_private,
        ssh_cert=stranger.ssh_cert,
        tls_private=stranger.tls_private,
        tls_cert=stranger.tls_cert,
        ssh_host_cas=stranger.ssh_host_cas,
        host_cas=tuple(desks.cas.tls(CaType.HOST)),
    )
    (directory / "alice").write_bytes(identity_file.write(mixed))
    refused = pytest.raises(Unauthenticated, match="does not accept your certificate")
    with auth_of(desks) as address, refused:
        ask(directory / "alice", address)


def test_something_that_is_not_tls_is_named(directory: Path) -> None:
    identity = alice_of(real_auth.desks(), directory)
    with socket.create_server(("127.0.0.1", 0)) as server:
        banner = threading.Thread(target=_ssh_banner, args=(server,))
        banner.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unavailable, match="does not speak our TLS"):
            ask(identity, address)
        banner.join()


def _ssh_banner(server: socket.socket) -> None:
    wire, _ = server.accept()
    with wire:
        wire.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        wire.recv(4096)


def test_nobody_there_names_the_address(directory: Path) -> None:
    identity = alice_of(real_auth.desks(), directory)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(Unavailable, match=address):
        ask(identity, address)
