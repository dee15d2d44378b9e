"""Progress and cancel as one small object."""

from __future__ import annotations

import pytest

from sfumato.errors import CancelledError
from sfumato.progress import CancelFlag, Progress, Step


def test_steps_go_to_the_listener() -> None:
    heard: list[Step] = []
    Progress(heard.append).step("drawing", 1, 20)
    assert heard == [Step("drawing", 1, 20)]


def test_a_cancelled_step_is_not_reported() -> None:
    heard: list[Step] = []
    progress = Progress(heard.append)
    progress.cancel.set()
    with pytest.raises(CancelledError):
        progress.step("drawing", 1, 20)
    assert heard == []


def test_check_raises_only_when_the_user_said_stop() -> None:
    flag = CancelFlag()
    progress = Progress(cancel=flag)
    progress.check()
    flag.set()
    with pytest.raises(CancelledError):
        progress.check()


def test_the_silent_one_reports_to_nobody() -> None:
    Progress.silent().step("drawing", 1, 20)


def test_who_waits_for_the_flag_is_called_once() -> None:
    flag, heard = CancelFlag(), []
    flag.when_set(lambda: heard.append("early"))
    assert heard == []
    flag.set()
    flag.set()
    flag.when_set(lambda: heard.append("late"))
    assert heard == ["early", "late"]
    assert flag.is_set()
