"""A real one-node Kubernetes for the end-to-end tests: up and down by one command each. Knows nothing of fairqueue."""
