"""The metrics as Prometheus reads them: the one module that loads its library.

Only a gateway whose metrics are enabled imports it.  The library's own registry, which is global,
is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.histogram import Durations
from gatewayd.monitoring.metrics import (
    METRICS,
    PREFIX,
    Measured,
    Metric,
    MetricKind,
    Sample,
    samples,
)


class GatewayCollector:
    """A collector of the figures that it was given: what a registry asks for families."""

    def __init__(self, figures: GatewayFigures, measured: Measured) -> None:
        self._figures, self._measured = figures, measured

    def collect(self) -> Iterator[Family]:
        """Yield a family for each metric that has a sample."""
        values: dict[str, list[Sample]] = {}
        for sample in samples(self._figures, self._measured):
            values.setdefault(sample.metric, []).append(sample)
        durations: dict[str, list[tuple[tuple[str, ...], Durations]]] = {}
        for name, labels, observed in self._measured.histograms():
            durations.setdefault(name, []).append((labels, observed))
        for metric in METRICS:
            if metric.kind is MetricKind.HISTOGRAM:
                yield _histogram(metric, durations.get(metric.name, ()))
            else:
                yield _plain(metric, values.get(metric.name, ()))


def exposition(figures: GatewayFigures, measured: Measured) -> bytes:
    """Return the metrics in the text format of Prometheus, in UTF-8.

    The format: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format".
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatewayCollector(figures, measured))
    return bytes(generate_latest(registry))


def read(text: str) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
    """Yield name, type, labels and value of each sample in a text of that format."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, family.type, dict(sample.labels), sample.value


_FAMILIES: Mapping[MetricKind, type[GaugeMetricFamily | CounterMetricFamily]] = {
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.COUNTER: CounterMetricFamily,
}


def _plain(metric: Metric, found: Iterable[Sample]) -> Family:
    family = _FAMILIES[metric.kind](PREFIX + metric.name, metric.help, labels=metric.labels)
    for sample in found:
        family.add_metric(sample.labels, sample.value)
    return family


def _histogram(metric: Metric, found: Iterable[tuple[tuple[str, ...], Durations]]) -> Family:
    family = HistogramMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, observed in found:
        buckets = [(repr(bound), count) for bound, count in observed.buckets]
        family.add_metric(labels, [*buckets, ("+Inf", observed.number)], observed.total)
    return family
