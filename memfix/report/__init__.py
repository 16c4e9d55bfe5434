"""From a run folder to report.json, report.html and a model card."""
