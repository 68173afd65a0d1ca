"""``unitagent endpoints``: rank 0's address of each Unit that takes traffic, in the format of a load
balancer.
"""
