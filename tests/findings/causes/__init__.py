"""Tests of the catalogue of causes."""
