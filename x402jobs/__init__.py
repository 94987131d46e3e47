"""Sell a Claude prompt by the call: x402 payments in, streamed answers out.

Importing the package imports nothing: the command's help would wait two seconds for it.
`x402jobs.app` has `create_app`.
"""
