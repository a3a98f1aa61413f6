"""Preparing profiles: filters, normalisation, ranks, selection and imputation, streamed plate by plate.

Three rules hold for every step:

- a value that is not finite (NaN or infinite) is missing: statistics and ranks leave it out, and it passes through
  unchanged until an ``impute`` step replaces it;
- a dropped feature is dropped from every plate, and listed in the report with the step and the reason;
- no step changes the number or the order of the rows.
"""
