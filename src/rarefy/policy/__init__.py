"""Reinforcement learning with verifiable rewards on token policies."""
