"""What people import: hosts of their own, with the shape of ``socket`` and ``asyncio``.

The shape, from the bottom (``from hoststack import ...`` has the public names)::

    scripts         Script, Wait: what to do, and what to wait for, as generators. Sans-I/O.
    socket_scripts  connect, accept, receive, send, ... on the stack, as scripts. Sans-I/O.
    errors          HostTimeout, HostClosed, HostForked
    runners         Runner: runs scripts on a driver. ProcessRunner: in the calls of one thread.
                    SimulationRunner: on virtual time.
    thread_runner   ThreadRunner: in a thread of its own, for any number of calling threads (the default)
    attaching       how a host joins the bus: the runner, the wait, what it says of itself
    arguments       checks of addresses that a program passes
    endpoints       what connections and servers say of themselves
    files, sockets  Connection and Server, with the methods of socket.socket
    network         Network: connect, listen and ping on a stack and a runner
    chimney, host   Chimney: operations on state objects. Host: a Chimney that attaches and leaves
    live            LiveHost has a Network and a Chimney

Who waits, and how, is the only difference between a thread of its own, ``threaded=False`` and the simulation.
What is done between two waits is written once, in scripts, and runs where the driver is owned, so it needs no
locks. The folder does not know the wire, NDIS calls and block lists: it asks the drivers of ``live/`` and
``chimney/`` below it.

``network``, ``sockets`` and ``files`` name one another for the type checker, a circle: a network makes
connections, a connection makes files, and each keeps what made it.
"""
