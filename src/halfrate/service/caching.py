"""What is done about a provider's prompt cache when a job is drafted. `core.caching` weighs it."""

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

from halfrate.base.errors import UsageError
from halfrate.base.types import Capabilities, RequestSpec
from halfrate.core.caching import HITS, Cache, CachePlan, Hits, choose, least_of
from halfrate.core.job import Forecast, Job
from halfrate.core.planning import prompt_hash
from halfrate.providers.registry import adapter_class
from halfrate.rows.template import parse_template, whole_words
from halfrate.rows.values import escaped

_LONG_HEAD = 200
"""Characters from which on the beginning of a prompt is worth a mark of its own, after the system prompt's end."""


def with_cache(spec: RequestSpec, facts: Capabilities, wanted: Cache, plan: CachePlan) -> RequestSpec:
    """A request with what its provider's cache goes by. Raises UsageError for what it cannot do."""
    rules = facts.cache
    if wanted != "off":
        _check(spec, facts, wanted)
    if wanted != "off" and rules.key and spec.native is None and spec.endpoint in {"chat", "responses"}:
        key = {rules.key: f"hr-{prompt_hash(spec)[:24]}"}
        spec = msgspec.structs.replace(spec, params={**key, **spec.params})
    if plan.groups and plan.life is not None:
        spec = msgspec.structs.replace(spec, lead=plan.life)
    if plan.shared:
        spec = msgspec.structs.replace(spec, options={**spec.options, "cache": plan.life})
    if rules.marks and "cache" in spec.options:
        spec = msgspec.structs.replace(spec, head=_head(spec))
    return spec


def _check(spec: RequestSpec, facts: Capabilities, wanted: Cache) -> None:
    if wanted != "auto" and not facts.cache.marks:
        other = " It caches by itself; --cache auto sends what belongs together to one cache." * bool(
            facts.cache.key
        )
        raise UsageError(f"{facts.title} takes no marks for its cache: leave --cache {wanted} out.{other}")
    if wanted != "auto" and spec.native is not None:
        raise UsageError(
            "The requests of a batch file are sent as they are: leave --cache out. Nothing was sent."
        )
    if "cache" in spec.options:
        raise UsageError(
            "--option cache marks what rows share whatever it costs; say that or --cache, not both."
        )


def _head(spec: RequestSpec) -> str:
    """How the prompt begins for every row, where a mark there is worth more than one after the system prompt."""
    head = whole_words(parse_template(spec.prompt).literals[0]) if spec.prompt is not None else ""
    return head if len(head) >= _LONG_HEAD or not spec.system else ""


def lead_bytes(spec: RequestSpec, facts: Capabilities, wanted: Cache) -> int | None:
    """How many bytes of what follows the first column of a prompt belong to what rows may share with some others. None
    where that is not to be looked for."""
    if wanted == "off" or not facts.cache.cut or spec.prompt is None:
        return None
    template = parse_template(spec.prompt)
    # Something must follow it that is not in it.
    if not template.columns or (len(template.columns) == 1 and not template.literals[1].strip()):
        return None
    return len(escaped(whole_words(template.literals[1])))


def plan_cache(
    wanted: Cache,
    job: Job,
    batches: int,
    framed_bytes: int,
    groups: Mapping[tuple[int, int], int],
    seen: Hits,
) -> tuple[CachePlan, int]:
    """What to do about caching what the rows of a job share, drafted without it, and how many bytes the lead of a
    group's rows must have. Raises UsageError where what was asked for does not pay.

    `framed_bytes`: of the requests that are not the rows' own, the system prompt among them. `groups`: how many there
    are of (bytes of their leads, rows). `seen`: what caches did for earlier jobs.
    """
    spec, rules = job.spec, adapter_class(job.spec.provider).capabilities.cache
    if not rules.marks or spec.prompt is None:
        return CachePlan(), 0
    head = len(escaped(_head(spec)))
    system = len(escaped(spec.system or ""))
    size = head + system
    # What frames the text in JSON is hardly a token.
    text_bytes = job.text_bytes - framed_bytes + job.rows * system
    a_byte = job.forecast.input_tokens / max(1.0, text_bytes)
    shared, least = round(size * a_byte), least_of(rules, spec.model)
    own = Counter[tuple[float, int]]()
    for (length, rows), many in groups.items():
        own[max(0, length - head) * a_byte, rows] += many
    plan = choose(
        wanted,
        job.prices.of(job.tier).get(spec.model),
        job.rows,
        shared,
        batched=job.tier == "batch",
        least=least,
        hurried=job.deadline is not None,
        groups=own,
        tokens=job.forecast.input_tokens,
        batches=batches,
        hits={**HITS, **seen},
    )
    if plan.life is not None and (job.tier == "batch", plan.life) in seen:
        plan = msgspec.structs.replace(plan, seen=True)
    # Where all rows have a mark behind the head of the prompt, the leads begin there.
    shortest = (least - shared) / max(a_byte, 1e-9) + (0 if plan.shared else head)
    return plan, max(1, math.ceil(shortest))


def with_cached_cost(plain: Forecast, plan: CachePlan, *, ceiling: bool = False) -> Forecast:
    """A forecast that reckons with a cache. What is hoped for is in the likely cost, and the risk in the highest."""
    if plan.life is None or plain.cost is None or plain.cost_low is None or plain.cost_high is None:
        return plain
    return msgspec.structs.replace(
        plain,
        cost=plain.cost + plan.risk if ceiling else max(0, plain.cost - plan.saves),
        # Less is saved where there is less to save.
        cost_low=plain.cost_low * max(0, plain.cost - plan.most) // max(1, plain.cost),
        cost_high=plain.cost_high + plan.risk,
    )
