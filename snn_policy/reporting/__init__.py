"""What pictures and pages of results have in common, whatever they are about."""
