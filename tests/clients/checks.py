"""What the client tests share: named checks with clear messages, and the reading of `Cache-Status`."""

import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field


class Failed(Exception):
    """An expectation that was not met."""


@dataclass
class Checks:
    """Runs checks by name and remembers which failed."""

    failed: list[str] = field(default_factory=list)

    def run(self, check: Callable[..., None], *arguments) -> None:
        """Runs one check. Whatever it raises is a failure, and the next check runs all the same."""
        name = check.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            check(*arguments)
        except Exception as error:  # noqa: BLE001
            self.failed.append(name)
            print(f"FAILED  {name}: {error}", flush=True)
            if not isinstance(error, Failed):
                traceback.print_exc()
        else:
            print(f"ok      {name} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)

    def exit_code(self) -> int:
        return 1 if self.failed else 0


def expect(condition: object, message: str) -> None:
    """Fails with `message` unless `condition` holds. Unlike `assert` it is never compiled away."""
    if not condition:
        raise Failed(message)


def expect_equal(actual: object, expected: object, what: str) -> None:
    expect(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def unique(prefix: str) -> str:
    """A name that nobody has asked for yet."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@dataclass
class CacheStatus:
    """The member that Outrigger adds to `Cache-Status` (RFC 9211): it is the last, as it is next to the client."""

    text: str
    parameters: dict[str, str]

    @classmethod
    def of(cls, headers) -> "CacheStatus":
        text = headers.get("cache-status")
        expect(text is not None, "the response has no Cache-Status")
        name, *parameters = (part.strip() for part in text.split(",")[-1].split(";"))
        expect_equal(name, "outrigger", f"name of the cache in {text!r}")
        return cls(text, {key: value for key, _, value in (part.partition("=") for part in parameters)})

    def expect_hit(self, what: str) -> None:
        expect("hit" in self.parameters, f"{what}: expected a hit, got {self.text!r}")

    def expect_miss(self, what: str) -> None:
        """Any reason: nothing stored, or what was stored was purged."""
        expect("hit" not in self.parameters, f"{what}: expected no hit, got {self.text!r}")

    def expect_stored_uri_miss(self, what: str) -> None:
        expect_equal(self.parameters.get("fwd"), "uri-miss", f"{what}: fwd in {self.text!r}")
        expect("stored" in self.parameters, f"{what}: expected it to be stored, got {self.text!r}")
