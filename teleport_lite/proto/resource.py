"""Resources as documents, the form `tctl get` prints and `tctl create` reads.

Every document has kind, version, metadata{name, ...} and spec. Readers are strict: an unknown
key is an error that names it, because a misspelt `deny` must not become "denies nothing".
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from teleport_lite.errors import Malformed
from teleport_lite.model.authority import CaKeys
from teleport_lite.model.host import Host, Report, Resource, presence
from teleport_lite.model.labels import check_labels, check_pattern
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.names import RESOURCE_NAME, USER_NAME, checked
from teleport_lite.model.token import JoinToken
from teleport_lite.model.user import Condition, Role, Rule, User
from teleport_lite.proto.doc import Doc, known, mapping, texts
from teleport_lite.proto.join_rules import join_rule_doc, read_join_rules
from teleport_lite.proto.role_options import options_doc, read_options


def moment(when: datetime | None) -> str | None:
    """RFC 3339 in UTC, whole seconds, or null."""
    if when is None:
        return None
    return when.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def read_moment(text: object, what: str) -> datetime:
    """Raises Malformed; a time without a zone is refused rather than guessed."""
    shown = ascii(str(text)[:40])
    try:
        when = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        if when.tzinfo is None:
            raise Malformed(f"{what} {shown} has no time zone, like 2030-01-31T12:00:00Z")
        return when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed(f"{what} {shown} is not a time like 2030-01-31T12:00:00Z") from None


# --- documents from nouns


def role_doc(role: Role) -> Doc:
    labels = {"teleport.internal/resource-type": "preset"} if role.preset else {}
    return _doc(
        "role",
        "v7",
        {"name": role.name, "labels": labels},
        {
            "options": options_doc(role.options),
            "allow": _condition_doc(role.allow),
            "deny": _condition_doc(role.deny),
        },
    )


def user_doc(user: User) -> Doc:
    traits = {key: list(values) for key, values in user.traits.items()}
    spec: Doc = {"roles": list(user.roles), "traits": traits}
    if user.bot:
        spec["bot"] = True
    return _doc("user", "v2", {"name": user.name, "created": moment(user.created_at)}, spec)


def token_doc(token: JoinToken) -> Doc:
    spec: Doc = {"roles": list(token.roles), "join_method": "token"}
    if token.bot_name:
        spec["bot_name"] = token.bot_name
    meta = {
        "name": token.text.reveal(),
        "labels": dict(token.labels),
        "expires": moment(token.expires_at),
    }
    return _doc("token", "v2", meta, spec)


def lock_doc(lock: Lock) -> Doc:
    spec = {
        "target": {lock.target.value: lock.value},
        "message": lock.message,
        "created_at": moment(lock.created_at),
        "created_by": lock.created_by,
        "expires": moment(lock.expires_at),
    }
    return _doc("lock", "v2", {"name": lock.id}, spec)


def node_doc(host: Host, report: Report, now: datetime) -> Doc:
    meta = {"name": host.id, "labels": dict(report.labels)}
    spec = {
        "addr": report.address,
        "hostname": host.name,
        "version": report.version,
        "roles": list(host.roles),
    }
    return _doc("node", "v2", meta, spec) | {"status": _presence_doc(report, now)}


def host_doc(host: Host, report: Report, now: datetime) -> Doc:
    """Any machine that has joined, whatever its roles."""
    spec = {
        "hostname": host.name,
        "roles": list(host.roles),
        "joined_at": moment(host.joined_at),
        "token_id": host.token_id,
        "version": report.version,
    }
    return _doc("host", "v1", {"name": host.id, "labels": dict(report.labels)}, spec) | {
        "status": _presence_doc(report, now)
    }


def auth_server_doc(host: Host, report: Report, now: datetime) -> Doc:
    """As Teleport has it: a host, and where its auth service listens."""
    spec = {"addr": report.auth, "hostname": host.name, "version": report.version}
    return _doc("auth_server", "v2", {"name": host.id}, spec) | {
        "status": _presence_doc(report, now)
    }


def resource_doc(host: Host, report: Report, resource: Resource, now: datetime) -> Doc:
    meta = {"name": resource.name, "labels": dict(resource.labels)}
    ours = {"host_id": host.id, "hostname": host.name, "version": report.version}
    spec = {**resource.spec, **ours}  # in this order: a host speaks for itself alone
    return _doc(resource.kind, "v3", meta, spec) | {"status": _presence_doc(report, now)}


def ca_doc(keys: CaKeys, cluster: str) -> Doc:
    """Public halves only; private keys have no form here at all."""
    spec = {
        "type": keys.type.value,
        "cluster_name": cluster,
        "ssh_public_key": keys.public.ssh_key,
        "tls_certificate": keys.public.tls_cert,
        "jwt_public_key": keys.public.jwt_key,
        "active": keys.active,
        "last_rotated": moment(keys.last_rotated),
    }
    return _doc("cert_authority", "v2", {"name": f"{keys.type.value}/{cluster}"}, spec)


def _presence_doc(report: Report, now: datetime) -> Doc:
    return {
        "state": presence(report, now).value,
        "last_seen": moment(report.last_seen),
        "clock_skew_seconds": round(report.skew, 1) + 0.0,  # no -0.0
    }


def _doc(kind: str, version: str, metadata: Doc, spec: Doc) -> Doc:
    return {"kind": kind, "version": version, "metadata": metadata, "spec": spec}


def _condition_doc(condition: Condition) -> Doc:
    doc: Doc = {}
    if condition.logins:
        doc["logins"] = list(condition.logins)
    for key in ("node_labels", "cluster_labels"):
        if patterns := getattr(condition, key):
            doc[key] = {name: list(values) for name, values in patterns.items()}
    if condition.rules:
        doc["rules"] = [
            {"resources": list(rule.resources), "verbs": list(rule.verbs)}
            for rule in condition.rules
        ]
    if condition.join_sessions:
        doc["join_sessions"] = [join_rule_doc(rule) for rule in condition.join_sessions]
    for key in ("host_groups", "host_sudoers"):
        if values := getattr(condition, key):
            doc[key] = list(values)
    return doc


# --- nouns from documents


def kind_of(doc: object) -> str:
    """The `kind` of something somebody sent us, or Malformed."""
    if not isinstance(doc, dict) or not isinstance(doc.get("kind"), str):
        raise Malformed("resource has no kind, like kind: role")
    return str(doc["kind"])


def role_from_doc(doc: Doc) -> Role:
    name, spec = _opened(doc, "role", ("options", "allow", "deny"))
    labels = mapping(doc["metadata"].get("labels") or {}, "role.metadata.labels")
    return Role(
        name=name,
        preset=labels.get("teleport.internal/resource-type") == "preset",
        options=read_options(spec.get("options") or {}),
        allow=_condition(spec.get("allow") or {}, f"role {name}: allow"),
        deny=_condition(spec.get("deny") or {}, f"role {name}: deny"),
    )


def user_from_doc(doc: Doc) -> User:
    name, spec = _opened(doc, "user", ("roles", "traits", "bot"))
    checked(USER_NAME, name, "user name", example="alice")
    traits = mapping(spec.get("traits") or {}, f"user {name}: traits")
    if not isinstance(spec.get("bot", False), bool):
        raise Malformed(f"user {name}: bot must be true or false")
    return User(
        name=name,
        roles=texts(spec.get("roles") or [], f"user {name}: roles"),
        traits={key: texts(value, f"user {name}: {key}") for key, value in traits.items()},
        bot=spec.get("bot") is True,
    )


def lock_from_doc(doc: Doc) -> Lock:
    name, spec = _opened(doc, "lock", ("target", "message", "created_at", "created_by", "expires"))
    target = mapping(spec.get("target") or {}, "lock.spec.target")
    if len(target) != 1:
        raise Malformed(f"lock {name}: target needs exactly one of {_targets()}")
    [(word, value)] = target.items()
    if word not in {each.value for each in Target} or not isinstance(value, str) or not value:
        raise Malformed(f"lock {name}: target {str(word)[:40]!a} is not one of {_targets()}")
    expires, created = spec.get("expires"), spec.get("created_at")
    return Lock(
        id=name,
        target=Target(word),
        value=value,
        message=str(spec.get("message") or ""),
        created_at=read_moment(created, "created_at")
        if created
        else datetime.fromtimestamp(0, UTC),
        created_by=str(spec.get("created_by") or ""),
        expires_at=read_moment(expires, "expires") if expires else None,
    )


def token_parts(doc: Doc) -> tuple[str, tuple[str, ...], str | None, dict[str, str], str]:
    """Of a token document: value, role words, expiry as written, labels, bot name."""
    name, spec = _opened(doc, "token", ("roles", "join_method", "bot_name"))
    if spec.get("join_method", "token") != "token":
        raise Malformed(f"token: join_method {spec['join_method']!a} is not supported, token is")
    expires = doc["metadata"].get("expires")
    labels = mapping(doc["metadata"].get("labels") or {}, "token.metadata.labels")
    return (
        name,
        texts(spec.get("roles") or [], "token: roles"),
        None if expires is None else str(expires),
        check_labels({str(key): str(value) for key, value in labels.items()}),
        str(spec.get("bot_name") or ""),
    )


def _targets() -> str:
    return ", ".join(each.value for each in Target)


def _opened(doc: Doc, kind: str, allowed: Iterable[str]) -> tuple[str, Doc]:
    known(doc, ("kind", "version", "metadata", "spec", "status", "sub_kind"), kind)
    meta = mapping(doc.get("metadata") or {}, f"{kind}.metadata")
    known(
        meta,
        ("name", "labels", "description", "expires", "created", "revision", "namespace"),
        f"{kind}.metadata",
    )
    name = meta.get("name")
    if not isinstance(name, str):
        raise Malformed(f"{kind} has no metadata.name")
    checked(RESOURCE_NAME, name, f"{kind} name", example="dev")
    spec = mapping(doc.get("spec") or {}, f"{kind}.spec")
    known(spec, tuple(allowed), f"{kind} {name}: spec")
    return name, spec


_CONDITION_KEYS = (
    "logins",
    "node_labels",
    "cluster_labels",
    "rules",
    "host_groups",
    "host_sudoers",
    "join_sessions",
)


def _condition(raw: object, where: str) -> Condition:
    block = mapping(raw, where)
    known(block, _CONDITION_KEYS, where)
    rules = block.get("rules") or []
    if not isinstance(rules, list):
        raise Malformed(f"{where}.rules must be a list")
    return Condition(
        logins=texts(block.get("logins") or [], f"{where}.logins"),
        node_labels=_patterns(block, "node_labels", where),
        cluster_labels=_patterns(block, "cluster_labels", where),
        rules=tuple(_rule(rule, where) for rule in rules),
        host_groups=texts(block.get("host_groups") or [], f"{where}.host_groups"),
        host_sudoers=texts(block.get("host_sudoers") or [], f"{where}.host_sudoers"),
        join_sessions=read_join_rules(block.get("join_sessions") or [], f"{where}.join_sessions"),
    )


def _patterns(block: Doc, name: str, where: str) -> dict[str, tuple[str, ...]]:
    labels = mapping(block.get(name) or {}, f"{where}.{name}")
    return {
        key: tuple(map(check_pattern, texts(value, f"{where}.{name}.{key}")))
        for key, value in labels.items()
    }


def _rule(raw: object, where: str) -> Rule:
    block = mapping(raw, f"{where}.rules")
    known(block, ("resources", "verbs"), f"{where}.rules")
    return Rule(
        resources=texts(block.get("resources") or [], f"{where}.rules.resources"),
        verbs=texts(block.get("verbs") or [], f"{where}.rules.verbs"),
    )
