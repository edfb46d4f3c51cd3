"""The only doors out: Kubernetes, Conductor, Events, metrics. Foreign errors are translated here, once."""
