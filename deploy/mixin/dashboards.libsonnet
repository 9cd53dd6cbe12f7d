// The dashboards that `python -m tools.dashboards` makes.
{
  grafanaDashboards+:: {
    'traffic.json': import '../grafana/dashboards/traffic.json',
    'stream.json': import '../grafana/dashboards/stream.json',
    'exporter.json': import '../grafana/dashboards/exporter.json',
    'logs.json': import '../grafana/dashboards/logs.json',
  },
}
