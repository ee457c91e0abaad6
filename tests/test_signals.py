"""Signals: at once, or when a step is done; a second Ctrl-C always at once."""

from __future__ import annotations

import os
import signal

import pytest

from bertexp.signals import STOPPING, Interrupted, Signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_raised_at_once_with_its_exit_code(number: int) -> None:
    with Signals(), pytest.raises(Interrupted) as caught:
        send(number)
    assert caught.value.code == 128 + number


@pytest.mark.parametrize("number", STOPPING)
def test_a_deferred_signal_waits_for_the_check(number: int) -> None:
    with Signals() as signals:
        with signals.deferred():
            signals.check()
            send(number)
            assert signals.received == number
            with pytest.raises(Interrupted) as caught:
                signals.check()
        assert caught.value.code == 128 + number


@pytest.mark.parametrize("first", STOPPING)
def test_a_second_control_c_does_not_wait(first: int) -> None:
    with Signals() as signals, signals.deferred():
        send(first)
        with pytest.raises(Interrupted) as caught:
            send(signal.SIGINT)
        assert caught.value.code == 130


def test_a_schedulers_second_signal_waits_too() -> None:
    with Signals() as signals, signals.deferred():
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        send(signal.SIGUSR1)
        with pytest.raises(Interrupted) as caught:
            signals.check()
        assert caught.value.code == 128 + signal.SIGUSR1


def test_what_a_process_was_started_to_ignore_it_ignores() -> None:
    # `nohup`, and `&` in a script.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as signals:
        send(signal.SIGHUP)
        signals.check()
    signal.signal(signal.SIGHUP, before)


def test_signals_are_what_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in STOPPING] == before
