// The dashboards that deploy/grafana/build.py makes.
{
  grafanaDashboards+:: {
    'traffic.json': import '../grafana/dashboards/traffic.json',
    'exporter.json': import '../grafana/dashboards/exporter.json',
    'logs.json': import '../grafana/dashboards/logs.json',
  },
}
