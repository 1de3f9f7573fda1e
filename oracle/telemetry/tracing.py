"""OpenTelemetry spans for requests whose caller asks for them, exported as OTLP over HTTP.

Cost.      Without an endpoint the module imports and starts nothing.  With one, a request that is not sampled
           costs a look at one byte of its `traceparent`.  A sampled request is recorded when it has ended.
Sampled.   When the caller's flag asks for it, or the configured ratio chooses its trace id (the same traces in
           every process and service that counts this way; at random without a trace id).
Privacy.   A span carries the attributes listed below, plain words and numbers: no identifier, no path, no
           exception message.  `tracestate` is not read.
Failure.   A collector that is slow, wrong or gone costs spans, never a request.  One log line reports that export
           fails and why, one that it works again; `spans_total` counts.
Limits.    TracingLimits.  A full queue drops the oldest spans.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from oracle.telemetry.logs import Condition, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Tracer

    from oracle.telemetry.metrics import Metrics

# The attributes of a span.  A value is a number below 1000 or a plain word, so that no phone number, account,
# e-mail address or name of a person gets in by mistake.
ATTRIBUTES = frozenset({"party_id_type", "operation", "result", "status", "channel"})
_WORD = re.compile(r"[A-Za-z_]{1,32}")
_ERROR = re.compile(r"[0-9]{4}|[A-Za-z_]{1,64}")  # an FSPIOP code or the name of an exception type

_EXPORT_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

# W3C Trace Context: version 00 has exactly these four fields, a later one may add more; zero ids are void.
_TRACEPARENT = re.compile(
    rb"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2}(?=.{53}(?:-|\Z)))"
    rb"-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}",
    re.DOTALL,
)
_FLAGS = 54  # position of the flags' second digit; odd digits have the sampled bit
_ODD = b"13579bdf"


@dataclass(frozen=True, slots=True)
class TracingLimits:
    """What a slow collector can cost."""

    queue_spans: int = 2048
    batch_spans: int = 512
    batch_every_ms: int = 1000
    export_s: float = 5.0  # with its retries
    shutdown_s: float = 2.0


def trace_id_of(traceparent: bytes | None) -> str | None:
    """Return the trace id of a valid header: 32 lower-case hex digits, not all zero."""
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    return match[1].decode() if match else None


class Tracing:
    """Decides which requests leave a span, and records the span afterwards."""

    def __init__(
        self,
        exporter: _Exporter | None,
        tracer: Tracer | None,
        close: Callable[[], None],
        ratio: float,
        limits: TracingLimits | None = None,
    ) -> None:
        self._exporter, self._tracer, self._close = exporter, tracer, close
        self._limits = limits or TracingLimits()
        self.is_on = tracer is not None  # else nothing is sampled
        self._bound = round(min(max(ratio, 0.0), 1.0) * 2**64)

    @classmethod
    def open(
        cls,
        service_name: str,
        endpoint: str | None,
        ratio: float = 0.0,
        *,
        metrics: Metrics | None = None,
        limits: TracingLimits | None = None,
    ) -> Tracing:
        """Start exporting to a collector's base URL (or its `/v1/traces`); without one, tracing is off."""
        if not endpoint:
            return cls(None, None, lambda: None, 0.0)
        limits = limits or TracingLimits()
        exporter = _Exporter(endpoint, metrics, limits)
        provider = _make_provider(service_name, exporter, limits)
        return cls(exporter, provider.get_tracer("oracle"), provider.shutdown, ratio, limits)

    def is_sampled(self, traceparent: bytes | None) -> bool:
        """Whether this request leaves a span; called once for each request, on the hot path."""
        if self._tracer is None:
            return False
        if (
            traceparent is not None
            and len(traceparent) > _FLAGS
            and traceparent[_FLAGS] in _ODD
            and _TRACEPARENT.match(traceparent)
        ):
            return True
        return self._bound > 0 and self._is_chosen(traceparent)

    def record(
        self,
        name: str,
        traceparent: bytes | None,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int] | None = None,
        *,
        error: str | BaseException | None = None,
    ) -> None:
        """Record the span of a sampled request that has ended; times are those of time.time_ns().

        `name` is a route, such as "GET /participants/{Type}/{ID}", never a path.  `error` is an FSPIOP code
        or an exception; the span gets the type of an exception alone.
        """
        if self._tracer is None or self._exporter is None:
            return
        # Loaded already, because there is a tracer.
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

        span = self._tracer.start_span(
            name,
            context=_parent(traceparent),
            kind=SpanKind.SERVER,
            attributes=_select_harmless(attributes or {}),
            start_time=start_ns,
        )
        if error is not None:
            word = type(error).__name__ if isinstance(error, BaseException) else error
            span.set_attribute("error.type", word if _ERROR.fullmatch(word) else "other")
            span.set_status(StatusCode.ERROR)
        span.end(end_time=end_ns)
        self._exporter.count("recorded", 1)

    @contextmanager
    def span(self, name: str, traceparent: bytes | None, **attributes: str | int) -> Iterator[None]:
        """Record how long the block took, where a `with` is affordable (not on the lookup path)."""
        if not self.is_sampled(traceparent):
            yield
            return
        start_ns, error = time.time_ns(), None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.record(name, traceparent, start_ns, time.time_ns(), attributes, error=error)

    def close(self) -> None:
        """Send the queued spans, for `shutdown_s` at most; it blocks, so call it when no request is left."""
        # The SDK's own shutdown waits half a minute for a collector that does not answer.
        closing = threading.Thread(target=self._close, name="tracing-close", daemon=True)
        closing.start()
        closing.join(self._limits.shutdown_s)
        self._tracer = None
        self.is_on = False
        if closing.is_alive() and self._exporter is not None:
            self._exporter.shutdown()

    def _is_chosen(self, traceparent: bytes | None) -> bool:
        trace_id = trace_id_of(traceparent)
        return (int(trace_id[16:], 16) if trace_id else random.getrandbits(64)) < self._bound


