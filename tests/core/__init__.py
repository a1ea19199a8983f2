"""Tests of the core package, without the testing tools."""
