"""What holds for all tests."""

import signal

# Whoever starts us in the background may ignore ^C, and so would every program that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
