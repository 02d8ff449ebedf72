"""Sorts the support tickets with a model class, and prints the urgent ones.

It talks to whatever OPENAI_BASE_URL and OPENAI_API_KEY say. Without a key: run `halfrate emulate` in another
terminal, and set the variables that it prints. Should this script be stopped, the same call goes on with its job.
"""

import csv
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

import halfrate

TICKETS = Path(__file__).with_name("support_tickets.csv")


class Ticket(BaseModel):
    category: Literal[
        "safety", "refund", "delivery", "repair", "exchange", "invoice",
        "membership", "login", "app", "praise", "question", "other",
    ]  # fmt: skip
    urgency: int = Field(ge=1, le=5, description="5: today, somebody may get hurt")
    summary: str


def main() -> None:
    results = halfrate.run(
        TICKETS,
        model="openai/gpt-4.1-mini",
        system="You sort the support tickets of an outdoor shop.",
        prompt="{subject}: {message}",
        output=Ticket,
        max_tokens=100,
        tags={"team": "support"},
    )
    with TICKETS.open(newline="", encoding="utf-8") as file:
        for ticket, result in zip(csv.DictReader(file), results, strict=True):
            if not result.ok:
                print(f"{ticket['id']}  {result.status}: {result.error}")
            elif result.answer.urgency == 5:
                print(f"{ticket['id']}  {result.answer.category:<10}  {ticket['subject']}")
    print(f"{results.succeeded} of {len(results)} answered for ${results.cost}")
    print(f"In real time it would have been ${results.realtime_cost}")


if __name__ == "__main__":
    main()
