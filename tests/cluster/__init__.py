"""Tests of clusters and of shared memory, against real servers. ``tox -e cluster`` runs them."""
