"""Small rounds of replies.py and history.py; `python -m benchmarks.faults` has the long ones."""

from pathlib import Path

from tests.faults import history, replies
from tests.faults.report import run_small
from tests.faults.warm import Warm


def test_who_was_killed_off_before_the_reply_gets_its_certificate_and_nobody_else(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(replies.lost_replies, tmp_path, warm)


def test_a_token_works_until_a_second_before_its_end_and_not_a_second_after(
    tmp_path: Path, warm: Warm
) -> None:
    run_small(replies.expiry, tmp_path, warm)


def test_tokens_live_as_a_model_of_a_page_says(tmp_path: Path, warm: Warm) -> None:
    run_small(history.tokens, tmp_path, warm)
