"""From recorded observations to thresholds, quanta and predictors."""
