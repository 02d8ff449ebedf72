"""Every error halfrate raises, in three branches that must never be confused.

HalfrateError
├── UsageError            you asked wrong; nothing was sent, nothing costs money
│   ├── InputError        a row, line or column of the input is at fault
│   ├── SettingsError     a key, a setting or a file of the user's is missing or wrong
│   └── OverBudget        a budget would be crossed
├── ProviderError
│   ├── Refused           the provider said no; nothing was started
│   └── OutcomeUnknown    the provider may have said yes; look before doing it again
├── StorageError          this machine could not keep something (disk full, no permission)
├── StoreBusy             another process holds the database
└── IllegalStep           halfrate tried a step that its own life cycle does not allow

*Unknown* is never handled as *refused*, and a look-up that failed is never "absent".
"""

from typing import Final

UNREACHABLE: Final = "unreachable"
"""Code of a refusal by the network: no connection was made, so nothing was asked."""
HELD_UP: Final = "held_up"
"""Code of a refusal of our own: this process was stopped for too long to know whether it may still ask."""


class HalfrateError(Exception):
    """The root. `str(error)` is written for the person who has to act on it."""


class UsageError(HalfrateError):
    """What was asked for cannot be done as asked. Nothing was sent."""


class InputError(UsageError):
    """A row, a line or a column of the input cannot be used. Nothing was sent.

    Attributes:
        row: zero-based row of the job, or None where the fault is not in one row.
        line: one-based line of the file, or None.
        column: the column or field at fault, or None.
    """

    def __init__(
        self, message: str, *, row: int | None = None, line: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.row = row
        self.line = line
        self.column = column


class SettingsError(UsageError):
    """A key, a setting or a file that halfrate needs is missing or wrong. Nothing was sent."""


class OverBudget(UsageError):
    """A budget would be crossed. Nothing was sent."""


class ProviderError(HalfrateError):
    """A call to a provider did not give what it was for."""


class Refused(ProviderError):
    """The provider answered, and the answer was no. Nothing was started by this call.

    Attributes:
        status: HTTP status, or 0 where the refusal came inside a batch object.
        code: the provider's own error code or type, "" if it gave none.
        retry_after: seconds the provider asked us to wait, or None.
        queue_full: there is no room for the batch in the provider's queue now.
        queue_limit: how many tokens that queue takes, where the provider says it.
    """

    queue_full: bool = False
    queue_limit: int | None = None

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """True for a refusal that time may cure: rate limits, overload, the provider's own faults."""
        return (
            self.queue_full
            or self.status in {408, 409, 425, 429}
            or self.status >= 500
            or self.code in {UNREACHABLE, HELD_UP}
        )

    @property
    def credentials(self) -> bool:
        """True when the key is missing, wrong or not allowed to do this."""
        return self.status in {401, 403}


class OutcomeUnknown(ProviderError):
    """The connection broke or the reply made no sense: the call may have taken effect."""


class JobPaused(HalfrateError):
    """The job is held back, by its user or because most rows of a batch failed. All that was done is kept."""


class StorageError(HalfrateError):
    """This machine could not keep something: disk full, no permission, a file that vanished."""


class StoreBusy(HalfrateError):
    """Another process held the database for longer than we were willing to wait."""


class IllegalStep(HalfrateError):
    """A step that the life cycle does not allow. A defect of halfrate; nothing was changed."""
