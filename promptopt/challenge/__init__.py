"""The MEDVQA-GI challenge: submissions of both editions, and a look at them before they go out."""
