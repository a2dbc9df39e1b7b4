"""May this person do that? Pure: the same question always gets the same answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from teleport_lite.access.traits import expand
from teleport_lite.access.verdict import Allowed, Refused, Verdict
from teleport_lite.model.labels import Labels, matches
from teleport_lite.model.lock import Lock, Target
from teleport_lite.model.names import LOGIN
from teleport_lite.model.user import (
    MAX_SESSION_TTL,
    HostUserMode,
    Options,
    RecordMode,
    Role,
    Rule,
    User,
)


def may_open_shell(
    roles: Sequence[Role], traits: dict[str, tuple[str, ...]], login: str, labels: Labels
) -> Verdict:
    """A deny anywhere wins. Otherwise one role must allow both the login and the labels."""
    for role in roles:
        denied = expand(role.deny.logins, traits)
        if _login_in(login, denied) and (
            not role.deny.node_labels or matches(role.deny.node_labels, labels)
        ):
            return Refused(f"role {role.name} denies login {login} here")
        if not role.deny.logins and matches(role.deny.node_labels, labels):
            return Refused(f"role {role.name} denies access to this host")
    for role in roles:
        if _login_in(login, expand(role.allow.logins, traits)) and matches(
            role.allow.node_labels, labels
        ):
            return Allowed(by=role.name)
    return Refused(f"no role allows login {login} here")


def may_reach(
    roles: Sequence[Role],
    traits: Mapping[str, tuple[str, ...]] | None,
    labels: Labels,
    login: str = "",
) -> Verdict:
    """May these roles know of a host with `labels`, as `login` or, without one, as anybody?

    For those who pass bytes on: the host itself asks `may_open_shell` again. `traits` is None
    where they are not known: then a template may stand for any login, and refuses none.
    """
    if traits is None:
        roles, traits = [_hopeful(role) for role in roles], {}
    known = dict(traits)
    if login:
        return may_open_shell(roles, known, login, labels)
    # "*" is asked as if it were a login: it is allowed where any is, unless all are denied.
    logins = expand((each for role in roles for each in role.allow.logins), known)
    verdicts = (may_open_shell(roles, known, each, labels) for each in logins)
    allowed = (verdict for verdict in verdicts if isinstance(verdict, Allowed))
    return next(allowed, Refused("no role allows any login here"))


def may_go_on(roles: Sequence[Role], labels: Labels) -> Verdict:
    """To a leaf cluster with `labels`. As long as nobody speaks of labels, everybody may."""
    said = any(role.allow.cluster_labels or role.deny.cluster_labels for role in roles)
    if roles and not said and not labels:
        return Allowed(by=roles[0].name)
    for role in roles:
        if matches(role.deny.cluster_labels, labels):
            return Refused(f"role {role.name} denies access to this cluster")
    for role in roles:
        if matches(role.allow.cluster_labels, labels):
            return Allowed(by=role.name)
    return Refused("no role allows this cluster")


def may_do(roles: Sequence[Role], resource: str, verb: str) -> Verdict:
    """Verbs: list, read, create, update, delete, use, rotate. A deny anywhere wins."""
    for role in roles:
        if _rule_hits(role.deny.rules, resource, verb):
            return Refused(f"role {role.name} denies {verb} on {resource}")
    for role in roles:
        if _rule_hits(role.allow.rules, resource, verb):
            return Allowed(by=role.name)
    return Refused(f"no role allows {verb} on {resource}")


def logins_of(user: User, roles: Sequence[Role]) -> tuple[str, ...]:
    """The logins a certificate for `user` may name: allowed somewhere, denied nowhere outright."""
    allowed = expand((login for role in roles for login in role.allow.logins), user.traits)
    denied = expand(
        (login for role in roles if not role.deny.node_labels for login in role.deny.logins),
        user.traits,
    )
    return tuple(
        login for login in allowed if LOGIN.fullmatch(login) and not _login_in(login, denied)
    )


def merged_options(roles: Sequence[Role]) -> Options:
    """Several roles at once: the shortest life, the smallest limit, the strictest rule for copies
    and recordings, any yes for the rest. `force_command` is that of `forced_command`, or none."""
    options = [role.options for role in roles] or [Options()]
    forced = {each.force_command for each in options} - {""}
    return Options(
        max_session_ttl=min(each.max_session_ttl for each in options),
        port_forwarding=any(each.port_forwarding for each in options),
        local_forwarding=any(each.port_forwarding and each.local_forwarding for each in options),
        remote_forwarding=any(each.port_forwarding and each.remote_forwarding for each in options),
        forward_agent=any(each.forward_agent for each in options),
        x11_forwarding=any(each.x11_forwarding for each in options),
        file_copy=all(each.file_copy for each in options),
        pin_source_ip=any(each.pin_source_ip for each in options),
        client_idle_timeout=min(
            filter(None, (each.client_idle_timeout for each in options)), default=timedelta()
        ),
        disconnect_expired_cert=any(each.disconnect_expired_cert for each in options),
        max_connections=min(filter(None, (each.max_connections for each in options)), default=0),
        max_sessions=min(filter(None, (each.max_sessions for each in options)), default=0),
        record_session=(
            RecordMode.STRICT
            if any(each.record_session is RecordMode.STRICT for each in options)
            else RecordMode.BEST_EFFORT
        ),
        create_host_user_mode=_host_user_mode(options),
        create_host_user_default_shell=next(
            filter(None, (each.create_host_user_default_shell for each in options)), ""
        ),
        force_command=forced.pop() if len(forced) == 1 else "",
    )


def forced_command(roles: Sequence[Role]) -> Verdict:
    """Refused if two roles force different commands: nobody knows which of them was meant."""
    forced = {role.options.force_command: role.name for role in roles if role.options.force_command}
    if len(forced) > 1:
        names = " and ".join(sorted(forced.values())[:2])
        return Refused(f"roles {names} force different commands")
    return Allowed(by=next(iter(forced.values()), "no role forces a command"))


def _host_user_mode(options: Sequence[Options]) -> HostUserMode | None:
    """Roles that do not say do not count; one that says off wins, then one that keeps."""
    said = {each.create_host_user_mode for each in options}
    order = (HostUserMode.OFF, HostUserMode.KEEP, HostUserMode.DROP)
    return next((mode for mode in order if mode in said), None)


def session_ttl(asked: timedelta, roles: Sequence[Role]) -> timedelta:
    """What is asked for, as far as the roles and the program allow."""
    return min(asked, merged_options(roles).max_session_ttl, MAX_SESSION_TTL)


def locked(locks: Iterable[Lock], now: datetime, **who: str | Iterable[str]) -> Verdict:
    """Refused if a lock in force names one of `who`: user=, role=(...), login=, node=, ..."""
    for lock in locks:
        values = who.get(lock.target.value, ())
        if lock.value in ((values,) if isinstance(values, str) else values) and lock.in_force(now):
            why = f": {lock.message}" if lock.message else ""
            return Refused(f"{_WORDS[lock.target]} {lock.value} is locked{why}")
    return Allowed(by="no lock")


_WORDS = {
    Target.USER: "user",
    Target.ROLE: "role",
    Target.LOGIN: "login",
    Target.NODE: "host",
    Target.BOT: "bot",
    Target.TOKEN: "join token",
}


def _hopeful(role: Role) -> Role:
    """A template may turn out to be any login; in a deny it is left out."""
    logins = tuple("*" if "{{" in each else each for each in role.allow.logins)
    return replace(role, allow=replace(role.allow, logins=logins))


def _login_in(login: str, patterns: Iterable[str]) -> bool:
    return any(pattern in (login, "*") for pattern in patterns)


def _rule_hits(rules: Iterable[Rule], resource: str, verb: str) -> bool:
    return any(
        (resource in rule.resources or "*" in rule.resources)
        and (verb in rule.verbs or "*" in rule.verbs)
        for rule in rules
    )
