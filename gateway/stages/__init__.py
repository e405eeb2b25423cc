"""One file per stage of the pipeline. A stage answers CONTINUE or a Refusal; what it found is on the Exchange."""
