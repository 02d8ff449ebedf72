"""Days of real work at seven accounts of six providers, and their bills: clean ones agree to the picodollar, and of
twelve mistakes of six kinds all twelve are found, each for what it is, and nothing else."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halfrate.core.reconcile import Finding
from halfrate.service.jobs import Service
from halfrate.service.prices import price_book
from halfrate.service.reconcile import Ask, Outcome, compare

from .billed import DAYS, EU_KEY, PLAN, START, World, open_world

pytestmark = pytest.mark.timeout(240)  # sixty jobs are run before the first test

FORMS = {
    "openai-costs.csv": ("openai",),
    "openai-usage.csv": ("openai",),
    "anthropic-usage.csv": ("anthropic",),
    "aws-cur.csv": ("bedrock",),
    "google-billing.jsonl": ("gemini", "vertex"),
    "azure-costs.csv": ("azure",),
}
LIVE = (("openai", "cost"), ("openai", "usage"), ("anthropic", "cost"), ("anthropic", "usage"))
VERDICT = {
    "duplicate": "billed twice",
    "missing": "not billed",
    "standard-price": "discount missing",
    "fee": "fee",
    "amount": "differs",
    "stranger": "unknown to us",
}
SPAN: dict[str, Any] = {"since": float(START), "until": float(START + 86_400 * (DAYS + 1))}
ROUNDED = {"google-billing.jsonl": 500_000, "aws-cur.csv": 100}
"""What a line of a form may be off by."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, open_world(tmp_path_factory.mktemp("billed"), patch) as made:
        made.carry(tuple(PLAN))
        yield made


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    world.clear()
    yield
    world.clear()


def outcome(world: World, **asked: Any) -> Outcome:
    with Service(world.home, world.clock) as service:
        return compare(service, Ask(**{**SPAN, **asked}), world.clock.now())


def paid(world: World, *providers: str) -> int:
    sums = world.emulator.meter.snapshot()["picodollars_by_provider"]
    return sum(sums.get(provider, 0) for provider in providers)


def told(findings: tuple[Finding, ...]) -> dict[tuple[str, str, str], int | None]:
    """(verdict, provider, model) -> by how much the bill is off. One mistake can be told of two days, and so as two."""
    found: dict[tuple[str, str, str], int | None] = {}
    for one in findings:
        if one.verdict != "agreed":
            key = (one.verdict, one.provider, one.model)
            had = found.get(key, 0)
            found[key] = None if had is None or one.off is None else had + one.off
    return found


