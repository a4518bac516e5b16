"""What makes report.html of a run directory, and the charts that fl-sim draws with as well."""
