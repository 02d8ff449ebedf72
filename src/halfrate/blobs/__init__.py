"""Files of jobs: where they are, and how they become durable."""
