"""What operators are given: image, Compose file, manifests, rules, dashboards and the release."""
