"""From files to examples to batches; knows nothing of models or losses."""
