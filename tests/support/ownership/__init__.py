"""Who owns each byte of a connection, at every instant of a simulated stack, and applications to move them.

Reading order:

- ``ledger``: the claims of one direction at one instant, and what is wrong with them; knows bytes only
- ``messages``: the messages under way in a simulation, and what they carry
- ``walk``: the claims of all layers of a stack
- ``apps``: an application at each end of a connection, and what it has written and read
- ``faults``: deaths, stalls, goodbyes and restarts, and which error a fault explains
- ``ending``: everything is taken back, and nothing may be left over
- ``broken``: the error of a run that has shown something to be wrong
- ``play``: one run, from its seed: applications, moves, faults, checks, and the end, when all must be well
"""
