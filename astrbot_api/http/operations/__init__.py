"""What operators and their tools ask: is it alive, is it ready, what does it do."""
