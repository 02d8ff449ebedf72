"""Names that halfrate gives: jobs, shards, tag handles and the ids that rows carry at a provider.

A row's id at the provider is `hr-<shard>-<attempt>-<row>`: it fits the strictest alphabet in use
(Anthropic's `^[a-zA-Z0-9_-]{1,64}$`), and finding the row of a result is arithmetic, not a dictionary.
The part before the row, `hr-<shard>-<attempt>`, is the tag handle of the batch.
"""

import os

# Crockford's base 32 in lower case: no i, l, o, u, so an id can be read out over a telephone.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # 32 of them, so that bytes fall on all alike
_JOB_LENGTH = 10  # 50 random bits
_PUBLIC_LENGTH = 24


def new_job_id() -> str:
    """A fresh job id such as `k3v9x2m4qp`."""
    return _random(_JOB_LENGTH)


def is_job_id(name: str) -> bool:
    """Whether a name could be one of `new_job_id`."""
    return len(name) == _JOB_LENGTH and set(name) <= set(_ALPHABET)


def new_id(prefix: str) -> str:
    """A fresh id of something that callers of the gateway see, such as `file-` and 24 characters."""
    return prefix + _random(_PUBLIC_LENGTH)


def new_token() -> str:
    """Eight random digits that tell two processes of one number apart."""
    return os.urandom(4).hex()


def shard_id(job_id: str, number: int) -> str:
    return f"{job_id}-{number}"


def tag_handle(shard: str, attempt: int) -> str:
    return f"hr-{shard}-{attempt}"


def row_prefix(shard: str, attempt: int) -> str:
    """What stands before the row number in the ids of one batch."""
    return f"hr-{shard}-{attempt}-"


def _random(length: int) -> str:
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(length))
