"""What a launcher does with the signals that tell it to stop."""

import signal

import pytest

from ostrakon.common.lifetime import STOPPING
from ostrakon.deploy.stopping import Stop, Stopped


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_ends_what_is_going_on_and_is_the_status(number: signal.Signals, status: int) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with Stop() as stop:
        assert stop.status == 0
        with pytest.raises(Stopped):
            try:
                signal.raise_signal(number)
            except Exception:  # a user's task, which takes everything
                raise AssertionError("taken") from None
        stop.note()
        for other in STOPPING:
            signal.raise_signal(other)  # from now on they are kept
        assert (stop.signal, stop.status) == (number, status)
    assert [signal.getsignal(each) for each in STOPPING] == before


def test_a_signal_that_was_ignored_before_is_not_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
