// Made by `python -m tools.rules` from tools/rules/table.py; change it there.
{
  prometheusRules+:: {
    groups+: [
      {
        name: 'cdn77-traffic',
        interval: '30s',
        rules: [
          {
            record: 'stream:cdn77_transfer_bits:rate5m',
            expr: |||
              sum without (cdn_id, cache_status, pop) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8
            ||| % $._config,
          },
          {
            record: 'stream_cdn_pop:cdn77_transfer_bits:rate5m',
            expr: |||
              sum without (cache_status) (rate(cdn77_transfer_bytes_total[5m] offset 90s)) * 8
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_requests:rate5m',
            expr: |||
              sum without (cdn_id, cache_status, pop) (rate(cdn77_requests_total[5m] offset 90s))
            ||| % $._config,
          },
          {
            record: 'cdn_cache_status:cdn77_requests:rate5m',
            expr: |||
              sum without (stream_name, pop) (rate(cdn77_requests_total[5m] offset 90s))
            ||| % $._config,
          },
          {
            record: 'stream_status:cdn77_responses:rate5m',
            expr: |||
              sum without (cdn_id, cache_status, pop) (rate(cdn77_responses_total[5m] offset 90s))
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_responses:rate5m',
            expr: |||
              sum without (response_status) (stream_status:cdn77_responses:rate5m)
            ||| % $._config,
          },
          // 0 and not nothing when there are requests and no error among them, so that an alert on it can resolve.
          {
            record: 'stream:cdn77_server_errors:rate5m',
            expr: |||
              sum without (response_status) (stream_status:cdn77_responses:rate5m{response_status=~"5.."})
              or stream:cdn77_responses:rate5m * 0
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate5m',
            expr: |||
              stream:cdn77_server_errors:rate5m / (stream:cdn77_responses:rate5m > 0)
            ||| % $._config,
          },
          // Hits are what came from the cache: REVALIDATED, UPDATING and STALE, too. EXPIRED was fetched from the
          // origin.
          {
            record: 'cdn:cdn77_hits:ratio_rate5m',
            expr: |||
              (
                sum without (stream_name, cache_status, pop) (rate(cdn77_requests_total{cache_status=~"HIT|REVALIDATED|STALE|UPDATING"}[5m] offset 90s))
                or sum without (stream_name, cache_status, pop) (rate(cdn77_requests_total[5m] offset 90s)) * 0
              )
              / (sum without (stream_name, cache_status, pop) (rate(cdn77_requests_total[5m] offset 90s)) > 0)
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_active_viewers:sum',
            expr: |||
              max without (window) (cdn77_active_viewers offset 90s)
            ||| % $._config,
          },
          {
            record: 'pop:cdn77_time_to_first_byte_seconds:mean5m',
            expr: |||
              sum without (stream_name, cdn_id, cache_status) (rate(cdn77_time_to_first_byte_seconds_sum[5m] offset 90s))
              / (sum without (stream_name, cdn_id, cache_status) (rate(cdn77_time_to_first_byte_seconds_count[5m] offset 90s)) > 0)
            ||| % $._config,
          },
        ],
      },
      {
        name: 'cdn77-delivery',
        interval: '30s',
        rules: [
          // 1 while an exporter is away, behind, or its receiver accepts nothing or not everything; else 0.
          {
            record: 'instance:cdn77_exporter_undelivered:bool',
            expr: |||
              (
                (up{%(exporterSelector)s} == 0 unless ignoring (what) (last_over_time(cdn77_exporter_problems{%(exporterSelector)s, what="standby"}[1d]) > 0))
                or (cdn77_exporter_watermark_lag_seconds{%(exporterSelector)s} > %(behindSeconds).15g)
                or (
                  cdn77_exporter_outbox_requests{%(exporterSelector)s} > 0
                  and time() - cdn77_exporter_last_push_success_timestamp_seconds{%(exporterSelector)s} > %(pushSeconds).15g
                )
                or (increase(cdn77_exporter_requests_refused_total{%(exporterSelector)s}[5m]) > 0)
                or (increase(cdn77_exporter_requests_dropped_total{%(exporterSelector)s}[5m]) > 0)
              ) * 0 + 1
              or up{%(exporterSelector)s} * 0
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio5m',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[5m]) * 30 / 300
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio30m',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[30m]) * 30 / 1800
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio1h',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[1h]) * 30 / 3600
            ||| % $._config,
          },
        ],
      },
      {
        name: 'cdn77-burn',
        interval: '60s',
        rules: [
          {
            record: 'stream:cdn77_server_errors:ratio_rate30m',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[30m]) / (sum_over_time(stream:cdn77_responses:rate5m[30m]) > 0)
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate1h',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[1h]) / (sum_over_time(stream:cdn77_responses:rate5m[1h]) > 0)
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate2h',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[2h]) / (sum_over_time(stream:cdn77_responses:rate5m[2h]) > 0)
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate6h',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[6h]) / (sum_over_time(stream:cdn77_responses:rate5m[6h]) > 0)
            ||| % $._config,
          },
        ],
      },
      {
        name: 'cdn77-burn-days',
        interval: '120s',
        rules: [
          {
            record: 'instance:cdn77_exporter_undelivered:ratio2h',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[2h]) * 30 / 7200
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio6h',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[6h]) * 30 / 21600
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio1d',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[1d]) * 30 / 86400
            ||| % $._config,
          },
          {
            record: 'instance:cdn77_exporter_undelivered:ratio3d',
            expr: |||
              sum_over_time(instance:cdn77_exporter_undelivered:bool[3d]) * 30 / 259200
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate1d',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[1d]) / (sum_over_time(stream:cdn77_responses:rate5m[1d]) > 0)
            ||| % $._config,
          },
          {
            record: 'stream:cdn77_server_errors:ratio_rate3d',
            expr: |||
              sum_over_time(stream:cdn77_server_errors:rate5m[3d]) / (sum_over_time(stream:cdn77_responses:rate5m[3d]) > 0)
            ||| % $._config,
          },
        ],
      },
    ],
  },
}
