"""Counts for Prometheus: of all workers, and with no label that a partner can choose."""

from types import SimpleNamespace

import pytest

from counterseal.errors import CharterDenied
from counterseal.gateway.metrics import Metrics
from counterseal.gateway.refusals import refusal

pytest.importorskip("prometheus_client")

SERVED = SimpleNamespace(ref=SimpleNamespace(id="c0" * 16))
OFFER = SimpleNamespace(model="scan", number="1.0.0")
NO = refusal(CharterDenied("no"), policy="limits.quotas[17]")


def lines(metrics):
    return metrics.text().decode().splitlines()


def test_what_was_answered_and_refused_is_counted():
    metrics = Metrics(None)
    metrics.answered(SERVED, OFFER, None, 2_000_000)
    metrics.answered(SERVED, OFFER, NO, 1_000_000)
    metrics.refused(SERVED, NO)
    metrics.refused(None, NO)
    metrics.shadow(OFFER, same=True)
    shown = lines(metrics)
    charter = "c0" * 16
    for name in (
        f'requests_total{{charter="{charter}",model="scan",outcome="permit"}} 1.0',
        f'requests_total{{charter="{charter}",model="scan",outcome="CharterDenied"}} 1.0',
        'refusals_total{policy="limits.quotas"} 1.0',
        'refusals_total{policy="none"} 1.0',
        'shadow_total{model="scan",same="true",version="1.0.0"} 1.0',
        f'request_seconds_bucket{{charter="{charter}",le="0.001"}} 1.0',
        f'request_seconds_bucket{{charter="{charter}",le="0.0025"}} 2.0',
        f'request_seconds_bucket{{charter="{charter}",le="+Inf"}} 2.0',
    ):
        assert f"counterseal_{name}" in shown


def test_places_in_a_charter_are_one_label_whatever_their_number():
    metrics = Metrics(None)
    for number in range(50):
        metrics.refused(SERVED, refusal(CharterDenied("no"), policy=f"limits.quotas[{number}]"))
    assert len([one for one in lines(metrics) if "refusals_total{" in one]) == 1


def test_any_worker_shows_the_sum_of_all(tmp_path):
    workers = [Metrics(tmp_path, number) for number in range(3)]
    for number, metrics in enumerate(workers):
        for _ in range(number + 1):
            metrics.answered(SERVED, OFFER, None, 1000)
        metrics.leave()
    name = f'counterseal_requests_total{{charter="{"c0" * 16}",model="scan",outcome="permit"}}'
    assert all(f"{name} 6.0" in lines(metrics) for metrics in workers)


def test_a_worker_that_is_being_replaced_is_left_out(tmp_path):
    (tmp_path / "7.json").write_bytes(b'{"requests": ')
    metrics = Metrics(tmp_path, 0)
    metrics.answered(SERVED, None, NO, 1000)
    assert any('model="none"' in one for one in lines(metrics))


def test_counts_are_nobody_elses(tmp_path):
    metrics = Metrics(tmp_path, 0)
    metrics.leave()
    assert (tmp_path / "0.json").stat().st_mode & 0o077 == 0


def test_what_no_detector_looked_at_is_shown_for_all_workers(tmp_path):
    first, second = Metrics(tmp_path, 0), Metrics(tmp_path, 1)
    first.dropped, second.dropped = 2, 3
    second.leave()
    assert "counterseal_rows_dropped_total 5.0" in lines(first)
