"""Spans are received by a real OTLP collector on a free port, as small as can be."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import Tracing, TracingLimits, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01".encode()
UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()
IDENTIFIER = "525512345678"
ROUTE = "GET /participants/{Type}/{ID}"


class Collector(ThreadingHTTPServer):
    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: Queue[bytes] = Queue()
        self.paths: list[str] = []
        self.release = threading.Event()
        self.release.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def request(self) -> tuple[bytes, ExportTraceServiceRequest]:
        body = self.bodies.get(timeout=60)
        return body, ExportTraceServiceRequest.FromString(body)


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.release.wait(120)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.server.bodies.put(body)

    def log_message(self, *_: Any) -> None:
        pass


# Sending the queue can take long on a busy machine.  A short stop shows itself: every other limit is longer than a
# test would wait.
PATIENT = TracingLimits(export_s=60.0, shutdown_s=60.0)
SHORT_STOP = TracingLimits(export_s=60.0, shutdown_s=2.0)


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics.open(None, "hub", 0)


def spans(metrics: Metrics) -> dict[str, float]:
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == "moja_oracle_spans_total"
    }


def record(tracing: Tracing, traceparent: bytes | None, **attributes: str | int) -> None:
    now = time.time_ns()
    tracing.record(ROUTE, traceparent, now - 1_500_000, now, attributes)


def test_a_span_reaches_the_collector_under_the_callers_span(collector: Collector, metrics: Metrics) -> None:
    tracing = Tracing.open("oracle", collector.url, metrics=metrics, limits=PATIENT)
    assert tracing.is_sampled(SAMPLED)
    tracing.record(
        ROUTE,
        SAMPLED,
        1_000,
        2_000,
        {"party_id_type": "MSISDN", "result": "refused", "status": 404},
        error="3204",
    )
    tracing.close()
    _, request = collector.request()
    (resource,) = request.resource_spans
    assert {"service.name": "oracle"}.items() <= {
        one.key: one.value.string_value for one in resource.resource.attributes
    }.items()
    (span,) = resource.scope_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (ROUTE, 1_000, 2_000)
    assert {one.key: one.value.string_value or one.value.int_value for one in span.attributes} == {
        "party_id_type": "MSISDN",
        "result": "refused",
        "status": 404,
        "error.type": "3204",
    }
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert not span.status.message
    assert not span.events
    assert collector.paths == ["/v1/traces"]
    assert spans(metrics) == {"recorded": 1, "exported": 1, "failed": 0}


def test_no_identifier_gets_into_a_span_by_any_argument(collector: Collector) -> None:
    tracing = Tracing.open("oracle", collector.url + "/v1/traces", limits=PATIENT)
    record(tracing, SAMPLED, identifier=IDENTIFIER, result=IDENTIFIER, status=int(IDENTIFIER))
    tracing.record(ROUTE, SAMPLED, 1, 2, error=IDENTIFIER)
    with pytest.raises(LookupError), tracing.span(ROUTE, SAMPLED, operation=IDENTIFIER):
        raise LookupError(IDENTIFIER)
    tracing.close()
    body, request = collector.request()
    assert IDENTIFIER.encode() not in body
    found = request.resource_spans[0].scope_spans[0].spans
    assert [[(one.key, one.value.string_value) for one in span.attributes] for span in found] == [
        [],
        [("error.type", "other")],
        [("error.type", "LookupError")],
    ]


def test_a_request_that_is_not_sampled_leaves_no_span(collector: Collector, metrics: Metrics) -> None:
    tracing = Tracing.open("oracle", collector.url, metrics=metrics, limits=PATIENT)
    for traceparent in (None, b"", UNSAMPLED, SAMPLED[:-1], SAMPLED.upper()):
        assert not tracing.is_sampled(traceparent)
        with tracing.span(ROUTE, traceparent):
            pass
    tracing.close()
    assert spans(metrics)["recorded"] == 0
    assert collector.bodies.empty()


def test_without_an_endpoint_nothing_is_loaded_or_started() -> None:
    code = f"""
import sys, threading
from oracle.telemetry.tracing import Tracing
tracing = Tracing.open("oracle", None, 1.0)
assert not tracing.is_sampled({SAMPLED!r})
tracing.record("x", {SAMPLED!r}, 1, 2)
with tracing.span("x", {SAMPLED!r}): pass
tracing.close()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_ratio_chooses_by_trace_id_and_alike_everywhere(collector: Collector) -> None:
    half = Tracing.open("oracle", collector.url, 0.5, limits=PATIENT)
    everything = Tracing.open("oracle", collector.url, 1.0, limits=PATIENT)
    low, high = (f"00-{'1' * 16}{half:0>16x}-{SPAN}-00".encode() for half in (1, 2**64 - 1))
    assert (half.is_sampled(low), half.is_sampled(high)) == (True, False)
    assert everything.is_sampled(None)
    assert everything.is_sampled(high)
    assert any(half.is_sampled(None) for _ in range(200))
    assert not all(half.is_sampled(None) for _ in range(200))
    half.close()
    everything.close()


