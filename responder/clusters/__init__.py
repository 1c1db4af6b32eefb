"""Reads and writes clusters: Kubernetes now; AKS and Velero have their own homes. Never here: judgement."""
