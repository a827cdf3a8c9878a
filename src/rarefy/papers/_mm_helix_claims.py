"""What paper 13 says, made testable: the claims of its recipe."""
WARM, GRPO, SFT, AHPO = "warm start", "GRPO", "SFT", "AHPO"
STATIC, LUFFY, SKELETON, SFT_GRPO = "AHPO static", "LUFFY", "SFT skeleton", "SFT then GRPO"
SOFT, ONLY, ONE, THREE = "AHPO soft", "AHPO target only", "AHPO R=1", "AHPO R=3"
