"""Deadlines of batches, as callers of both surfaces name them: the job behind a batch has them."""

import datetime
import time
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from . import messages
from .house import House, chat, make, upload, wait

HOUR = 3_600.0
NEAR = 60.0
"""Seconds that a test may take from its call to its job."""
pytestmark = pytest.mark.timeout(120)


def deadline_of(at: House) -> float | None:
    """That of the only job."""
    (job,) = at.service.jobs()
    return job.deadline


@pytest.mark.parametrize(
    ("window", "header", "hours"),
    [("2h", None, 2), ("90m", None, 1.5), ("24h", "3h", 3), ("2h", "5h", 5), ("24h", None, None)],
)
def test_a_shorter_window_or_the_header_is_the_deadline_of_the_job_at_openais(
    house: Callable[..., House], window: Any, header: str | None, hours: float | None
) -> None:
    at = house()
    client = at.client(at.key()[1])
    headers = {"halfrate-deadline": header} if header is not None else {}
    batch = make(client, chat("gpt-4.1-mini", 2), completion_window=window, extra_headers=headers)
    assert batch.completion_window == window
    assert wait(client, batch).status == "completed"
    deadline = deadline_of(at)
    if hours is None:
        assert deadline is None
        assert batch.expires_at == batch.created_at + 24 * HOUR
    else:
        assert deadline is not None
        assert deadline == pytest.approx(time.time() + hours * HOUR, abs=NEAR)
        assert batch.expires_at == int(deadline)


@pytest.mark.parametrize(("header", "hours"), [("2h", 2), ("90m", 1.5), (None, None)])
def test_the_header_is_the_deadline_of_the_job_at_anthropics(
    house: Callable[..., House], header: str | None, hours: float | None
) -> None:
    at = house()
    client = at.messages(at.key()[1])
    headers = {"halfrate-deadline": header} if header is not None else {}
    batch = messages.make(client, [messages.request("a"), messages.request("b")], extra_headers=headers)
    assert messages.wait(client, batch).request_counts.succeeded == 2
    deadline = deadline_of(at)
    if hours is None:
        assert deadline is None
        assert batch.expires_at - batch.created_at == datetime.timedelta(days=1)
    else:
        assert deadline == pytest.approx(time.time() + hours * HOUR, abs=NEAR)
        assert batch.expires_at.timestamp() == pytest.approx(deadline, abs=1e-3)


def test_a_moment_is_a_deadline_at_both(house: Callable[..., House]) -> None:
    at = house()
    text = at.key()[1]
    moment = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=4)
    headers = {"halfrate-deadline": moment.isoformat()}
    wait(at.client(text), make(at.client(text), chat("gpt-4.1-mini", 1), extra_headers=headers))
    client = at.messages(text)
    messages.wait(client, messages.make(client, [messages.request("a")], extra_headers=headers))
    assert [job.deadline for job in at.service.jobs()] == [moment.timestamp()] * 2


WRONG = ["soon", "2 hours", "-1h", "0h", "1999-01-01", ""]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_deadline_is_refused_in_openais_shape_with_its_field(
    house: Callable[..., House], wrong: Any
) -> None:
    at = house()
    client = at.client(at.key()[1])
    file_id = upload(client, chat("gpt-4.1-mini", 1))
    asked: dict[str, Any] = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("completion_window", {"completion_window": wrong}),
        ("halfrate-deadline", {"completion_window": "24h", "extra_headers": {"halfrate-deadline": wrong}}),
        # The header comes first, also where the window would do.
        ("halfrate-deadline", {"completion_window": "2h", "extra_headers": {"halfrate-deadline": wrong}}),
    ]
    for field, options in calls:
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.create(**asked, **options)
        body: Any = refused.value.response.json()
        assert set(body) == {"error"}
        error = body["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_value")
        assert error["param"] == field
        assert error["message"].startswith(f"Invalid '{field}': ")
    assert list(client.batches.list()) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_deadline_is_refused_in_anthropics_shape(house: Callable[..., House], wrong: str) -> None:
    at = house()
    client = at.messages(at.key()[1])
    with pytest.raises(anthropic.BadRequestError) as refused:
        messages.make(client, [messages.request("a")], extra_headers={"halfrate-deadline": wrong})
    body: Any = refused.value.response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert body["error"]["message"].startswith("Invalid 'halfrate-deadline': ")
    assert list(client.messages.batches.list()) == []
