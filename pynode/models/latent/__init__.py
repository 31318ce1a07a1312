"""`LatentODE`: an encoder, a hidden equation, a decoder."""
