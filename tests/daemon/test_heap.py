"""What is here at the start is looked through once, and never again; descriptors enough."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from teleport_lite.daemon.heap import settle
class Ring: pass
gc.disable()
ring = Ring()
ring.me, watch = ring, weakref.ref(ring)
del ring
before = gc.get_threshold()
settle()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert watch() is None, "what nobody holds was kept"
assert gc.get_threshold()[0] > before[0]
assert gc.get_threshold()[1:] == before[1:]
"""


def test_a_process_that_has_started_keeps_what_it_has_and_nothing_else() -> None:
    """In a process of its own, for it can not be taken back."""
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


RAISE = """
import resource
from teleport_lite.daemon.heap import raise_descriptors
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
raise_descriptors()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert hard == most
assert soft == (min(most, 1 << 20) if most > 0 else 1 << 20), soft
"""


def test_a_daemon_takes_all_the_descriptors_it_may_have() -> None:
    subprocess.run([sys.executable, "-c", RAISE], check=True, timeout=60)
