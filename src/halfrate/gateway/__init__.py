"""The gateway: OpenAI's and Anthropic's own APIs in front of every provider that halfrate knows."""
