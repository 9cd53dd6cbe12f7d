// The mixin: rules, alerts and dashboards, for those who build theirs with jsonnet. Settings are in config.libsonnet.
(import 'config.libsonnet') +
(import 'rules.libsonnet') +
(import 'alerts.libsonnet') +
(import 'dashboards.libsonnet')
