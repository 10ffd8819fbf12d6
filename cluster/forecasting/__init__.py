"""A forecast run: plan, stream, replicas, staging, commit."""
