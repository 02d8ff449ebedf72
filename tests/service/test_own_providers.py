"""Providers that halfrate has never heard of: of an installed package, and of the settings file. Several accounts."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from halfrate.base.errors import SettingsError, UsageError
from halfrate.providers import registry
from halfrate.service.jobs import Service

from .office import Office

Offices = Callable[..., Office]
PACKAGE = Path(__file__).with_name("example_package")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example package as an installer leaves it: its modules, and what it says of itself."""
    about = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    info = folder / "halfrate_example-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    )
    lines = [f"[{group}]" for group in about["entry-points"]]
    points = about["entry-points"][registry.GROUP]
    (info / "entry_points.txt").write_text(
        "\n".join([*lines, *(f"{name} = {place}" for name, place in points.items())]) + "\n"
    )
    monkeypatch.syspath_prepend(str(PACKAGE / "src"))
    monkeypatch.syspath_prepend(str(folder))
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_package_adds_a_provider(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("openai", "create-lost:times=1", "row-error:rate=0.1,status=500")
    monkeypatch.setenv("EXAMPLE_BASE_URL", f"{desk.emulator_url}/v1")
    monkeypatch.setenv("EXAMPLE_API_KEY", "key-1")
    assert "example" in registry.provider_names()
    report = desk.run(desk.ask(60, model="example/gpt-4.1-mini"))
    rows = desk.output(report.job)
    assert [row["n"] for row in rows] == list(range(60))
    assert report.succeeded == 60
    assert desk.meter()["fingerprints_billed_again"] == 0
    assert desk.meter()["batches_created"] >= 3, "its record says 25 rows a batch"
    assert report.cost is None, "nobody has said what it costs"


def test_without_the_package_there_is_no_such_provider(office: Offices) -> None:
    desk = office("openai")
    with pytest.raises(UsageError, match="There is no provider 'example'"):
        desk.submit(desk.ask(3, model="example/gpt-4.1-mini"))


def settings(desk: Office, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = desk.folder / "mine.toml"
    path.write_text(text.replace("{url}", desk.emulator_url))
    monkeypatch.setenv("HALFRATE_SETTINGS", str(path))


ACME = """
[providers.acme]
title = "Acme"
base_url = "{url}/v1"
key_variable = "ACME_KEY"
rows = 30
discount = 0.5
windows = ["24h"]

[providers.acme.prices."gpt-4.1-mini"]
input = "0.40"
output = "1.60"
"""


def test_the_settings_add_a_provider(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("openai", "create-lost:times=1")
    settings(desk, monkeypatch, ACME)
    monkeypatch.setenv("ACME_KEY", "key-1")
    report = desk.run(desk.ask(70, model="acme/gpt-4.1-mini"))
    desk.assert_sound(report)
    assert report.job.label == "acme/gpt-4.1-mini"
    assert report.realtime_cost == 2 * (report.cost or 0)
    assert desk.meter()["batches_created"] == 3


def test_a_provider_without_batches_answers_in_real_time(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("openai")
    settings(desk, monkeypatch, ACME.replace("rows = 30", "batches = false"))
    monkeypatch.setenv("ACME_KEY", "key-1")
    report = desk.run(desk.ask(10, model="acme/gpt-4.1-mini"))
    desk.assert_sound(report)
    assert desk.meter()["rows_by_tier"] == {"standard": 10}


TWO = """
[accounts.eu]
provider = "openai"
key_variable = "EU_KEY"
base_url = "{url}/v1"

[accounts.us]
provider = "openai"
key_variable = "US_KEY"
base_url = "{url}/v1"
"""


def test_several_accounts_of_a_provider(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("openai")
    settings(desk, monkeypatch, TWO)
    monkeypatch.setenv("EU_KEY", "key-eu")
    monkeypatch.setenv("US_KEY", "key-us")
    reports = [desk.run(desk.ask(10, model=f"{name}/gpt-4.1-mini")) for name in ("eu", "us", "openai")]
    assert [report.job.label.partition("/")[0] for report in reports] == ["eu", "us", "openai"]
    assert len({report.job.account for report in reports}) == 3
    with Service(desk.home) as service:
        by_account = {line.keys: line.rows for line in service.costs(by=["account"])}
    assert sorted(by_account.values()) == [10, 10, 10]
    assert sum(report.cost or 0 for report in reports) == desk.meter()["picodollars"]


def test_a_job_belongs_to_its_account_for_ever(office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office("openai")
    settings(desk, monkeypatch, TWO)
    monkeypatch.setenv("EU_KEY", "key-eu")
    job = desk.submit(desk.ask(10, model="eu/gpt-4.1-mini"))
    settings(desk, monkeypatch, TWO.replace("accounts.eu", "accounts.europe"))
    with pytest.raises(UsageError, match="no provider 'eu'"):
        desk.work(job)
    settings(
        desk,
        monkeypatch,
        TWO.replace('[accounts.eu]\nprovider = "openai"', '[accounts.eu]\nprovider = "groq"'),
    )
    with pytest.raises(SettingsError, match="'eu' of OpenAI"):
        desk.work(job)
    settings(desk, monkeypatch, TWO.replace("{url}/v1", "http://127.0.0.1:9/v1", 1))
    with pytest.raises(SettingsError, match=r"is at http://127\.0\.0\.1:9/v1 now"):
        desk.work(job)
    assert desk.meter()["creates_received"] == 0
    settings(desk, monkeypatch, TWO)
    desk.assert_sound(desk.work(job))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[accounts.eu", "is no TOML"),
        ("[accounts.eu]\nkey_variable = 'K'", "missing required field"),
        ("[accounts.eu]\nprovider = 'openai'\nkey = 'sk-secret'", "does not belong into a file"),
        ("[accounts.eu]\nprovider = 'openai'\nregion = 'x'", "sets 'region'"),
        ("[accounts.'e/u']\nprovider = 'openai'", "cannot be a name"),
        ("[providers.acme]\nbase_url = 'http://x/v1'\ncolour = 'red'", "unknown field"),
        ("[providers.acme]\nbase_url = 'http://x/v1'\nendpoints = ['images']", "has endpoints among"),
        ("[nonsense]\na = 1", "unknown field"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    office: Offices, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    desk = office("openai")
    settings(desk, monkeypatch, text)
    model = "acme/m" if "acme" in text else "eu/gpt-4.1-mini"
    with pytest.raises(SettingsError, match=words) as refused:
        desk.submit(desk.ask(3, model=model))
    assert "sk-secret" not in str(refused.value)


def test_a_settings_file_that_is_named_must_be_there(
    office: Offices, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office("openai")
    monkeypatch.setenv("HALFRATE_SETTINGS", str(desk.folder / "none.toml"))
    with pytest.raises(SettingsError, match="there is no such file"):
        desk.submit(desk.ask(3))
