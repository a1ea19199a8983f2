"""A subject where it cannot hurt the judge: workers, the fork server, the sandbox that owns them."""
