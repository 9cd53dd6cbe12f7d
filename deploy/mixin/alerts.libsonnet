// Made by `python -m tools.rules` from tools/rules/table.py; change it there.
{
  prometheusAlerts+:: {
    groups+: [
      {
        name: 'cdn77-exporter',
        rules: [
          {
            alert: 'Cdn77ExporterDown',
            expr: |||
              up{%(exporterSelector)s} == 0
              or absent(up{%(exporterSelector)s})
            ||| % $._config,
            'for': '%(downFor)s' % $._config,
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'An exporter cannot be scraped.',
              description: '{{ if $labels.instance }}{{ $labels.instance }} does not answer{{ else }}Prometheus has no exporter to scrape{{ end }}. Log files wait in the bucket; of two that share a state the other one works.',
              runbook_url: '%(runbookUrl)s#cdn77exporterdown' % $._config,
            },
          },
          {
            alert: 'Cdn77FewerExporters',
            expr: |||
              count by (job) (up{%(exporterSelector)s} == 1)
              < quantile_over_time(0.5, count by (job) (up{%(exporterSelector)s} == 1)[1d:5m])
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Fewer exporters run than usual.',
              description: '{{ $value }} exporters of the job {{ $labels.job }} run, fewer than on most of the day before. One that stood by may be gone, so that nobody takes over.',
              runbook_url: '%(runbookUrl)s#cdn77fewerexporters' % $._config,
            },
          },
          {
            alert: 'Cdn77Problem',
            expr: |||
              cdn77_exporter_problems{%(exporterSelector)s, what=~"%(criticalProblems)s"} > 0
            ||| % $._config,
            'for': '%(problemFor)s' % $._config,
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'An exporter says that numbers are missing.',
              description: '{{ $labels.instance }} has a problem with {{ $labels.what }}. Its /readyz and its status page say since when, and what to do.',
              runbook_url: '%(runbookUrl)s#cdn77problem' % $._config,
            },
          },
          {
            alert: 'Cdn77MinorProblem',
            expr: |||
              cdn77_exporter_problems{%(exporterSelector)s, what!~"%(criticalProblems)s|%(waitingProblems)s"} > 0
            ||| % $._config,
            'for': '%(problemFor)s' % $._config,
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An exporter says that something is wrong.',
              description: '{{ $labels.instance }} has a problem with {{ $labels.what }}. Its /readyz and its status page say since when, and what to do.',
              runbook_url: '%(runbookUrl)s#cdn77minorproblem' % $._config,
            },
          },
          {
            alert: 'Cdn77ExporterRestarts',
            expr: |||
              changes(process_start_time_seconds{%(exporterSelector)s}[30m]) > %(restarts).15g
            ||| % $._config,
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An exporter is restarted again and again.',
              description: '{{ $labels.instance }} was restarted {{ $value }} times in half an hour: it crashes and is started again. Nothing is lost by it, but something is wrong.',
              runbook_url: '%(runbookUrl)s#cdn77exporterrestarts' % $._config,
            },
          },
          {
            alert: 'Cdn77NoData',
            expr: |||
              (sum(rate(cdn77_requests_total[30m] offset 90s)) or vector(0))
              < %(deliveredRatio).15g * sum(
                rate(cdn77_exporter_events_total{%(exporterSelector)s}[30m] offset 90s)
                unless max_over_time(cdn77_exporter_watermark_lag_seconds{%(exporterSelector)s}[1h]) > %(behindSeconds).15g
              )
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Requests are counted but do not arrive in Prometheus.',
              description: 'The exporters count more requests than this Prometheus has: {{ $value | humanize }} a second arrive. One of them may push elsewhere.',
              runbook_url: '%(runbookUrl)s#cdn77nodata' % $._config,
            },
          },
          {
            alert: 'Cdn77NoLogFiles',
            expr: |||
              increase(cdn77_exporter_files_total{%(exporterSelector)s, outcome="counted"}[20m]) == 0
              unless on (job, instance) (cdn77_exporter_problems{%(exporterSelector)s, what="standby"} > 0)
            ||| % $._config,
            'for': '10m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'No log file has been counted for half an hour.',
              description: '{{ $labels.instance }} finds nothing new in its bucket. Either nobody watches, or the CDN does not deliver.',
              runbook_url: '%(runbookUrl)s#cdn77nologfiles' % $._config,
            },
          },
          {
            alert: 'Cdn77Behind',
            expr: |||
              cdn77_exporter_watermark_lag_seconds{%(exporterSelector)s} > %(behindSeconds).15g
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The numbers are behind.',
              description: 'Those of {{ $labels.instance }} are {{ $value | humanizeDuration }} behind. Usual are one to two minutes, and three when nothing arrives.',
              runbook_url: '%(runbookUrl)s#cdn77behind' % $._config,
            },
          },
          {
            alert: 'Cdn77FarBehind',
            expr: |||
              cdn77_exporter_watermark_lag_seconds{%(exporterSelector)s} > %(farBehindSeconds).15g
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The numbers are far behind.',
              description: 'Those of {{ $labels.instance }} are {{ $value | humanizeDuration }} behind. Past 55 minutes events count at a later tick than their own, since the receiver would refuse theirs.',
              runbook_url: '%(runbookUrl)s#cdn77farbehind' % $._config,
            },
          },
          {
            alert: 'Cdn77PollFailing',
            expr: |||
              time() - cdn77_exporter_last_poll_success_timestamp_seconds{%(exporterSelector)s} > %(pollSeconds).15g
              unless ignoring (what) (cdn77_exporter_problems{%(exporterSelector)s, what="standby"} > 0)
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The bucket cannot be listed.',
              description: '{{ $labels.instance }} has not listed its bucket for {{ $value | humanizeDuration }}. Log files wait there, and count as long as they are not older than seven days.',
              runbook_url: '%(runbookUrl)s#cdn77pollfailing' % $._config,
            },
          },
          {
            alert: 'Cdn77PushFailing',
            expr: |||
              time() - cdn77_exporter_last_push_success_timestamp_seconds{%(exporterSelector)s} > %(pushSeconds).15g
              and cdn77_exporter_outbox_requests{%(exporterSelector)s} > 0
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The receiver accepts nothing.',
              description: 'It has accepted nothing from {{ $labels.instance }} for {{ $value | humanizeDuration }}. Requests wait in the outbox and are sent again; log files stay in the bucket.',
              runbook_url: '%(runbookUrl)s#cdn77pushfailing' % $._config,
            },
          },
          {
            alert: 'Cdn77ReceiverMisconfigured',
            expr: |||
              increase(cdn77_exporter_receiver_misconfigured_total{%(exporterSelector)s}[5m]) > 0
              or cdn77_exporter_receiver_misconfigured_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 300)
            ||| % $._config,
            'for': '1m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The receiver rejects everything because of a wrong setting.',
              description: 'It rejects what {{ $labels.instance }} sends: credentials, address, certificate, or its remote-write receiver is switched off.',
              runbook_url: '%(runbookUrl)s#cdn77receivermisconfigured' % $._config,
            },
          },
          {
            alert: 'Cdn77RequestsRefused',
            expr: |||
              increase(cdn77_exporter_requests_refused_total{%(exporterSelector)s}[15m]) > 0
              or cdn77_exporter_requests_refused_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 900)
            ||| % $._config,
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The receiver refuses write requests.',
              description: 'It refused some of {{ $labels.instance }}. Those ticks stay empty; files are kept until later ticks have told their counts.',
              runbook_url: '%(runbookUrl)s#cdn77requestsrefused' % $._config,
            },
          },
          {
            alert: 'Cdn77RequestsDropped',
            expr: |||
              increase(cdn77_exporter_requests_dropped_total{%(exporterSelector)s}[1h]) > 0
              or cdn77_exporter_requests_dropped_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 3600)
            ||| % $._config,
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Write requests, or some of their series, were dropped.',
              description: 'The receiver of {{ $labels.instance }} fails on them while it takes others, or has failed on everything for PUSH_RETRY_SECONDS.',
              runbook_url: '%(runbookUrl)s#cdn77requestsdropped' % $._config,
            },
          },
          {
            alert: 'Cdn77StateNotWritten',
            expr: |||
              increase(cdn77_exporter_commit_failures_total{%(exporterSelector)s}[5m]) > 0
              or cdn77_exporter_commit_failures_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 300)
            ||| % $._config,
            'for': '1m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'The state cannot be written.',
              description: '{{ $labels.instance }} pushes and deletes nothing until it can. Usually the disk is full or read-only.',
              runbook_url: '%(runbookUrl)s#cdn77statenotwritten' % $._config,
            },
          },
          {
            alert: 'Cdn77FilesSetAside',
            expr: |||
              cdn77_exporter_files_set_aside{%(exporterSelector)s} > 0
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Log files cannot be read.',
              description: '{{ $value }} log files cannot be read by {{ $labels.instance }}. They are not counted and not deleted.',
              runbook_url: '%(runbookUrl)s#cdn77filessetaside' % $._config,
            },
          },
          {
            alert: 'Cdn77FilesQuarantined',
            expr: |||
              increase(cdn77_exporter_quarantined_files_total{%(exporterSelector)s}[6h]) > 0
              or cdn77_exporter_quarantined_files_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 21600)
            ||| % $._config,
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Log files that cannot be read were moved to QUARANTINE_PREFIX.',
              description: '{{ $labels.instance }} moved {{ $value | humanize }} of them in six hours. They are not counted, and stay there until somebody releases or removes them.',
              runbook_url: '%(runbookUrl)s#cdn77filesquarantined' % $._config,
            },
          },
          {
            alert: 'Cdn77Gaps',
            expr: |||
              increase(cdn77_exporter_skipped_files_total{%(exporterSelector)s}[1h]) > 0
              or cdn77_exporter_skipped_files_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 3600)
            ||| % $._config,
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Log files are missing.',
              description: 'The sequence numbers that {{ $labels.instance }} finds{{ with $labels.shard }} in shard {{ . }}{{ end }} skip about {{ $value | humanize }} files in the last hour. What they held is not counted.',
              runbook_url: '%(runbookUrl)s#cdn77gaps' % $._config,
            },
          },
          {
            alert: 'Cdn77ShardLagging',
            expr: |||
              cdn77_exporter_shard_state{%(exporterSelector)s, state="lagging"} == 1
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A shard is far behind the others.',
              description: 'Requests of shard {{ $labels.shard }}, which {{ $labels.instance }} reads, count late, in whatever minute they arrive. The other shards do not wait for it.',
              runbook_url: '%(runbookUrl)s#cdn77shardlagging' % $._config,
            },
          },
          {
            alert: 'Cdn77ShardSilent',
            expr: |||
              cdn77_exporter_shard_state{%(exporterSelector)s, state="silent"} == 1
              and ignoring (state) (time() - cdn77_exporter_shard_newest_event_timestamp_seconds{%(exporterSelector)s} < 3600)
              and ignoring (state, shard) (cdn77_exporter_shards{%(exporterSelector)s, state="current"} > 0)
            ||| % $._config,
            'for': '10m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A shard delivers nothing while others do.',
              description: 'Shard {{ $labels.shard }}, which {{ $labels.instance }} reads, has nothing new. If it still writes log files, their requests are missing. After an hour it is taken for one that has ended.',
              runbook_url: '%(runbookUrl)s#cdn77shardsilent' % $._config,
            },
          },
          {
            alert: 'Cdn77LateEvents',
            expr: |||
              rate(cdn77_exporter_late_events_total{%(exporterSelector)s}[30m])
              / (rate(cdn77_exporter_events_total{%(exporterSelector)s}[30m]) > 0) > %(lateRatio).15g
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Events come late.',
              description: '{{ $value | humanizePercentage }} of the events of {{ $labels.instance }} come late. They count, but at a later tick than their own, so that short spans are not exact.',
              runbook_url: '%(runbookUrl)s#cdn77lateevents' % $._config,
            },
          },
          {
            alert: 'Cdn77Rejects',
            expr: |||
              sum without (reason) (
                rate(cdn77_exporter_rejects_total{%(exporterSelector)s, reason!~"no_stream|stream_not_allowed"}[30m])
              )
              / (rate(cdn77_exporter_lines_total{%(exporterSelector)s}[30m]) > 0) > %(rejectsRatio).15g
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Log lines are rejected.',
              description: '{{ $labels.instance }} rejects {{ $value | humanizePercentage }} of the log lines. The log format may have changed. Lines without a stream, which are usual, are left out.',
              runbook_url: '%(runbookUrl)s#cdn77rejects' % $._config,
            },
          },
          {
            alert: 'Cdn77IgnoredFields',
            expr: |||
              rate(cdn77_exporter_ignored_fields_total{%(exporterSelector)s}[30m])
              / ignoring (field) group_left () (rate(cdn77_exporter_events_total{%(exporterSelector)s}[30m]) > 0)
              > %(ignoredFieldsRatio).15g
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A field of the log lines is malformed.',
              description: '{{ $labels.field }} is malformed in {{ $value | humanizePercentage }} of the requests that {{ $labels.instance }} counts. They count without it. The log format may have changed.',
              runbook_url: '%(runbookUrl)s#cdn77ignoredfields' % $._config,
            },
          },
          {
            alert: 'Cdn77DeleteFailing',
            expr: |||
              increase(cdn77_exporter_delete_failures_total{%(exporterSelector)s}[30m]) > 0
              or cdn77_exporter_delete_failures_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 1800)
            ||| % $._config,
            'for': '30m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'Counted files cannot be deleted.',
              description: '{{ $labels.instance }} does not count them again, but the bucket grows and listing it takes longer.',
              runbook_url: '%(runbookUrl)s#cdn77deletefailing' % $._config,
            },
          },
          {
            alert: 'Cdn77LimitReached',
            expr: |||
              increase(cdn77_exporter_limits_reached_total{%(exporterSelector)s}[1h]) > 0
              or cdn77_exporter_limits_reached_total{%(exporterSelector)s} > 0
              and on (job, instance) (time() - process_start_time_seconds{%(exporterSelector)s} < 3600)
            ||| % $._config,
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A limit is reached.',
              description: '{{ $labels.instance }} has reached {{ $labels.limit }}. New streams count together as stream_name="other".',
              runbook_url: '%(runbookUrl)s#cdn77limitreached' % $._config,
            },
          },
          {
            alert: 'Cdn77ClockSkew',
            expr: |||
              abs(cdn77_exporter_clock_skew_seconds{%(exporterSelector)s}) > %(clockSkewSeconds).15g
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: "The exporter's clock and the bucket's differ.",
              description: "That of {{ $labels.instance }} is {{ $value | humanizeDuration }} off the bucket's. The one that the newest events agree with is believed, so that numbers stay right. If nothing decides, no sample is written.",
              runbook_url: '%(runbookUrl)s#cdn77clockskew' % $._config,
            },
          },
          {
            alert: 'Cdn77GeoIpOld',
            expr: |||
              time() - (cdn77_exporter_geoip_database_build_timestamp_seconds{%(exporterSelector)s} > 0)
              > %(geoipDays).15g * 86400
            ||| % $._config,
            'for': '1h',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The GeoIP database is old.',
              description: 'That of {{ $labels.instance }} is {{ $value | humanizeDuration }} old. Countries and regions of viewers become wrong with time. A new file is opened without a restart.',
              runbook_url: '%(runbookUrl)s#cdn77geoipold' % $._config,
            },
          },
        ],
      },
      {
        name: 'cdn77-traffic-alerts',
        rules: [
          {
            alert: 'Cdn77ServerErrors',
            expr: |||
              stream:cdn77_server_errors:ratio_rate5m > %(serverErrorRatio).15g
              and stream:cdn77_requests:rate5m > %(minRequests).15g
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'Viewers of a stream get errors.',
              description: '{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} are 5xx.',
              runbook_url: '%(runbookUrl)s#cdn77servererrors' % $._config,
            },
          },
          {
            alert: 'Cdn77HitRatioDrop',
            expr: |||
              cdn:cdn77_hits:ratio_rate5m < %(hitRatioDrop).15g * avg_over_time(cdn:cdn77_hits:ratio_rate5m[1h] offset 30m)
              and sum without (cache_status) (cdn_cache_status:cdn77_requests:rate5m) > %(minRequests).15g
            ||| % $._config,
            'for': '10m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'The cache of a CDN answers less than it did.',
              description: 'The hit ratio of CDN {{ $labels.cdn_id }} fell to {{ $value | humanizePercentage }}. The hour before it was higher; now the origin gets more requests.',
              runbook_url: '%(runbookUrl)s#cdn77hitratiodrop' % $._config,
            },
          },
          {
            alert: 'Cdn77ViewersDrop',
            expr: |||
              stream:cdn77_active_viewers:sum < %(viewersDrop).15g * max_over_time(stream:cdn77_active_viewers:sum[3h])
              and max_over_time(stream:cdn77_active_viewers:sum[3h]) > %(minViewers).15g
            ||| % $._config,
            'for': '10m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A stream has lost viewers.',
              description: 'Stream {{ $labels.stream_name }} has {{ $value }} viewers, far fewer than the most within three hours.',
              runbook_url: '%(runbookUrl)s#cdn77viewersdrop' % $._config,
            },
          },
          {
            alert: 'Cdn77TrafficDrop',
            expr: |||
              stream:cdn77_requests:rate5m < %(trafficDrop).15g * avg_over_time(stream:cdn77_requests:rate5m[1h] offset 10m)
              and avg_over_time(stream:cdn77_requests:rate5m[1h] offset 10m) > %(minRequests).15g
            ||| % $._config,
            'for': '5m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A stream has lost requests.',
              description: 'Requests of stream {{ $labels.stream_name }} fell to {{ $value | humanize }} a second, far fewer than in the hour before. Viewers stay in their window for long; requests tell at once.',
              runbook_url: '%(runbookUrl)s#cdn77trafficdrop' % $._config,
            },
          },
        ],
      },
      {
        name: 'cdn77-burn-alerts',
        rules: [
          {
            alert: 'Cdn77StreamErrorsBurnFast',
            expr: |||
              (
              (
                stream:cdn77_server_errors:ratio_rate1h > 14.4 * %(errorBudget).15g
                and stream:cdn77_server_errors:ratio_rate5m > 14.4 * %(errorBudget).15g
              )
              or
              (
                stream:cdn77_server_errors:ratio_rate6h > 6 * %(errorBudget).15g
                and stream:cdn77_server_errors:ratio_rate30m > 6 * %(errorBudget).15g
              )
              )
              and stream:cdn77_requests:rate5m > %(minRequests).15g
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'A stream uses up its budget of errors within days.',
              description: '{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} were 5xx in the last hours. At this rate the errors that 30 days may have are reached in five days or sooner.',
              runbook_url: '%(runbookUrl)s#cdn77streamerrorsburnfast' % $._config,
            },
          },
          {
            alert: 'Cdn77StreamErrorsBurnSlow',
            expr: |||
              (
              (
                stream:cdn77_server_errors:ratio_rate1d > 3 * %(errorBudget).15g
                and stream:cdn77_server_errors:ratio_rate2h > 3 * %(errorBudget).15g
              )
              or
              (
                stream:cdn77_server_errors:ratio_rate3d > 1 * %(errorBudget).15g
                and stream:cdn77_server_errors:ratio_rate6h > 1 * %(errorBudget).15g
              )
              )
              and stream:cdn77_requests:rate5m > %(minRequests).15g
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'A stream uses up its budget of errors within the month.',
              description: '{{ $value | humanizePercentage }} of the answers of stream {{ $labels.stream_name }} were 5xx in the last days. At this rate the errors that 30 days may have are reached within the month.',
              runbook_url: '%(runbookUrl)s#cdn77streamerrorsburnslow' % $._config,
            },
          },
          {
            alert: 'Cdn77DeliveryBurnFast',
            expr: |||
              (
                instance:cdn77_exporter_undelivered:ratio1h > 14.4 * %(deliveryBudget).15g
                and instance:cdn77_exporter_undelivered:ratio5m > 14.4 * %(deliveryBudget).15g
              )
              or
              (
                instance:cdn77_exporter_undelivered:ratio6h > 6 * %(deliveryBudget).15g
                and instance:cdn77_exporter_undelivered:ratio30m > 6 * %(deliveryBudget).15g
              )
            ||| % $._config,
            'for': '2m',
            labels: {
              severity: 'critical',
            },
            annotations: {
              summary: 'An exporter has delivered late or nothing for much of the last hours.',
              description: '{{ $labels.instance }} was away, behind, or not accepted for {{ $value | humanizePercentage }} of the last hours. At this rate the budget of 30 days is used up in five days or sooner.',
              runbook_url: '%(runbookUrl)s#cdn77deliveryburnfast' % $._config,
            },
          },
          {
            alert: 'Cdn77DeliveryBurnSlow',
            expr: |||
              (
                instance:cdn77_exporter_undelivered:ratio1d > 3 * %(deliveryBudget).15g
                and instance:cdn77_exporter_undelivered:ratio2h > 3 * %(deliveryBudget).15g
              )
              or
              (
                instance:cdn77_exporter_undelivered:ratio3d > 1 * %(deliveryBudget).15g
                and instance:cdn77_exporter_undelivered:ratio6h > 1 * %(deliveryBudget).15g
              )
            ||| % $._config,
            'for': '15m',
            labels: {
              severity: 'warning',
            },
            annotations: {
              summary: 'An exporter has delivered late or nothing for some of the last days.',
              description: '{{ $labels.instance }} was away, behind, or not accepted for {{ $value | humanizePercentage }} of the last days. At this rate the budget of 30 days is used up within the month.',
              runbook_url: '%(runbookUrl)s#cdn77deliveryburnslow' % $._config,
            },
          },
        ],
      },
    ],
  },
}
