"""OpenAI's usage and costs: replies of `/v1/organization/usage/...` and `/v1/organization/costs`, and the same as CSV.

Sources: the API reference of organization usage and costs as openai-python 3.52 has it (`types/admin/organization`),
cookbook.openai.com "How to use the Usage API and Cost API" (2025-01). What they say, and what follows:

* `{"object": "page", "data": [{"object": "bucket", "start_time", "end_time", "results": [...]}]}`; the CSV has a line a
  result, with the bucket's times in it.
* A bucket has sums, and nothing of single calls: neither streaming nor sessions, and the hour only with
  `bucket_width=1h`.
* `input_tokens` hold cached ones, and those written to a cache, for 30 minutes or 12 hours.
* Only results of completions and embeddings have tokens that the price book has prices for.
* A result of costs is money: `amount.value` in USD. It is a line of a bill, and no call.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from halfrate.core.audit_call import Call
from halfrate.usage import values
from halfrate.usage.formats import Format

_KINDS: Final = {
    "organization.usage.completions.result": "completions",
    "organization.usage.embeddings.result": "embeddings",
}
_COSTS: Final = "organization.costs.result"
_DAY: Final = 86400.0


class _Row(msgspec.Struct, gc=False):
    """A page, a bucket, or a line of the CSV."""

    object: Any = None
    data: Any = None
    results: Any = None
    start_time: Any = None
    end_time: Any = None
    input_tokens: Any = None
    input_cached_tokens: Any = None
    input_cache_write_tokens: Any = None
    output_tokens: Any = None
    num_model_requests: Any = None
    model: Any = None
    batch: Any = None
    service_tier: Any = None
    project_id: Any = None
    project_name: Any = None
    api_key_id: Any = None
    user_id: Any = None
    line_item: Any = None
    amount: Any = None
    amount_value: Any = None


def _call(row: _Row, start: float | None, end: float | None) -> Call | None:
    span = end - start if start is not None and end is not None and end > start else _DAY
    team = values.text(row.project_name) or values.text(row.project_id)
    amount = row.amount_value if row.amount is None else values.inner(row.amount, "value")
    kind = values.text(row.object)
    if kind == _COSTS or amount is not None:
        item = values.text(row.line_item)
        return Call(
            time=start,
            span=span,
            calls=0,
            provider="openai",
            endpoint=item,
            team=team,
            key=values.text(row.api_key_id),
            cost=values.dollars(amount),
            tier="batch" if item is not None and "batch" in item.lower() else None,
            bill=True,
        )
    if kind is not None and kind not in _KINDS:
        return None
    cached, written = values.count(row.input_cached_tokens), values.count(row.input_cache_write_tokens)
    batched = values.truth(row.batch)
    return Call(
        time=start,
        span=span,
        calls=values.count(row.num_model_requests),
        provider="openai",
        model=values.text(row.model),
        endpoint=_KINDS[kind] if kind is not None else "completions",
        team=team,
        key=values.text(row.api_key_id),
        input=values.split_input(values.count(row.input_tokens), cached, written),
        cached=cached,
        write_5m=written,
        output=values.count(row.output_tokens),
        tier="batch" if batched else values.tier(row.service_tier),
    )


def _bucket(given: Any) -> list[Call]:
    start, end = (values.moment(values.inner(given, name)) for name in ("start_time", "end_time"))
    found: list[Call] = []
    results = values.inner(given, "results")
    if results is None:
        results = values.inner(given, "result")
    if not isinstance(results, list):
        return found
    for one in cast("list[Any]", results):
        if isinstance(one, Mapping):
            call = _call(msgspec.convert(one, _Row), start, end)
            if call is not None:
                found.append(call)
    return found


def _calls(row: _Row) -> list[Call]:
    if isinstance(row.data, list):
        return [call for one in cast("list[Any]", row.data) for call in _bucket(one)]
    if isinstance(row.results, list):
        results = cast("list[Any]", row.results)
        return _bucket({"start_time": row.start_time, "end_time": row.end_time, "results": results})
    call = _call(row, values.moment(row.start_time), values.moment(row.end_time))
    return [] if call is None else [call]


def _rows(_names: frozenset[str]) -> type[msgspec.Struct]:
    return _Row


def _fits(names: frozenset[str]) -> bool:
    return {"start_time", "end_time"} <= names and bool(
        names & {"results", "num_model_requests", "amount_value", "line_item"}
    )


OPENAI: Final = Format(name="openai", title="OpenAI usage and costs", fits=_fits, rows=_rows, read=_calls)
