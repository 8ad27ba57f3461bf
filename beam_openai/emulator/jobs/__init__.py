"""What takes its time: fine-tuning of both kinds and batches, from their beginning to their end by the clock."""
