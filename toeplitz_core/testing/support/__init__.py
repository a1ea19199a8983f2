"""What belongs to no stage of the pipeline: suggestions for typos, whole files, finding modules."""
