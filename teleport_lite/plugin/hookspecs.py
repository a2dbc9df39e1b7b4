"""The hooks, one per extension point. Signatures are promises: add, never change.

Each docstring has the same form, and `tests/plugin/test_hookspecs.py` holds us to it.
`docs/plugins.md` repeats every signature, and a test compares the two.
"""

from collections.abc import Mapping, Sequence

import pluggy

from teleport_lite.model.host import Resource
from teleport_lite.model.system_role import SystemRole

PROJECT = "teleport_lite"

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def teleport_lite_system_roles() -> Sequence[SystemRole]:
    """Say which roles this plugin brings, how people write them and what their tokens may do.

    Runs in:   every process that reads the config file or knows token types, once, while it
               starts. Never per request.
    Returns:   roles whose names, flags, aliases and sections no other plugin uses; a clash
               stops start-up and names both.
    Raises:    anything; start-up stops and names the plugin.
    Given:     nothing. The answer may depend on neither the machine nor the config file.
    Not given: CA keys, the stores, tokens, the network.
    Example:   plugins/db
    """
    return ()


@hookspec
def teleport_lite_announce(  # the body of a specification is its docstring
    role: str,  # noqa: ARG001  # see above
    settings: Mapping[str, object],  # noqa: ARG001  # see above
) -> Sequence[Resource] | None:
    """Say what this process shows to the cluster in `role`, as `tctl get` will list it.

    Runs in:   a process that has `role`, once, while it starts, before it joins.
    Returns:   resources of the kind the role announces, names unique; None for "not mine".
    Raises:    Malformed naming the key of a wrong setting, Denied for "mine, and no";
               anything else stops start-up as Unavailable and names the plugin.
    Given:     the canonical name of a role that this plugin brought, and that role's section
               of the config file as `SystemRole.fields` typed it; {} when it is absent.
    Not given: other sections, the host's keys, the token, the cluster's state.
    Example:   plugins/windowsdesktop
    """
    return None


@hookspec
def teleport_lite_wrap_key(
    key: bytes,  # noqa: ARG001  # see above
    settings: Mapping[str, object],  # noqa: ARG001  # see above
) -> bytes | None:
    """Have a key encrypted by a service that keeps keys; the keyring's file is sealed under it.

    Runs in:   the auth role and `tctl keyring`, each time the file is written. Never per request.
    Returns:   what `teleport_lite_unwrap_key` needs to give the key back, 1 to 8,192 bytes; None
               for "not mine".
    Raises:    Denied or Unavailable in words for the administrator, they pass as they are;
               anything else becomes Unavailable and names the plugin.
    Given:     32 random bytes; `plugins.settings` of this plugin, {} when absent. Only the plugin
               that `teleport.storage.keyring_plugin` names is asked. It may wait for the network,
               and nothing starts meanwhile: it sets a time limit itself.
    Not given: the keyring, the stores, other plugins' settings.
    Example:   tests/plugin/keeper
    """
    return None


@hookspec
def teleport_lite_unwrap_key(
    wrapped: bytes,  # noqa: ARG001  # see above
    settings: Mapping[str, object],  # noqa: ARG001  # see above
) -> bytes | None:
    """Have a key decrypted that `teleport_lite_wrap_key` of the same plugin has wrapped.

    Runs in:   the auth role and `tctl keyring`, each time the file is read: at the start, and
               when something is sealed under a key that is not known yet.
    Returns:   the 32 bytes; None for "not mine". They are checked by what they open.
    Raises:    as `teleport_lite_wrap_key`. Unavailable stops the start, and systemd tries again.
    Given:     what was returned for it; `plugins.settings` of this plugin, {} when absent.
    Not given: the keyring, the stores, other plugins' settings.
    Example:   tests/plugin/keeper
    """
    return None
