"""From parsed prompts to CONDITIONING: `tokens` cuts chunks (no torch), `weights` weighs, `clip` runs the encoder."""
