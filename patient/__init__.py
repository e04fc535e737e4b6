"""What training and serving agree on: the record, its encoding, and what a model file promises."""
