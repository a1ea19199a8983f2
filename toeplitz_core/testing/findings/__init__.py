"""From failures to findings: what is known already, and under which conditions."""
