"""Drives the emulator's Bedrock and S3 surfaces without sockets."""

from typing import Any

from halfrate.emulator import Response

from .driver import Driver, jsonl, lines_of

CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-2402-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
ROLE = "arn:aws:iam::123456789012:role/batch"
JOBS = "/bedrock/model-invocation-jobs"
SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKIA1/20261120/eu-west-1/bedrock/aws4_request, "
    "SignedHeaders=host, Signature=00"
}


def claude(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    return {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": messages, **more}


def converse(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": text}]}], **more}


def record(record_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"recordId": record_id, "modelInput": body}


def records(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [record(f"r-{n}", claude(f"Where is order {n}?")) for n in range(start, start + count)]


def request(name: str, source: str = "s3://data/in/a.jsonl", **more: Any) -> dict[str, Any]:
    """The parameters of a new job, as the API and boto3 take them."""
    return {
        "jobName": name,
        "roleArn": ROLE,
        "modelId": CLAUDE,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": source, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://data/out/"}},
        **more,
    }


class Bedrock:
    """Every helper asserts the status it expects."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def put(self, key: str, content: bytes) -> None:
        assert self.driver.send("PUT", f"/s3/data/{key}", content, headers=SIGNED).status == 200

    def get(self, key: str) -> bytes:
        response = self.driver.send("GET", f"/s3/data/{key}", headers=SIGNED)
        assert response.status == 200, response.read()
        return response.read()

    def create(self, name: str, **more: Any) -> Response:
        path = "/bedrock/model-invocation-job"
        return self.driver.send("POST", path, request(name, **more), headers=SIGNED)

    def job(self, given: list[dict[str, Any]], name: str = "hr-1", **more: Any) -> str:
        """The ARN of a new job."""
        self.put("in/a.jsonl", jsonl(given))
        response = self.create(name, **more)
        assert response.status == 200, response.read()
        return response.json()["jobArn"]

    def look(self, arn: str) -> Any:
        return self.driver.json("GET", f"/bedrock/model-invocation-job/{arn}", headers=SIGNED)

    def results(self, arn: str, name: str = "a.jsonl") -> list[Any]:
        return lines_of(self.get(f"out/{arn[-12:]}/{name}.out"))
