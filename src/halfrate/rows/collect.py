"""From a provider's result lines to outcomes: each line parsed once, each answer copied still escaped."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

import msgspec

from halfrate.base.money import usd
from halfrate.base.results import (
    COST_UNKNOWN,
    FINAL,
    MAY_BE_PAID,
    Billed,
    Collection,
    Kind,
    LineReader,
    PlainRows,
    ResultRow,
    Tokens,
    UnreadableLine,
)
from halfrate.base.types import Counts, Outcome, Usage
from halfrate.rows.lines import file_blocks, lines_of
from halfrate.rows.outcomes import OutcomeWriter

COLUMNS = (
    "answer",
    "status",
    "error",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_usd",
    "model",
    "finish_reason",
)
"""What halfrate adds to a row, in this order."""


class InvalidAnswer(Exception):
    """An answer that is not what was asked for; the text says why."""


Check: TypeAlias = Callable[[bytes], bytes]
"""Judges an answer (JSON) and gives what to keep of it (JSON on one line). Raises InvalidAnswer."""

_ID: Final = re.compile(
    rb'"(?:custom_id|key|recordId|batch_request_id|hr)"\s*:\s*"hr-[0-9a-z]+-[0-9]+-[0-9]+-[0-9]{1,12}"'
)
_UNTOLD: Final = frozenset({Kind.MISSING, Kind.EXPIRED, Kind.CANCELLED})
"""What a row is said to be that has no line of its own."""
_SUCCEEDED: Final = int(Kind.SUCCEEDED)
_MANY: Final = 4096
"""Different usages that are remembered at a time, a few hundred bytes each."""
_LONGEST_WAIT: Final = 63
_NOT_MENTIONED: Final = "the provider's results do not mention this row"


class Pricing(Protocol):
    """The prices of a job. Picodollars of one request; None where a price is unknown."""

    def priced_as(self, model: str) -> str:
        """The model of the price list that a model named in a result is billed as."""
        ...

    def paid(self, model: str, tokens: Tokens, tier: str) -> int | None: ...

    def uncached(self, model: str, tokens: Tokens, tier: str) -> int | None: ...

    def standard(self, model: str, tokens: Tokens) -> int | None: ...


class RecordFormat:
    """Writes records under a job's own column names.

    Args:
        names: our column name -> the name in the output, where the input already has ours.
    """

    def __init__(self, names: dict[str, str]) -> None:
        keys = [msgspec.json.encode(names.get(column, column)) for column in COLUMNS]
        self._shape = b",".join(key.replace(b"%", b"%%") + b":%b" for key in keys) + b"}\n"
        self.answer = keys[0] + b":"
        """What stands before the answer."""

    def answered(
        self, answer: bytes, tokens: Tokens | None, cost: int | None, model: str, finish: str
    ) -> bytes:
        """The record of an answered row. Figures that the provider did not give are null."""
        return b"%b%b%b%b}\n" % (self.answer, answer, self.middle(tokens, cost, model), _quoted(finish))

    def middle(self, tokens: Tokens | None, cost: int | None, model: str) -> bytes:
        """What stands between the answer and the finish reason of an answered row."""
        outcome = _quoted(Outcome.SUCCEEDED.value)
        values = (b"\0", outcome, b"null", *_figures(tokens), _money(cost), _quoted(model), b"\0")
        return (self._shape % values).split(b"\0")[1]

    def failed(
        self,
        outcome: Outcome,
        error: str,
        *,
        tokens: Tokens | None = None,
        cost: int | None = 0,
        model: str = "",
    ) -> bytes:
        """The record of a row without an answer. A row that was answered and then judged invalid was paid."""
        name = _quoted(model) if model else b"null"
        fixed = (_money(cost), name, b"null")
        return self._shape % (b"null", _quoted(outcome.value), _quoted(error), *_figures(tokens), *fixed)


def _figures(tokens: Tokens | None) -> tuple[bytes, bytes, bytes]:
    if tokens is None:
        return (b"null", b"null", b"null")
    return (b"%d" % tokens.read, b"%d" % tokens.cached, b"%d" % tokens.output)


def _money(cost: int | None) -> bytes:
    return b"null" if cost is None else usd(cost).encode()


def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


class _Account:
    """What rows billed as one model in one tier came to."""

    def __init__(self, model: str, pricing: Pricing, tier: str) -> None:
        self.rows = 0
        self._model = model
        self._tier = tier
        self._pricing = pricing
        self._tokens = [0] * len(Usage.__struct_fields__)
        self._paid: int | None = 0
        self._standard: int | None = 0
        self._uncached: int | None = 0

    def add(self, tokens: Tokens | None, rows: int = 1) -> None:
        """Count paid rows that used the same. None: the provider did not say what."""
        self.rows += rows
        if tokens is None:
            self._paid = self._standard = self._uncached = None
            return
        counts = tokens[:10]
        self._tokens = [total + rows * count for total, count in zip(self._tokens, counts, strict=True)]
        # Row by row: a price may go up in steps, so that the price of a sum is not the sum of the prices.
        paid = self.cost(tokens)
        self._paid = _plus(self._paid, paid, rows)
        cached = any(tokens[1:4])
        plain = self._pricing.uncached(self._model, tokens, self._tier) if cached else paid
        self._uncached = _plus(self._uncached, plain, rows)
        self._standard = _plus(self._standard, self._pricing.standard(self._model, tokens), rows)

    def cost(self, tokens: Tokens | None) -> int | None:
        """What a row cost that used so much."""
        return self._pricing.paid(self._model, tokens, self._tier) if tokens is not None else None

    def billed(self) -> Billed:
        return Billed(
            self._model,
            self.rows,
            Usage(*self._tokens),
            self._paid,
            self._standard,
            self._tier,
            self._uncached,
        )


def _plus(total: int | None, cost: int | None, rows: int) -> int | None:
    """One unknown price makes the whole sum unknown."""
    return None if total is None or cost is None else total + cost * rows


class _Books:
    """Accounts by model and tier."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing
        self._accounts: dict[tuple[str, str], _Account] = {}

    def account(self, model: str, tier: str) -> _Account:
        key = (self._pricing.priced_as(model), tier)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(key[0], self._pricing, tier)
        return account

    def count(self, result: ResultRow, tier: str) -> int | None:
        """Count one paid row; what it cost."""
        account = self.account(result.model, tier)
        account.add(result.tokens)
        return account.cost(result.tokens)

    def totals(self) -> tuple[Billed, ...]:
        return tuple(account.billed() for account in self._accounts.values() if account.rows)


