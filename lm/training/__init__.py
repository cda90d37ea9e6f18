"""Training: the LightningModule, its metrics and schedules, several processes, and what a run leaves."""
