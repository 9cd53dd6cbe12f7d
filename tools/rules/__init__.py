"""The rules of Prometheus: one table, from which the plain files, the chart's and the mixin are written."""
