"""What comes before all other imports of a zygote.

Paramiko and msgspec do without these, or only show their version. They bring asyncio, email and
a hundred more, and every page in a zygote has to be accounted for in each of its forks.
"""

import gc
import os
import sys
import types

# What else there is may be a secret, like the token of `--token=env:NAME`, or is meant for one
# process only, like NOTIFY_SOCKET of sd_notify(3).
ENV = ("PATH", "LANG", "LC_ALL", "TZ", "JOURNAL_STREAM")


def leave_out() -> None:
    """These are not there, or are as good as empty. The collector is off until nursery.live."""
    gc.disable()
    sys.modules.update(dict.fromkeys(["invoke", "typing_extensions"]))  # type: ignore[arg-type]
    # A module to all who ask, and no more than they ask for.
    sys.modules["importlib.metadata"] = types.SimpleNamespace(  # type: ignore[assignment]
        version=lambda _name: ""
    )


def clean_env() -> None:
    """For whoever comes after us: libraries, PAM's modules, and what those start."""
    for name in set(os.environ).difference(ENV):
        del os.environ[name]
