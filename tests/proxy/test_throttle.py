"""How much one source may ask of pages that know secrets."""

from teleport_lite.proxy.throttle import BUDGET, MOST, PERIOD, REFUSAL, Throttle
from teleport_lite.testing.fakes import FakeClock


def test_a_guesser_is_stopped_after_some_tries_and_others_are_not():
    throttle = Throttle(FakeClock())
    tries = 0
    while throttle.take("192.0.2.1"):
        throttle.refused("192.0.2.1")
        tries += 1
    assert tries <= BUDGET / REFUSAL
    assert throttle.take("192.0.2.2")


def test_an_office_of_a_hundred_people_gets_its_pages():
    throttle = Throttle(FakeClock())
    assert all(throttle.take("192.0.2.1") for _ in range(200))


def test_it_is_over_after_a_while():
    clock = FakeClock()
    throttle = Throttle(clock)
    while throttle.take("192.0.2.1"):
        throttle.refused("192.0.2.1")
    clock.tick(seconds=PERIOD / BUDGET * 2)
    assert throttle.take("192.0.2.1")


def test_a_customer_with_many_ipv6_addresses_is_one():
    throttle = Throttle(FakeClock())
    while throttle.take("2001:db8::1"):
        throttle.refused("2001:db8::1")
    assert not throttle.take("2001:db8::ffff:1")
    assert throttle.take("2001:db8:0:1::1")


def test_what_is_remembered_is_bounded():
    throttle = Throttle(FakeClock())
    for number in range(MOST + 10):
        throttle.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(throttle._spent) == MOST
