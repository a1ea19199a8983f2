"""Run a subject in a separate process: workers, the fork server, and the sandbox that owns them."""