def planted(mistakes: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    book = price_book()
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in mistakes:
        name = book.name(one["provider"], one["model"]) or one["model"]
        found[VERDICT[one["kind"]], one["provider"], name] += one["picodollars"]
    return dict(found)


def check(found: Outcome, mistakes: list[dict[str, Any]], *, room: int = 10, least: int = 10) -> None:
    """All that was planted was found, as what it is and by its amount, and nothing else was."""
    assert len(mistakes) >= least
    assert not found.agrees
    expected, got = planted(mistakes), told(found.findings)
    assert set(got) == set(expected)
    for key, off in expected.items():
        said = got[key]
        if key[0] == "fee" and said is None:
            continue  # usage counts a fee, and names no price
        assert said is not None, key
        assert abs(said - off) <= room, key


def kinds(provider: str, *, fee: bool = True) -> list[str]:
    return [f"{kind}:provider={provider}" for kind in VERDICT if fee or kind != "fee"] * 2


# ---------------------------------------------------------------- clean


@pytest.mark.parametrize("name", FORMS)
def test_a_clean_file_agrees_to_the_picodollar(world: World, name: str) -> None:
    found = outcome(world, invoices=(world.export(name),))
    assert found.agrees
    assert {one.provider for one in found.findings} == set(FORMS[name])
    billed = sum(one.billed or 0 for one in found.findings)
    ours = sum(one.ours or 0 for one in found.findings)
    meter = paid(world, *FORMS[name])
    assert ours == meter
    assert abs(billed - meter) <= ROUNDED.get(name, 0) * found.sources[0].lines


@pytest.mark.parametrize(("provider", "basis"), LIVE)
def test_a_clean_report_agrees_to_the_picodollar(world: World, provider: str, basis: Any) -> None:
    found = outcome(world, live=(provider,), basis=basis)
    assert found.agrees
    assert sum(one.ours or 0 for one in found.findings) == paid(world, provider)
    assert sum(one.billed or 0 for one in found.findings) == paid(world, provider)
    tokens = [one for one in found.findings if one.billed_tokens is not None]
    assert bool(tokens) == (provider == "openai" or basis == "usage")
    assert all(one.billed_tokens == one.our_tokens for one in tokens)


def test_all_bills_at_once_agree(world: World) -> None:
    files = tuple(world.export(name) for name in FORMS if "usage" not in name)
    found = outcome(world, invoices=files, live=("anthropic",))
    assert found.agrees
    assert not found.unread
    assert sum(one.ours or 0 for one in found.findings) == sum(
        paid(world, provider) for providers in FORMS.values() for provider in set(providers)
    ) - paid(world, "openai")  # which stands there twice: in the files of costs and of usage


def test_what_ran_past_midnight_is_found_on_the_day_before(world: World) -> None:
    found = outcome(world, invoices=(world.export("aws-cur.csv"),))
    runs = [one for one in found.findings if one.last > one.first]
    assert len(runs) == 2
    strict = outcome(world, invoices=(world.export("aws-cur.csv"),), days_slack=0)
    assert not strict.agrees


def test_one_account_alone(world: World) -> None:
    projects = {one.project for one in world.emulator.exports.daily("openai")}
    assert EU_KEY in projects
    from halfrate.emulator._exports import alias

    eu = alias(EU_KEY, "proj_")
    found = outcome(world, invoices=(world.export("openai-costs.csv"),), accounts={"eu": eu})
    assert found.agrees
    assert {one.scope for one in found.findings} == {"eu"}
    assert found.elsewhere > 0
    both = outcome(
        world,
        live=("openai",),
        accounts={"eu": eu, "openai": alias(next(iter(projects - {EU_KEY})), "proj_")},
    )
    assert both.agrees
    assert {one.scope for one in both.findings} == {"eu", "openai"}


def test_a_bill_in_another_currency_is_matched_by_its_tokens(world: World, tmp_path: Path) -> None:
    rows = list(csv.reader(world.export("azure-costs.csv").read_text().splitlines()))
    usd, currency = rows[0].index("costInUsd"), rows[0].index("billingCurrency")
    for row in rows[1:]:
        row[usd], row[currency] = "", "EUR"
    path = tmp_path / "euro.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = outcome(world, invoices=(path,))
    assert found.agrees
    assert found.sources[0].currencies == ("EUR",)
    assert {one.billed for one in found.findings} == {None}


# ---------------------------------------------------------------- twelve mistakes


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("round_", range(4))
def test_twelve_mistakes_in_one_file(world: World, name: str, round_: int) -> None:
    del round_  # the emulator's next draw
    specs = [spec for provider in FORMS[name] for spec in kinds(provider, fee="usage" not in name)]
    if len(FORMS[name]) == 2:
        specs = [f"{kind}:provider={provider}" for kind in VERDICT for provider in FORMS[name]]
    mistakes = world.plant(*specs)
    found = outcome(world, invoices=(world.export(name),))
    check(found, mistakes, room=ROUNDED.get(name, 1) * 20)


@pytest.mark.parametrize(("provider", "basis"), LIVE)
@pytest.mark.parametrize("round_", range(2))
def test_twelve_mistakes_in_a_report(world: World, provider: str, basis: Any, round_: int) -> None:
    del round_
    mistakes = world.plant(*kinds(provider, fee=basis == "cost"))
    found = outcome(world, live=(provider,), basis=basis)
    if (provider, basis) == ("openai", "usage"):
        # The report on embeddings says of no tokens whether they were a batch's.
        told_there = [
            one for one in mistakes if one["kind"] != "standard-price" or "embed" not in one["model"]
        ]
        check(found, told_there, least=8)
    else:
        check(found, mistakes)


@pytest.mark.parametrize("round_", range(4))
def test_twelve_mistakes_anywhere(world: World, round_: int) -> None:
    del round_
    mistakes = world.plant(*VERDICT, *VERDICT)
    files = tuple(world.export(name) for name in FORMS if "usage" not in name)
    found = outcome(world, invoices=files, live=("anthropic",))
    check(found, mistakes, room=500_000 * 20)
    wrong = Counter(one.verdict for one in found.findings if one.verdict != "agreed")
    assert wrong == dict.fromkeys(VERDICT.values(), 2)


@pytest.mark.parametrize("round_", range(3))
def test_another_amount_for_the_same_tokens(world: World, round_: int) -> None:
    del round_
    mistakes = world.plant("amount:of=money,provider=bedrock", "amount:of=money,provider=azure")
    found = outcome(world, invoices=(world.export("aws-cur.csv"), world.export("azure-costs.csv")))
    assert set(told(found.findings)) == set(planted(mistakes))
    assert all("the same tokens at" in one.why for one in found.findings if one.verdict == "differs")


def test_every_finding_names_its_job(world: World) -> None:
    world.plant("missing:provider=bedrock", "standard-price:provider=azure")
    found = outcome(world, invoices=(world.export("aws-cur.csv"), world.export("azure-costs.csv")))
    with Service(world.home, world.clock) as service:
        for one in found.findings:
            if one.verdict != "agreed":
                jobs = [service.job(name) for name in one.names]
                assert jobs
                assert all(one.model in job.spec.model or job.spec.model in one.model for job in jobs)


def test_the_order_of_files_does_not_matter(world: World, tmp_path: Path) -> None:
    world.plant(*VERDICT, *VERDICT)
    files = [world.export(name) for name in FORMS if "usage" not in name]
    one, other = outcome(world, invoices=tuple(files)), outcome(world, invoices=tuple(reversed(files)))
    assert set(one.findings) == set(other.findings)
