"""Training on Ray: the job, its series, its progress, its page, and walk-forward folds."""
