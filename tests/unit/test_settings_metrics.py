"""The settings about metrics: which are sent, and with which labels."""

from __future__ import annotations

import pytest

from cdn77_exporter import settings
from cdn77_exporter.core.errors import ConfigError
from cdn77_exporter.core.measures import MEASURES
from cdn77_exporter.edge.receiver.query import selector
from tests.support.settings import LEAST


def faults(**more: str) -> list[str]:
    """What is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        settings.load(LEAST | more)
    return caught.value.faults


def test_external_labels_are_pairs_sorted_by_name() -> None:
    """Blanks around names and values do not count, and what is shown can be set again."""
    found = settings.load(LEAST | {"EXTERNAL_LABELS": " env = prod , account=a=b"})
    assert found.external_labels.pairs == (("account", "a=b"), ("env", "prod"))
    assert found.public()["EXTERNAL_LABELS"] == "account=a=b,env=prod"
    assert found.timeline_rules.external == found.external_labels.pairs
    assert not settings.load(LEAST).external_labels.pairs


def test_every_fault_of_external_labels_is_told_at_once() -> None:
    """Each label at fault is named by its place, with what is wrong with it."""
    (found,) = faults(EXTERNAL_LABELS="env,9a=b,__x=1,le=2,a=1,a=2,b=,c=\x07")
    for words in (
        "label 1 has no `=`",
        "label 2 has a name that is none",
        "label 3 has a name that is none",
        "label 4 is called `le`",
        "label 6 is called `a`, as one before it",
        "label 7 (`b`) has no value",
        "label 8 (`c`) has a value that is no plain text",
    ):
        assert words in found
    assert "label 5" not in found
    (found,) = faults(EXTERNAL_LABELS=",".join(f"a{number}=1" for number in range(31)))
    assert "31 labels are more" in found


def test_an_external_label_that_a_metric_has_is_refused() -> None:
    """The fault names the label and a metric that has it; a label that is left out of all metrics is free."""
    own = {label for row in MEASURES.rows for label in row.labels} - {"le"}  # which is nobody's own
    found = faults(EXTERNAL_LABELS=",".join(f"{name}=x" for name in sorted(own)))
    assert len(found) == len(own)
    pop = next(fault for fault in found if "`pop`" in fault)
    assert "cdn77_transfer_bytes_total and" in pop
    assert "such as `exporter_pop`" in pop
    assert faults(EXTERNAL_LABELS="backfill_window=1")[0].count("cdn77_exporter_check") == 1
    assert settings.load(LEAST | {"EXTERNAL_LABELS": "pop=x", "LABELS_OFF": "pop"}).external_labels.pairs


def test_metrics_are_switched_off_by_their_names_or_that_of_their_family() -> None:
    """A summary's name takes its sum and its count, and what is off is neither decoded nor sent."""
    found = settings.load(LEAST | {"METRICS_OFF": "cdn77_time_to_first_byte_seconds, cdn77_responses_total"})
    off = {row.name for row in MEASURES.rows} - {row.name for row in found.measures.rows}
    assert off == {
        "cdn77_responses_total",
        "cdn77_time_to_first_byte_seconds_sum",
        "cdn77_time_to_first_byte_seconds_count",
    }
    assert found.decoder_rules.measures == found.measures


def test_unknown_metrics_and_labels_are_refused_with_the_nearest() -> None:
    """All names that are wrong are told, each with what may have been meant."""
    (found,) = faults(METRICS_OFF="cdn77_request_total,cdn77_viewers_total,nonsense")
    assert "`cdn77_request_total` (did you mean `cdn77_requests_total`?)" in found
    assert "`nonsense` (there are" in found
    assert "`cdn77_viewers_total`" not in found
    (found,) = faults(LABELS_OFF="pop,stream_name")
    assert "names `stream_name`, which cannot be left out" in found
    (found,) = faults(METRICS_OFF=",".join(row.name for row in MEASURES.rows))
    assert found.startswith("METRICS_OFF leaves no metric")


def test_labels_are_left_out_of_the_metrics_that_have_them() -> None:
    """The others stay, in their order."""
    found = settings.load(LEAST | {"LABELS_OFF": "pop,cdn_id"}).measures
    requests, viewers = found.named("cdn77_requests_total"), found.named("cdn77_viewers_by_country_total")
    assert requests is not None
    assert requests.labels == ("stream_name", "cache_status")
    assert viewers is not None
    assert viewers.labels == ("stream_name", "country")


def test_a_selector_quotes_what_it_selects() -> None:
    """Labels of any text select the series that have them, and no labels select all."""
    assert selector({}) == ""
    assert selector({"a": 'x"\\\n', "b": "y"}) == '{a="x\\"\\\\\\n",b="y"}'
