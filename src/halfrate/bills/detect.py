"""Recognises an export by what is in it, and reads it. Its name does not matter."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from halfrate.base.errors import InputError
from halfrate.bills import anthropic, aws, azure, google, openai
from halfrate.bills.amounts import NOTHING_DONE, Place
from halfrate.bills.forms import Page, PageForm, TableForm, Tally
from halfrate.bills.tables import Table, open_csv, open_parquet
from halfrate.core.bills import Basis, BillLine

PAGES: Final[tuple[PageForm, ...]] = (*openai.FORMS, *anthropic.FORMS, *google.FORMS)
TABLES: Final[tuple[TableForm, ...]] = (
    *openai.TABLES,
    *anthropic.TABLES,
    *aws.TABLES,
    *google.TABLES,
    *azure.TABLES,
)

_LARGEST_DOCUMENT: Final = 256 << 20
_LONGEST_LINE: Final = 64 << 20
_OTHERS: Final = (
    (b"%PDF", "a PDF. An invoice names no models; export the costs or the usage instead"),
    (b"PK\x03\x04", "a ZIP archive or a workbook. Unpack it, or save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old workbook. Save the table as CSV"),
    (b"<", "HTML or XML. Export CSV or JSON instead"),
    (b"\xff\xfe", "UTF-16 text. Save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text. Save it as UTF-8"),
)
_KNOWN: Final = (
    "What is understood: OpenAI's costs and usage and Anthropic's cost and usage reports (JSON or CSV), AWS cost and "
    "usage reports (CSV or Parquet), Google's billing export (JSON lines or CSV), Azure's cost export (CSV or Parquet)."
)


class Bill(msgspec.Struct, frozen=True):
    """An export that was recognised."""

    title: str
    basis: Basis
    providers: tuple[str, ...]
    lines: Iterator[BillLine]
    tally: Tally


@contextmanager
def open_bill(path: Path) -> Generator[Bill]:
    """What a file is, and its lines, which are read as they are taken: they raise InputError too."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). {NOTHING_DONE}") from error
    if not head.strip():
        raise InputError(f"{path.name} is empty. {NOTHING_DONE}")
    for mark, what in _OTHERS:
        if head.startswith(mark):
            raise InputError(f"{path.name} is {what}. {NOTHING_DONE}")
    if head.startswith(b"PAR1"):
        yield _of_table(open_parquet(path))
    elif head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}:
        yield of_pages(path.name, _documents(path))
    else:
        table, file = open_csv(path)
        with file:
            yield _of_table(table)


def _of_table(table: Table) -> Bill:
    for form in TABLES:
        if all(table.has(*names) for names in form.needs):
            tally = Tally()
            return Bill(form.title, form.basis, form.providers, form.read(table, tally), tally)
    columns = ", ".join(list(table.columns)[:8])
    raise InputError(
        f"{table.place.name} is no export that is known here: its columns are {columns}. {_KNOWN} {NOTHING_DONE}"
    )


def of_pages(name: str, pages: Iterator[tuple[int | None, Page]], forms: Sequence[PageForm] = PAGES) -> Bill:
    """A bill in pages of JSON: (line, page). The first that is not empty says which of the `forms` it has."""
    place = Place(name)
    waiting: list[tuple[int | None, Page]] = []
    form: PageForm | None = None
    for line, page in pages:
        waiting.append((line, page))
        form = next((form for form in forms if form.fits(page)), None)
        if form is not None or not _empty(page):
            break
    else:
        # Days without anything: then nothing is what was billed.
        form = next((form for form in forms if any(_of_form(form, page) for _, page in waiting)), None)
    if form is None:
        raise InputError(f"{name} is no export that is known here. {_KNOWN} {NOTHING_DONE}")
    tally = Tally()
    return Bill(form.title, form.basis, form.providers, _read(form, waiting, pages, place, tally), tally)


def _buckets(page: Page) -> list[Page] | None:
    """The buckets of a report's page; None where it is none."""
    data: object = page.get("data")
    if not isinstance(data, list):
        return None
    return [cast("Page", one) for one in cast("list[object]", data) if isinstance(one, dict)]


def _empty(page: Page) -> bool:
    """Whether a page is one of a report, in which nothing stands."""
    buckets = _buckets(page)
    return buckets is not None and not any(one.get("results", one.get("result")) for one in buckets)


def _of_form(form: PageForm, page: Page) -> bool:
    return any(form.bucket and form.bucket in one for one in _buckets(page) or ())


def _read(
    form: PageForm,
    first: list[tuple[int | None, Page]],
    rest: Iterator[tuple[int | None, Page]],
    place: Place,
    tally: Tally,
) -> Iterator[BillLine]:
    for pages in (first, rest):
        for line, page in pages:
            place.line = line
            if not form.fits(page) and not _empty(page):
                other = next((one.title for one in PAGES if one.fits(page)), "something else")
                place.fail(
                    f"this is {other}, and what came before is {form.title}. Give each in a file of its own."
                )
            yield from form.read(page, place, tally)


def _documents(path: Path) -> Iterator[tuple[int | None, Page]]:
    """Objects of a file: one, an array of them, or one on each line."""
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    place = Place(path.name)
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf")
        rest = file.read(1)
        whole = None
        if not rest or not _is_object(decoder, first):
            whole = first + rest + file.read(_LARGEST_DOCUMENT)
            if len(whole) > _LARGEST_DOCUMENT:
                place.fail(
                    f"this is more than {_LARGEST_DOCUMENT >> 20} MB of JSON. Export fewer days at a time."
                )
            yield from ((None, page) for page in _pages(_decoded(decoder, whole, place), place))
            return
        line, number = first, 1
        while line:
            place.line = number
            if line.strip():
                yield from ((number, page) for page in _pages(_decoded(decoder, line, place), place))
            line, rest = rest + file.readline(_LONGEST_LINE), b""
            number += 1


def _is_object(decoder: "msgspec.json.Decoder[Any]", line: bytes) -> bool:
    """Whether one line is a whole object."""
    try:
        return isinstance(decoder.decode(line), dict)
    except (msgspec.DecodeError, RecursionError, ArithmeticError):
        return False


def _decoded(decoder: "msgspec.json.Decoder[Any]", raw: bytes, place: Place) -> object:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        place.fail(f"this is no JSON: {str(error) or type(error).__name__}.")


def _pages(value: object, place: Place) -> Iterator[Page]:
    for item in cast("list[object]", value) if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            place.fail("this is JSON, and no object.")
        yield cast("Page", item)
