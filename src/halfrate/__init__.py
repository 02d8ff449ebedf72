"""halfrate runs every LLM workload that can wait at about half the price, and proves it.

results = halfrate.run("reviews.csv", model="openai/gpt-4.1-mini", prompt="Sentiment of: {review}")
for result in results:
    print(result.answer)
"""

from typing import TYPE_CHECKING, Final

from halfrate.base.errors import (
    HalfrateError,
    InputError,
    JobPaused,
    OutcomeUnknown,
    OverBudget,
    ProviderError,
    Refused,
    SettingsError,
    StorageError,
    UsageError,
)
from halfrate.base.version import VERSION

if TYPE_CHECKING:
    from halfrate._api import Job, Result, Results, arun, asubmit, job, run, submit

__version__: Final = VERSION

__all__ = [
    "HalfrateError",
    "InputError",
    "Job",
    "JobPaused",
    "OutcomeUnknown",
    "OverBudget",
    "ProviderError",
    "Refused",
    "Result",
    "Results",
    "SettingsError",
    "StorageError",
    "UsageError",
    "__version__",
    "arun",
    "asubmit",
    "job",
    "run",
    "submit",
]


def __getattr__(name: str) -> object:
    # The command's own start must not wait for a database library to be imported.
    if name in __all__:
        from halfrate import _api

        return getattr(_api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