class _Figures:
    """What follows the answers in one model's records, by the usage that it tells of, as that stands in a result.

    The rows of a job use the same figures again and again: what they mean and cost is worked out once for each,
    and how often each came is counted.
    """

    def __init__(
        self,
        model: str,
        tokens: Callable[[bytes], Tokens | None],
        account: _Account,
        form: RecordFormat,
    ) -> None:
        self.model = model
        self.came: Counter[bytes] = Counter()
        self._tokens = tokens
        self._account = account
        self._form = form
        self._known: dict[bytes, Tokens | None] = {}
        self._tails: dict[str, _Tails] = {}
        self.made = 0
        """Tails that are remembered."""

    def tails_of(self, rows: PlainRows) -> list[bytes]:
        """What stands behind each answer, up to the next. Raises msgspec.DecodeError where a usage makes no sense."""
        finish = rows.finishes[0]
        if rows.finishes.count(finish) == len(rows.finishes):
            return list(map(self._ending(finish).__getitem__, rows.usages))
        return [self._ending(finish)[usage] for finish, usage in zip(rows.finishes, rows.usages, strict=True)]

    def _ending(self, finish: str) -> "_Tails":
        tails = self._tails.get(finish)
        if tails is None:
            tails = self._tails[finish] = _Tails(self.middle, _quoted(finish) + b"}\n" + self._form.answer)
        return tails

    def middle(self, usage: bytes) -> bytes:
        """What stands between an answer and its finish reason."""
        tokens = self._known[usage] = self._tokens(usage)
        self.made += 1
        return self._form.middle(tokens, self._account.cost(tokens), self.model)

    def settle(self) -> None:
        """Hand over to the account what came, and forget it."""
        for usage, rows in self.came.items():
            self._account.add(self._known[usage], rows)
        self.came.clear()
        self._known.clear()
        self._tails.clear()


