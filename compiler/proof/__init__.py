"""Proof: every target is met, missed or not proved, from evidence that is kept and can be judged again."""
