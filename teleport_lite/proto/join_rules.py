"""`join_sessions` of role resources: whose sessions may be joined, and how."""

from teleport_lite.errors import Malformed
from teleport_lite.model.user import JoinMode, JoinRule
from teleport_lite.proto.doc import Doc, known, mapping, texts

# Roles written for Teleport are read; sessions of Kubernetes or with a moderator there are none.
KINDS = ("ssh", "k8s", "db", "*")
MODES = (*(mode.value for mode in JoinMode), "moderator", "*")


def join_rule_doc(rule: JoinRule) -> Doc:
    return {
        "name": rule.name,
        "roles": list(rule.roles),
        "kinds": list(rule.kinds),
        "modes": list(rule.modes),
    }


def read_join_rules(raw: object, where: str) -> tuple[JoinRule, ...]:
    """Raises Malformed. What is left out allows nothing, so it has to be there."""
    if not isinstance(raw, list):
        raise Malformed(f"{where} must be a list")
    return tuple(_rule(each, f"{where}[{at}]") for at, each in enumerate(raw))


def _rule(raw: object, where: str) -> JoinRule:
    block = mapping(raw, where)
    known(block, ("name", "roles", "kinds", "modes"), where)
    name = block.get("name", "")
    if not isinstance(name, str):
        raise Malformed(f"{where}.name must be text")
    found = {key: texts(block.get(key) or [], f"{where}.{key}") for key in ("roles", "kinds")}
    modes = texts(block.get("modes") or [], f"{where}.modes")
    for key, values in (*found.items(), ("modes", modes)):
        if not values:
            raise Malformed(f"{where}.{key} is missing, like {key}: {_EXAMPLES[key]}")
    _among(found["kinds"], KINDS, f"{where}.kinds")
    _among(modes, MODES, f"{where}.modes")
    return JoinRule(name=name, roles=found["roles"], kinds=found["kinds"], modes=modes)


_EXAMPLES = {"roles": "[access]", "kinds": "[ssh]", "modes": "[observer, peer]"}


def _among(values: tuple[str, ...], allowed: tuple[str, ...], where: str) -> None:
    for value in values:
        if value not in allowed:
            raise Malformed(f"{where}: {value[:40]!a} is not one of {', '.join(allowed)}")
