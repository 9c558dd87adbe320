"""Documents (report.json, sweep.json, a comparison) and the pages that are made from them."""