def test_a_request_without_a_parent_begins_a_trace(collector: Collector) -> None:
    tracing = Tracing.open("oracle", collector.url, 1.0, limits=PATIENT)
    record(tracing, None, result="hit")
    tracing.close()
    span = collector.request()[1].resource_spans[0].scope_spans[0].spans[0]
    assert not span.parent_span_id
    assert any(span.trace_id)


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_failing_collector_costs_spans_and_one_line(
    collector: Collector,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    collector.status = status
    tracing = Tracing.open("oracle", collector.url, metrics=metrics, limits=PATIENT)
    exporter = tracing._exporter
    assert exporter
    exporter._inner._client._timeout = 0.2
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult

    for _ in range(3):
        assert exporter.export([ReadableSpan("x")]) is SpanExportResult.FAILURE
    tracing.close()
    assert [one.getMessage() for one in caplog.records] == ["Trace export fails"]
    assert capfd.readouterr().err == ""
    assert spans(metrics)["failed"] == 3


def test_a_missing_collector_disturbs_nothing(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    gone = Collector()
    gone.server_close()
    tracing = Tracing.open("oracle", gone.url, metrics=metrics, limits=SHORT_STOP)
    for _ in range(5000):
        record(tracing, SAMPLED, result="hit")
    begun = time.monotonic()
    tracing.close()
    assert time.monotonic() - begun < 30
    assert {one.getMessage() for one in caplog.records} <= {"Trace export fails"}
    assert spans(metrics)["recorded"] == 5000


def test_shutting_down_does_not_wait_for_a_silent_collector(collector: Collector) -> None:
    collector.release.clear()
    tracing = Tracing.open("oracle", collector.url, limits=SHORT_STOP)
    record(tracing, SAMPLED, result="hit")
    begun = time.monotonic()
    tracing.close()
    assert 1.5 < time.monotonic() - begun < 30
    record(tracing, SAMPLED, result="hit")
    assert not tracing.is_sampled(SAMPLED)


def test_a_span_recorded_while_closing_is_harmless(collector: Collector) -> None:
    tracing = Tracing.open("oracle", collector.url, limits=PATIENT)
    tracer = tracing._tracer
    tracing.close()
    tracing._tracer = tracer
    record(tracing, SAMPLED)


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"))
@example(b"00-" + b"0" * 32 + b"-" + SPAN.encode() + b"-01")
@example(SAMPLED[:36] + b"0" * 16 + b"-01")
@example(b"ff" + SAMPLED[2:])
@example(SAMPLED + b"-extra")
@example(SAMPLED + b"\n")
@example(b"\xff" * 55)
def test_hostile_headers_never_raise(traceparent: bytes) -> None:
    tracing = Tracing(None, STAND_IN, lambda: None, 0.5)
    tracing.is_sampled(traceparent)
    trace_id = trace_id_of(traceparent)
    if trace_id is None:
        assert not Tracing(None, STAND_IN, lambda: None, 0.0).is_sampled(traceparent)
    else:
        assert len(trace_id) == 32
        assert set(trace_id) <= set("0123456789abcdef")
        assert int(trace_id, 16)


STAND_IN: Any = object()


@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        (SAMPLED, True),
        (UNSAMPLED, True),
        (b"01" + SAMPLED[2:], True),
        (b"01" + SAMPLED[2:] + b"-what", True),
        (b"01" + SAMPLED[2:] + b"what", False),
        (SAMPLED + b"-extra", False),
        (SAMPLED + b"\n", False),
        (b"ff" + SAMPLED[2:], False),
        (b"00-" + b"0" * 32 + SAMPLED[35:], False),
        (SAMPLED[:36] + b"0" * 16 + b"-01", False),
        (SAMPLED.upper(), False),
        (None, False),
    ],
)
def test_only_a_valid_header_gives_a_trace_id(traceparent: bytes | None, valid: bool) -> None:
    assert trace_id_of(traceparent) == (TRACE if valid else None)


def test_a_flag_byte_is_read_as_hex() -> None:
    tracing = Tracing(None, STAND_IN, lambda: None, 0.0)
    for flags in range(256):
        assert tracing.is_sampled(SAMPLED[:-2] + f"{flags:02x}".encode()) == bool(flags & 1)


def test_a_failing_export_is_logged_with_its_reason(collector: Collector) -> None:
    collector.status = 404
    code = f"""
from oracle.telemetry import logs
from oracle.telemetry.tracing import Tracing, TracingLimits
logs.configure("info", "json")
tracing = Tracing.open("oracle", {collector.url!r}, limits=TracingLimits(shutdown_s=60.0))
tracing.record("x", {SAMPLED!r}, 1, 2)
tracing.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    (line,) = done.stderr.splitlines()
    assert '"event": "Trace export fails"' in line
    assert "404" in line
