"""Two runs compared: what each of them says in facts, and how the facts differ."""
