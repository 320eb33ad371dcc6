"""What operators of the process see: JSON logs, Prometheus metrics, OpenTelemetry traces."""
