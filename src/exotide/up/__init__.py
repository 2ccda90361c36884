"""
`exotide up` and `exotide down`: the stack through Terraform, watched while it costs money.

`course` decides and is pure; `session` carries out; the rest are thin adapters: Terraform, the
operator's terminal and signals, the API, and a journal beside the state for the next start.
"""
