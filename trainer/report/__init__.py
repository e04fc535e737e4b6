"""What a version is judged by: tables, plots and the model card."""
