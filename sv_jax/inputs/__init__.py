"""Messages to arrays: videos, processor, visual prompts, chat, packing, buckets, and a small tokenizer."""
