from datetime import timedelta

import pytest
from workshop import AT

from counterseal.errors import QuotaExceeded
from counterseal.exchange.transports.https import rates
from counterseal.exchange.transports.https.rates import Buckets, Rate

SECOND = timedelta(seconds=1)


def buckets(**rate):
    return Buckets(Rate(**rate), what="requests")


def test_a_burst_is_granted_and_then_the_rate():
    bucket = buckets(count=2, seconds=1, burst=3)
    for _ in range(3):
        bucket.take("lab", at=AT)
    with pytest.raises(QuotaExceeded, match="too many requests") as caught:
        bucket.take("lab", at=AT)
    assert caught.value.retry_at == AT + SECOND / 2
    bucket.take("lab", at=caught.value.retry_at)
    with pytest.raises(QuotaExceeded):
        bucket.take("lab", at=caught.value.retry_at)


def test_who_keeps_asking_is_not_punished_further():
    bucket = buckets(count=1, seconds=1, burst=1)
    bucket.take("lab", at=AT)
    for _ in range(10):
        with pytest.raises(QuotaExceeded) as caught:
            bucket.take("lab", at=AT)
        assert caught.value.retry_at == AT + SECOND


def test_everybody_has_a_bucket_of_their_own():
    bucket = buckets(count=1, seconds=1, burst=1)
    bucket.take("lab", at=AT)
    bucket.take("clinic", at=AT)


def test_a_clock_set_back_locks_nobody_out_for_long():
    bucket = buckets(count=1, seconds=1, burst=2)
    bucket.take("lab", at=AT + timedelta(days=365))
    with pytest.raises(QuotaExceeded) as caught:
        bucket.take("lab", at=AT)
    assert caught.value.retry_at <= AT + 2 * SECOND


def test_what_is_empty_is_forgotten(monkeypatch):
    monkeypatch.setattr(rates, "KEYS", 10)
    bucket = buckets(count=1, seconds=1, burst=1)
    for number in range(100):
        bucket.take(str(number), at=AT + number * SECOND * 2)
    assert len(bucket._empty_at) <= 11
