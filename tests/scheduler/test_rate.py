"""The token bucket behind `tokensPerMinute`."""

from fairqueue_proxy.scheduler.rate import TokenBucket


def test_a_new_bucket_is_not_in_debt() -> None:
    assert TokenBucket(60, now=100.0).ready_at <= 100.0


def test_a_minutes_worth_can_be_taken_at_once() -> None:
    bucket = TokenBucket(60, now=100.0)
    bucket.take(60, now=100.0)
    assert bucket.ready_at == 100.0


def test_a_debt_is_paid_at_the_buckets_rate() -> None:
    bucket = TokenBucket(120, now=100.0)
    bucket.take(120 + 30, now=100.0)
    assert bucket.ready_at == 115.0


def test_debts_add_up() -> None:
    bucket = TokenBucket(60, now=0.0)
    bucket.take(70, now=0.0)
    bucket.take(5, now=3.0)
    assert bucket.ready_at == 15.0


def test_a_rest_saves_up_no_more_than_a_minutes_worth() -> None:
    bucket = TokenBucket(60, now=0.0)
    bucket.take(70, now=1000.0)
    assert bucket.ready_at == 1010.0


def test_tokens_can_be_put_back() -> None:
    bucket = TokenBucket(60, now=0.0)
    bucket.take(90, now=0.0)
    bucket.take(-20, now=5.0)
    assert bucket.ready_at == 10.0
