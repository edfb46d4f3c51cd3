"""What Conductor answers, and what it means for whoever asked: every foreign status translated once."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp

from podium.core.outage import Outcome
from podium.ports import (
    Conflict,
    Gone,
    NotSent,
    OutcomeUnknown,
    PortError,
    Refused,
    RetryLater,
)

LONGEST_WORDS = 400
LONGEST_ANSWER = 2**26
_NO_SUB_WORKFLOW = "has no workflow definition available"
_NO_METHOD = re.compile(r"Request method '\w+' is not supported")


@dataclass
class Answer:
    """What came back: HTTP status and body.

    Something that stands between may answer in Conductor's place, an ingress without a backend with
    404, a proxy with 503, mostly in HTML. Nothing of that is taken for Conductor's word.
    """

    status: int
    text: str
    content_type: str = ""
    retry_after: str = ""

    @cached_property
    def body(self) -> Any:
        """Its JSON; None if it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def is_its_own(self) -> bool:
        """Whether an error is Conductor's own: it has a body of JSON with a message."""
        return isinstance(self.body, dict) and "message" in self.body

    @property
    def is_no_endpoint(self) -> bool:
        """Whether Conductor says that it has nothing at this path, or nothing for this method.

        Older ones say the latter with 500.
        """
        if not self.is_its_own:
            return False
        message = str(self.body["message"])
        match self.status:
            case 404:
                return message.startswith("No static resource")
            case 500:
                return bool(_NO_METHOD.fullmatch(message))
            case status:
                return status in (405, 501)

    @property
    def lacks_sub_workflow(self) -> bool:
        """Whether it refuses a start, with 500, since a sub-workflow is not registered: no run was made."""
        return self.status == 500 and self.is_its_own and _NO_SUB_WORKFLOW in self.words

    def outcome(self, *, wants_json: bool) -> tuple[Outcome, str]:
        """What it says of the server that answered."""
        if self.is_no_endpoint or self.lacks_sub_workflow:
            return "fine", ""
        if self.status >= 500 or self.status == 429:
            return "broken", f"Conductor answers HTTP {self.status}"
        if self.content_type == "text/html" and self.status != 400:
            return "broken", f"something other than Conductor answers HTTP {self.status}"
        if wants_json and self.status < 300 and self.body is None:
            return "broken", "Conductor answers something that is not JSON"
        return "fine", ""

    @property
    def words(self) -> str:
        """What the server says of an error, in its own words."""
        body = self.body
        if not isinstance(body, dict):
            return f"HTTP {self.status}"
        errors = body.get("validationErrors")
        details = [
            f"{item.get('path', '')}: {item.get('message', '')}".strip(": ")
            for item in (errors if isinstance(errors, list) else ())
            if isinstance(item, dict)
        ]
        said = "; ".join(details) or str(body.get("message") or f"HTTP {self.status}")
        return said[:LONGEST_WORDS]

    @property
    def told(self) -> str:
        """The status and, if there are any, the words."""
        code = f"HTTP {self.status}"
        return code if self.words == code else f"{code}, {self.words}"

    @property
    def is_list(self) -> bool:
        """Whether the body is a JSON list."""
        return isinstance(self.body, list)

    def find(self, key: str) -> Any:
        """A member of the body, if that is a JSON object."""
        return self.body.get(key) if isinstance(self.body, dict) else None


class TooLong(RetryLater):
    """The answer is too long to be kept: fewer things are to be asked at once."""


async def answer_of(response: aiohttp.ClientResponse) -> Answer:
    """What came back. Raises TooLong."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LONGEST_ANSWER:
            raise TooLong(f"Conductor's answer has more than {LONGEST_ANSWER // 2**20} MiB")
    # JSON is UTF-8, whatever the header says of it.
    text = b"".join(parts).decode(errors="replace")
    return Answer(response.status, text, response.content_type, response.headers.get("Retry-After", ""))


class NoEndpoint(RetryLater):
    """It is not the server that it was taken for: nothing is known of what was asked for."""


def raise_for(answer: Answer) -> None:
    """Translate a status once: what it means for whoever asked."""
    if answer.status < 300:
        return
    if answer.is_no_endpoint:
        raise NoEndpoint(answer.words)
    error: type[PortError]
    match answer.status:
        case 408 | 429:
            raise RetryLater(answer.words, after=parse_retry_after(answer.retry_after))
        case status if status >= 500 or status in (401, 403) or not answer.is_its_own:
            error = RetryLater
        case 404:
            error = Gone
        case 409:
            error = Conflict
        case _:
            error = Refused
    raise error(answer.words)


def parse_retry_after(retry_after: str) -> float:
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 0.0


def raise_for_once(answer: Answer) -> None:
    """As `raise_for`, for what must not be done twice: an error of the server is an unknown outcome."""
    if answer.status == 429:
        raise NotSent("Conductor is busy (429)")
    try:
        raise_for(answer)
    except RetryLater as error:
        raise OutcomeUnknown(f"Conductor answered {answer.status}: {error}") from error
