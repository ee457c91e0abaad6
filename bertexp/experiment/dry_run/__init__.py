"""``trainer.dry_run``: what a run, or each job of a sweep, would take: measured, then reckoned."""
