"""How tasks are executed: in this process, or by judges, each in its own process."""