class _Tails(dict[bytes, bytes]):
    """What follows an answer that ended so, by usage. `end` begins with the finish reason, of which there are few."""

    def __init__(self, middle: Callable[[bytes], bytes], end: bytes) -> None:
        super().__init__()
        self._middle = middle
        self._end = end

    def __missing__(self, usage: bytes) -> bytes:
        tail = self[usage] = self._middle(usage) + self._end
        return tail


class Collector:
    """Reads the result files of one attempt into an outcome file.

    Args:
        writer: an open outcome file for the shard.
        reader: the adapter's reader of one line.
        first_row: the shard's first row.
        sent: slots that were in this attempt, or None for all of the shard.
        check: judges answers, or None to accept all.
        tier_of: what a line was served and is billed in; None for the lines of a batch.
    """

    def __init__(
        self,
        writer: OutcomeWriter,
        reader: LineReader,
        pricing: Pricing,
        form: RecordFormat,
        *,
        first_row: int,
        sent: frozenset[int] | None = None,
        check: Check | None = None,
        tier_of: Callable[[bytes], str] | None = None,
    ) -> None:
        self.duplicates = 0
        self.unknown = 0
        self.malformed = 0
        self._writer = writer
        self._reader = reader
        self._form = form
        self._first = first_row
        self._rows = len(writer.index)
        self._sent = sent
        self._check = check
        self._tier_of = tier_of
        self._tier = "batch"
        self._books = _Books(pricing)
        self._waste = _Books(pricing)
        self.nameless = 0
        self._errors: dict[str, int] = {}
        self._paid_in_vain: set[int] = set()
        self._figures: _Figures | None = None
        self._wait = 0
        """Blocks that are to be taken in line by line before the next is tried whole."""
        self._odd = 0
        self._twin = 0
        self._counted: set[int] = set()
        """Rows that the twin being read has answered, each paid once however often it is named."""

    @property
    def recognised(self) -> int:
        """Lines that named a row of this attempt, so far."""
        return self._writer.known

    def read(self, path: Path, *, twin: int = 0) -> None:
        """Take in one result file. `twin`: the number of a batch that should not have been, from 1: what it
        finished was paid for as well, so rows that are known already count as waste."""
        if twin != self._twin:
            self._twin = twin
            self._counted.clear()
        with path.open("rb", buffering=0) as file:
            for data in file_blocks(file):
                self._block(data, twin=twin > 0)
        if self._figures is not None:
            self._figures.settle()

    def settle(self, slot: int, kind: Kind, error: str) -> None:
        """Say of a row, without a line from the provider, what became of it."""
        outcome = _OUTCOMES[kind]
        self._writer.add(slot, kind, self._form.failed(outcome, error))
        self._note(error)

    def finish(self, absent: Kind = Kind.MISSING, why: str = _NOT_MENTIONED) -> Collection:
        """Account for every row that was sent, and close the books of this attempt.

        `absent`, `why`: what to say of rows that no line names.
        """
        index = self._writer.index
        slots = range(self._rows) if self._sent is None else sorted(self._sent)
        missing = [slot for slot in slots if not index[slot]] if 0 in index else []
        if self.nameless and absent in _UNTOLD:
            # Lines that name no row may be theirs, and paid for: to send these rows again could pay twice.
            absent, why = Kind.FAILED, MAY_BE_PAID
        record = self._form.failed(_OUTCOMES[absent], why, cost=None if why in COST_UNKNOWN else 0)
        for slot in missing:
            self._writer.add(slot, absent, record)
        if missing:
            self._errors[why] = self._errors.get(why, 0) + len(missing)
        found = self._writer.kinds()
        if self._sent is not None:
            found = bytes(map(found.__getitem__, slots))
        kinds = [found.count(kind) for kind in range(8)]
        top = sorted(self._errors.items(), key=lambda item: -item[1])[:20]
        return Collection(
            counts=Counts(
                succeeded=kinds[Kind.SUCCEEDED],
                failed=kinds[Kind.FAILED] + kinds[Kind.FAILED_PASSING] + kinds[Kind.MISSING],
                expired=kinds[Kind.EXPIRED],
                cancelled=kinds[Kind.CANCELLED],
            ),
            unsettled=sum(n for kind, n in enumerate(kinds) if kind and kind not in FINAL),
            billed=self._books.totals(),
            wasted=self._waste.totals(),
            duplicates=self.duplicates,
            unknown=self.unknown,
            malformed=self.malformed,
            invalid=len(self._paid_in_vain),
            missing=len(missing),
            errors=tuple(top),
        )

    def _block(self, data: bytes, *, twin: bool) -> None:
        """Take in whole lines."""
        usual = self._check is None and self._tier_of is None and not twin
        if not (usual and self._whole(data)):
            lines: Sequence[bytes] = lines_of(data)
            plain = self._reader.plain
            if plain is not None and usual:
                rows = plain(lines)
                lines = rows.rest
                if rows.numbers and not self._plain_rows(rows):
                    lines = (*rows.lines, *lines)
            for line in lines:
                self._line(line, twin=twin)
        self._writer.flush()

    def _whole(self, data: bytes) -> bool:
        """Take in lines all at once, if there is nothing odd about any of them. Where there was, blocks are taken in
        line by line for a while: what is odd seldom comes alone, and to try costs as much as half of reading."""
        whole = self._reader.whole
        if whole is None or self._wait:
            self._wait = max(0, self._wait - 1)
            return False
        rows = whole(data)
        if rows is not None and self._plain_rows(rows):
            self._odd = 0
            return True
        self._odd = min(_LONGEST_WAIT, 2 * self._odd + 1)
        self._wait = self._odd
        return False

    def _plain_rows(self, rows: PlainRows) -> bool:
        """Take in answered rows all at once, if there is nothing odd about any of them; nearly all rows of a
        job come this way."""
        first = self._first
        slots = [number - first for number in rows.numbers] if first else rows.numbers
        model = rows.models[0]
        if (
            rows.models.count(model) < len(slots)
            or min(slots) < 0
            or max(slots) >= self._rows
            or len(set(slots)) < len(slots)
            or any(map(self._writer.index.__getitem__, slots))
            or not (self._sent is None or self._sent.issuperset(slots))
        ):
            return False
        figures = self._figures_of(model)
        try:
            tails = figures.tails_of(rows)
        except msgspec.DecodeError:
            return False
        # All of the records at once: to make each of them first would copy every answer once more.
        parts: list[bytes | msgspec.Raw] = [b""] * (2 * len(slots))
        parts[0::2], parts[1::2] = rows.answers, tails
        # Each tail ends with the beginning of the next record, which the last has not.
        head = self._form.answer
        parts[-1] = tails[-1][: -len(head)]
        records = head + b"".join(cast("list[bytes]", parts))
        self._writer.add_all(slots, _SUCCEEDED, rows.answers, tails, records)
        figures.came.update(rows.usages)
        return True

    def _figures_of(self, model: str) -> _Figures:
        figures = self._figures
        if figures is None or figures.model != model or figures.made > _MANY:
            if figures is not None:
                figures.settle()
            account = self._books.account(model, "batch")
            figures = self._figures = _Figures(model, self._reader.tokens, account, self._form)
        return figures

    def _line(self, line: bytes, *, twin: bool) -> None:
        """Take in a line of any kind."""
        try:
            result = self._reader.general(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableLine) as fault:
            found = self._unread(line, fault)
            if found is None:
                return
            result = found
        if self._tier_of is not None:
            self._tier = self._tier_of(line)
        self._take(result, twin=twin)

    def _take(self, result: ResultRow, *, twin: bool) -> None:
        slot = result.row - self._first
        if twin and result.kind == Kind.SUCCEEDED:
            if slot in self._counted:
                self.duplicates += 1
                return
            self._counted.add(slot)
        ours = 0 <= slot < self._rows and (self._sent is None or slot in self._sent)
        if (not ours or self._writer.index[slot]) and not self._takes(slot, result, twin=twin):
            return
        self._record(slot, result)

    def _record(self, slot: int, result: ResultRow) -> None:
        """Record a row that is not simply answered: failed, to be checked, or without figures."""
        if result.kind != Kind.SUCCEEDED:
            outcome = _OUTCOMES[Kind(result.kind)]
            error = result.error or outcome.value
            cost = None if error in COST_UNKNOWN else 0
            self._writer.add(
                slot, result.kind, self._form.failed(outcome, error, cost=cost, model=result.model)
            )
            self._note(error)
            return
        cost = self._books.count(result, self._tier)
        answer = bytes(result.answer)
        try:
            if self._check is not None:
                answer = self._check(answer)
        except InvalidAnswer as wrong:
            error = f"the answer is not valid: {wrong}"
            self._note(error)
            self._paid_in_vain.add(slot)
            record = self._form.failed(
                Outcome.FAILED, error, tokens=result.tokens, cost=cost, model=result.model
            )
            self._writer.add(slot, Kind.FAILED_PASSING, record)
            return
        record = self._form.answered(answer, result.tokens, cost, result.model, result.finish)
        self._writer.add(slot, Kind.SUCCEEDED, record)

    def _unread(self, line: bytes, fault: Exception) -> ResultRow | None:
        """What can be saved of a line that is not what it should be, or None."""
        if isinstance(fault, UnreadableLine):
            if fault.args == ("",):
                # No id is not somebody else's: it may be of any row of ours.
                self.malformed += 1
                self.nameless += 1
            else:
                self.unknown += 1
            return None
        mended = self._mended(line)
        if mended is not None:
            return mended
        if not line.strip():
            return None
        self.malformed += 1
        named = _ID.search(line)
        if named is None:
            self.nameless += 1
            return None
        try:
            # The reader knows which ids are this batch's own.
            row = self._reader.general(b"{%b}" % named.group()).row
        except UnreadableLine:
            return None
        except msgspec.DecodeError:
            # An id that stands deeper in a line than this. Whose it is nobody can say.
            self.nameless += 1
            return None
        # The provider ran this row and we cannot read what it says. Sending it again might pay for it twice.
        return ResultRow(row, Kind.FAILED, error=MAY_BE_PAID)

    def _mended(self, line: bytes) -> ResultRow | None:
        """A line that could not be read for half a surrogate pair in it, or None."""
        from halfrate.rows.values import mend_surrogates

        mended = mend_surrogates(line)
        if mended == line:
            return None
        try:
            return self._reader.general(mended)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnreadableLine):
            return None

    def _takes(self, slot: int, result: ResultRow, *, twin: bool) -> bool:
        """Whether a line counts whose row is not ours, or is known already."""
        if not 0 <= slot < self._rows or (self._sent is not None and slot not in self._sent):
            self.unknown += 1
            return False
        return self._replaces(slot, result, twin=twin)

    def _replaces(self, slot: int, result: ResultRow, *, twin: bool) -> bool:
        """Whether a second line for a row counts. A success beats a failure; the first success stays."""
        self.duplicates += 1
        if result.kind != Kind.SUCCEEDED:
            return False
        if self._writer.kind(slot) == Kind.SUCCEEDED:
            if twin:
                self._waste.count(result, self._tier)
            return False
        # The same batch was paid once for the row, however often it names it.
        return twin or slot not in self._paid_in_vain

    def _note(self, error: str) -> None:
        if error in self._errors or len(self._errors) < 1000:
            self._errors[error] = self._errors.get(error, 0) + 1


_OUTCOMES = {
    Kind.SUCCEEDED: Outcome.SUCCEEDED,
    Kind.FAILED: Outcome.FAILED,
    Kind.FAILED_PASSING: Outcome.FAILED,
    Kind.EXPIRED: Outcome.EXPIRED,
    Kind.CANCELLED: Outcome.CANCELLED,
    Kind.MISSING: Outcome.FAILED,
}
