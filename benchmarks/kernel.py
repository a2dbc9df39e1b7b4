"""What security hangs on: the modules, area by area, and the tests that answer for them."""

from dataclasses import dataclass

# Words in the names of tests that ask a server of their own, or take seconds by design.
SLOW = ("sshd", "real_cost", "a_kill_at_any_step")


@dataclass(frozen=True, slots=True)
class Area:
    modules: tuple[str, ...]  # of some only a few functions: ONLY
    tests: tuple[str, ...]
    slow: tuple[str, ...] = SLOW


ONLY = {"store/changes.py": ("add_token", "remove_token", "spend_token", "sweep", "_did", "_count")}
AREAS = {
    "verifier": Area(
        (
            "pki/verify.py",
            "pki/ssh_cert.py",
            "pki/wire.py",
            "pki/source_address.py",
            "pki/visitor.py",
            "pki/foreign.py",
            "pki/proof.py",
            "pki/keys.py",
            "pki/pin.py",
        ),
        (
            "tests/pki/test_verify.py",
            "tests/pki/test_peer.py",
            "tests/pki/test_foreign.py",
            "tests/pki/test_proof.py",
            "tests/pki/test_ssh_cert.py",
            "tests/pki/test_source_address.py",
            "tests/pki/test_wire.py",
            "tests/pki/test_keys.py",
            "tests/pki/test_pin.py",
        ),
    ),
    "writer": Area(("pki/keyfile.py",), ("tests/pki/test_keyfile.py",)),
    "tokens": Area(
        (
            "auth/join.py",
            "auth/tokens.py",
            "auth/token_look.py",
            "auth/scram.py",
            "model/token.py",
        ),
        (
            "tests/auth/test_join.py",
            "tests/auth/test_join_order.py",
            "tests/auth/test_tokens.py",
            "tests/auth/test_limits.py",
            "tests/auth/test_renew.py",
            "tests/auth/test_trust.py",
            "tests/auth/test_rotation.py",
            "tests/auth/test_token_look.py",
            "tests/auth/test_scram.py",
            "tests/model/test_token.py",
        ),
    ),
    "store": Area(
        ("store/statements.py", "store/changes.py"),
        (
            "tests/store/test_contract.py",
            "tests/store/test_contract_clusters.py",
            "tests/store/test_sqlite.py",
        ),
        slow=(*SLOW, "postgres"),
    ),
    "routes": Area(
        ("auth/api.py", "auth/caller.py", "access/decide.py", "access/join.py"),
        (
            "tests/auth/test_api.py",
            "tests/auth/test_api_rights.py",
            "tests/auth/test_caller.py",
            "tests/auth/test_me.py",
            "tests/auth/test_sessions.py",
            "tests/access",
        ),
    ),
    "rotation": Area(
        ("auth/rotation.py", "auth/phases.py", "model/rotation.py"),
        (
            "tests/auth/test_phases.py",
            "tests/auth/test_rotation.py",
            "tests/auth/test_rotation_ticks.py",
            "tests/auth/test_rotation_auths.py",
            "tests/auth/test_rotation_thief.py",
            "tests/auth/test_rotation_walks.py",
        ),
    ),
    "mux": Area(
        ("net/peek.py", "net/proxy_header.py"),
        ("tests/net/test_peek.py", "tests/net/test_proxy_header.py"),
    ),
    "config": Area(
        (
            "config/yaml.py",
            "config/section.py",
            "config/load.py",
            "config/build.py",
            "config/override.py",
            "config/address.py",
            "config/path.py",
            "config/secret_place.py",
            "config/passphrase.py",
            "config/token_source.py",
            "config/conn_string.py",
            "config/services.py",
            "config/ssh_service.py",
            "config/proxy_service.py",
        ),
        ("tests/config",),
    ),
}
