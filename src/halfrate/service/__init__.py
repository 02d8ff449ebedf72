"""The service: what every face calls. No face talks to a provider, a store or a file of a job itself."""
