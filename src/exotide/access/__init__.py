"""
What an operator's shell and key give, found out before anything is made: harmless, and told.

`keys`: whose key; `shell`: which cloud the variables mean; `zones`: where its zones answer and what
time it is there; `rights`: what the key may do; `quota`: how much room the account has.
"""
