"""Options: every keyword of ``tracker(...)``, its default, and what it may be.

A keyword that is not given comes from ``ASYNCTRACK_<NAME>`` in the environment, or else from the
default. Every value is checked before anything starts.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Union
from urllib.parse import urlsplit

from asynctrack._errors import OptionError
from asynctrack._format import ACCESS_POINT, SUFFIXES, is_valid_name

Overflow = Literal["spool", "block", "drop_newest"]
Durability = Literal["process", "power", "memory"]
Compression = Literal["zstd", "gzip", "none"]
Tokens = Literal["stream", "each", "none"]
Install = Literal[True, False, "process"]
Pattern = Union[str, "re.Pattern[str]"]
Redact = Callable[[str], str] | Pattern | Iterable[Pattern]


KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

S3_OPTIONS: Final = frozenset(
    {
        "ACL", "BucketKeyEnabled", "ExpectedBucketOwner", "RequestPayer", "SSEKMSEncryptionContext",
        "SSEKMSKeyId", "ServerSideEncryption", "StorageClass", "Tagging",
    }
)  # fmt: skip
"""Arguments of PutObject that users may set; asynctrack sets all others."""

_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SEGMENT: Final = r"(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f]+"
_BUCKET = re.compile(rf"[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]|(?:{ACCESS_POINT.pattern})", re.ASCII)
_SIZE = re.compile(r"\s*(\d+)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Root:
    """What a function given as ``sample=`` is told of a trace that begins.

    Attributes:
        name: The root's name; None where it has none.
        tags: Its tags.
        metadata: Its metadata, with session, user and thread as far as they are known.
    """

    name: str | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]


Sample = float | Callable[[Root], bool | float]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one tracker, all of them valid; ``asynctrack.tracker`` documents each."""

    durability: Durability = "process"
    spool_dir: str | os.PathLike[str] | None = None
    max_spool_bytes: int = GIB
    overflow: Overflow | None = None
    block_timeout: float | None = None
    max_buffer_bytes: int = 64 * MIB
    max_buffer_events: int = 100_000
    max_batch_bytes: int = 8 * MIB
    max_batch_events: int = 20_000
    max_delay: float = 5.0
    upload_concurrency: int = 4
    close_timeout: float = 30.0
    close_patience: float = 4.0
    close_on_sigterm: bool = False
    bucket: str | None = None
    prefix: str | None = None
    folder: str | os.PathLike[str] | None = None
    s3_options: Mapping[str, Any] | None = None
    compression: Compression = "zstd"
    redact: Redact | None = None
    max_value_bytes: int | None = None
    tokens: Tokens = "stream"
    experiment_name: str | None = None
    run_name: str | None = None
    session_keys: str | Sequence[str] = ()
    user_keys: str | Sequence[str] = ()
    install: Install = False
    sample: Sample = 1.0
    keep_errors: bool = False
    otlp: str | bool | None = None

    def __post_init__(self) -> None:
        """Check every option.

        Raises:
            OptionError: One is not allowed.
        """
        _choice(self, "durability", ("process", "power", "memory"))
        if self.overflow is not None:
            _choice(self, "overflow", ("spool", "block", "drop_newest"))
            if self.overflow == "spool" and self.durability == "memory":
                raise OptionError("overflow", "spool", "'block' or 'drop_newest' with no spool")
        if self.spool_dir is not None and not isinstance(self.spool_dir, (str, os.PathLike)):
            raise OptionError("spool_dir", self.spool_dir, "the path of a folder")
        if self.spool_dir:
            spool_dir = os.fspath(whole_path("spool_dir", self.spool_dir))
            object.__setattr__(self, "spool_dir", spool_dir)
        if self.folder is not None and not isinstance(self.folder, (str, os.PathLike)):
            raise OptionError("folder", self.folder, "the path of a folder")
        if self.folder is not None:
            if not os.fspath(self.folder):  # more likely an unset variable than this folder
                raise OptionError("folder", self.folder, "the path of a folder; '.' is this one")
            object.__setattr__(self, "folder", os.fspath(whole_path("folder", self.folder)))
        _integer(self, "max_spool_bytes", 16 * MIB, 1024 * GIB)
        _choice(self, "compression", tuple(SUFFIXES))
        if self.max_value_bytes is not None:
            _integer(self, "max_value_bytes", 64, 1024 * GIB)
        _choice(self, "tokens", ("stream", "each", "none"))
        if self.block_timeout is not None:
            _seconds(self, "block_timeout", 0.0, math.inf)
        _integer(self, "max_buffer_bytes", 64 * KIB, 1024 * GIB)
        _integer(self, "max_buffer_events", 10, 10**9)
        _integer(self, "max_batch_bytes", KIB, GIB)
        _integer(self, "max_batch_events", 1, 10**7)
        _seconds(self, "max_delay", 0.01, 3600.0)
        _integer(self, "upload_concurrency", 1, 64)
        _seconds(self, "close_timeout", 0.0, 86_400.0)
        _seconds(self, "close_patience", 0.0, 86_400.0)
        _text(self, "bucket", _BUCKET, "an S3 bucket's name, or an access point's ARN")
        _text(
            self,
            "prefix",
            re.compile(rf"(?:{_SEGMENT}(?:/{_SEGMENT})*)?"),
            "names between single slashes, without '.', '..', backslashes and control characters",
        )
        if self.install != "process" and not isinstance(self.install, bool):
            raise OptionError("install", self.install, "True, False or 'process'")
        for option in ("close_on_sigterm", "keep_errors"):
            if not isinstance(getattr(self, option), bool):
                raise OptionError(option, getattr(self, option), "True or False")
        self._check_sample()
        self._check_s3_options()
        for option in ("experiment_name", "run_name"):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, str) and is_valid_name(value)):
                raise OptionError(option, value, "1 to 119 of A-Z a-z 0-9 . _ -, no sign first")
        for small, large in (
            ("max_batch_bytes", "max_buffer_bytes"),
            ("max_batch_events", "max_buffer_events"),
        ):
            limit = getattr(self, large)
            if getattr(self, small) > limit:
                raise OptionError(small, getattr(self, small), f"at most {large}={limit}")
        for option in ("session_keys", "user_keys"):
            object.__setattr__(self, option, _names(option, getattr(self, option)))
        _address(self, "otlp")
        # Compiled here, because an iterator of patterns can be read only once.
        object.__setattr__(self, "redact", compile_redact(self.redact))

    def _check_sample(self) -> None:
        sample = self.sample
        if callable(sample):
            if inspect.iscoroutinefunction(sample):
                raise OptionError("sample", sample, "a function that is not async")
        elif isinstance(sample, bool) or not (
            isinstance(sample, (int, float)) and 0 <= sample <= 1
        ):
            raise OptionError("sample", sample, "a number from 0 to 1, or a function of a root")

    def _check_s3_options(self) -> None:
        if not isinstance(self.s3_options or {}, Mapping):
            raise OptionError("s3_options", self.s3_options, "a dictionary")
        for name in self.s3_options or {}:
            if name not in S3_OPTIONS:
                raise OptionError("s3_options", name, f"one of {', '.join(sorted(S3_OPTIONS))}")

    @property
    def effective_overflow(self) -> Overflow:
        """What happens when the buffer is full, with the default filled in."""
        if self.overflow is not None:
            return self.overflow
        return "block" if self.durability == "memory" else "spool"

    @classmethod
    def resolve(cls, given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Options:
        """Take keywords first, then ``ASYNCTRACK_*`` of the environment, then the defaults.

        Args:
            given: The keywords of the call.
            environ: The environment; None takes the process's.

        Raises:
            OptionError: A keyword is unknown, or a value is not allowed.
        """
        environ = os.environ if environ is None else environ
        known = {item.name: item for item in fields(cls)}
        for name in given:
            if name not in known:
                raise OptionError(name, given[name], f"one of the options: {', '.join(known)}")
        values = dict(given)
        defaults = cls.__dataclass_fields__
        for name in known:
            text = environ.get(f"ASYNCTRACK_{name.upper()}")
            if name not in values and text is not None:
                values[name] = _from_environment(name, text, defaults[name].default)
        # Batches shrink with a buffer that the user made smaller: asking for a small
        # buffer alone is not an error.
        for small, large in (
            ("max_batch_bytes", "max_buffer_bytes"),
            ("max_batch_events", "max_buffer_events"),
        ):
            limit = values.get(large)
            if small not in values and isinstance(limit, int):
                default: int = getattr(cls(), small)
                values[small] = max(1, min(default, limit // 4))
        try:
            return cls(**values)
        except OptionError as error:
            if error.option in given or error.option not in values:
                raise
            variable = f"ASYNCTRACK_{error.option.upper()}"
            if variable not in environ:
                raise
            raise OptionError(variable, error.value, error.allowed) from None


def compile_redact(redact: Redact | None) -> Callable[[str], str] | None:
    """Turn the option into one function from string to string, or None.

    Raises:
        OptionError: It is neither a function nor regular expressions.
    """
    if redact is None:
        return None
    if callable(redact):
        return redact
    allowed = "a function from str to str, or regular expressions"
    single = isinstance(redact, (str, re.Pattern))
    try:
        items = [redact] if single else list(redact)  # type: ignore[arg-type]  # tried, caught
        patterns = [re.compile(item) for item in items]  # type: ignore[arg-type]  # tried, caught
        if any(pattern.search("") for pattern in patterns):
            raise ValueError("one matches the empty text, and so between any two characters")
    except (TypeError, ValueError, re.error) as error:
        raise OptionError("redact", redact, f"{allowed} ({error})") from None

    def replace(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub("[REDACTED]", text)
        return text

    return replace


def _from_environment(name: str, text: str, default: object) -> object:
    if name == "install" and text.lower() == "process":
        return "process"
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            allowed = "true, false or process" if name == "install" else "true or false"
            raise OptionError(f"ASYNCTRACK_{name.upper()}", text, allowed)
        return _BOOLEANS[text.lower()]
    if name == "otlp" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if name == "s3_options":
        import json  # not in the user's event loop, where nobody asks for it

        try:
            return json.loads(text)
        except ValueError:
            raise OptionError(f"ASYNCTRACK_{name.upper()}", text, "a JSON object") from None
    if name in ("block_timeout", "max_delay", "close_timeout", "close_patience"):
        try:
            return float(text)
        except ValueError:
            raise OptionError(f"ASYNCTRACK_{name.upper()}", text, "a number of seconds") from None
    if name == "sample":
        try:
            return float(text)
        except ValueError:
            raise OptionError("ASYNCTRACK_SAMPLE", text, "a number from 0 to 1") from None
    if name in ("session_keys", "user_keys"):
        return tuple(one.strip() for one in text.split(","))
    if isinstance(default, int) or name == "max_value_bytes":
        match = _SIZE.fullmatch(text)
        unit = match and _UNITS.get(match[2].lower())
        if match is None or unit is None:
            raise OptionError(
                f"ASYNCTRACK_{name.upper()}", text, "a whole number, like 1000 or 64MiB"
            )
        return int(match[1]) * unit
    return text


def _choice(options: Options, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(options, name) not in allowed:
        raise OptionError(name, getattr(options, name), " or ".join(map(repr, allowed)))


def whole_path(option: str, given: str | os.PathLike[str]) -> Path:
    """Return the whole path of a folder. It stays the same when the program or a forked child
    changes its directory.

    Raises:
        OptionError: It is in the home of a user who has none.
    """
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError as error:  # ~nobody
        raise OptionError(option, os.fspath(given), f"the path of a folder ({error})") from None


def _integer(options: Options, name: str, low: int, high: int) -> None:
    value = getattr(options, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OptionError(name, value, f"a whole number from {low} to {high}")


def _seconds(options: Options, name: str, low: float, high: float) -> None:
    value = getattr(options, name)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not low <= value <= high:
        raise OptionError(name, value, f"seconds from {low:g} to {high:g}")


def _names(option: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    # Neither a set, whose order changes, nor an iterator, which can be read only once.
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n for n in names):
        raise OptionError(option, value, "the name of a key of metadata, or a list of names")
    return tuple(names)


def _text(options: Options, name: str, pattern: re.Pattern[str], allowed: str) -> None:
    value = getattr(options, name)
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise OptionError(name, value, allowed)


def _address(options: Options, name: str) -> None:
    value = getattr(options, name)
    if value is None or isinstance(value, bool):
        return
    allowed = "an address, like http://localhost:4318/v1/traces, or True for OTEL_EXPORTER_OTLP_*"
    good = False
    if isinstance(value, str) and value.isprintable() and " " not in value:
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is none
            pass
    if not good:
        # Not shown: an address may hold a password.
        raise OptionError(name, "…" if isinstance(value, str) else value, allowed)