class _Exporter:
    """The OTLP exporter, which reports failures once and counts them."""

    def __init__(self, endpoint: str, metrics: Metrics | None, limits: TracingLimits) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        url = endpoint if endpoint.endswith("/v1/traces") else endpoint.rstrip("/") + "/v1/traces"
        self._inner = OTLPSpanExporter(endpoint=url, timeout=limits.export_s)
        self._done, self._failed = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
        self._metrics = metrics
        self._export = Condition(Log(__name__), "Trace export", good="works", quiet_s=60.0)
        self._reason = ""
        # The exporter logs every attempt; its words are kept for the one line below.
        logging.getLogger(_EXPORT_LOGGER).filters[:] = [self._keep_reason]
        logging.getLogger("opentelemetry.sdk").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            done = self._inner.export(spans) is self._done
        except Exception as error:  # noqa: BLE001  (any error of a library below costs these spans, no more)
            done, self._reason = False, type(error).__name__
        self.count("exported" if done else "failed", len(spans))
        if done:
            self._export.now("works")
        else:
            self._export.now("fails", reason=self._reason)
        return self._done if done else self._failed

    def count(self, result: str, spans: int) -> None:
        if self._metrics is not None:
            self._metrics.add("spans_total", spans, result=result)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  (the SDK's signature)
        return True

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        self._reason = record.getMessage()[:200]
        return False


def _make_provider(service_name: str, exporter: _Exporter, limits: TracingLimits) -> TracerProvider:
    # Here, not above: it takes a fifth of a second and ten megabytes, and most deployments do not trace.
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

    provider = TracerProvider(
        sampler=ALWAYS_ON,  # `is_sampled` has decided
        resource=Resource.create({"service.name": service_name}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            cast("SpanExporter", exporter),
            max_queue_size=limits.queue_spans,
            schedule_delay_millis=limits.batch_every_ms,
            max_export_batch_size=limits.batch_spans,
            export_timeout_millis=limits.export_s * 1000,
        )
    )
    return provider


def _parent(traceparent: bytes | None) -> Context:
    """Return the caller's span as the SDK wants it; without a valid one an empty context: a new trace."""
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import (  # noqa: PLC0415
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    match = _TRACEPARENT.match(traceparent) if traceparent else None
    if match is None:
        return Context()
    remote = SpanContext(
        int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _select_harmless(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {key: value for key, value in attributes.items() if key in ATTRIBUTES and _is_harmless(value)}


def _is_harmless(value: str | int) -> bool:
    return 0 <= value < 1000 if isinstance(value, int) else bool(_WORD.fullmatch(value))  # noqa: PLR2004
