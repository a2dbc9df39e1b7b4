"""Waiting ends with time, a wish to renew or a wish to stop, and no signal is lost."""

import signal
import threading

import pytest

from teleport_lite.cli.tbot.wake import Signals, Wake


def send(number: signal.Signals) -> None:
    """To this thread alone: the test runner has others, which block nothing."""
    signal.pthread_kill(threading.get_ident(), number)


@pytest.mark.parametrize(
    ("number", "wake"),
    [
        (signal.SIGUSR1, Wake.RENEW),
        (signal.SIGHUP, Wake.RENEW),
        (signal.SIGTERM, Wake.STOP),
        (signal.SIGINT, Wake.STOP),
    ],
)
def test_a_signal_that_came_while_nobody_waited_ends_the_next_wait(number, wake):
    with Signals() as signals:
        send(number)
        assert signals.wait(60) is wake


def test_without_a_signal_time_ends_the_wait():
    with Signals() as signals:
        assert signals.wait(0.01) is Wake.TIME
        assert signals.wait(-1) is Wake.TIME


def test_afterwards_signals_are_what_they_were():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with Signals():
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
