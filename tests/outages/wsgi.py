"""The product over a chain of the tests' own, whose network no setting can name.

`OUTAGES_NETWORK` is that network, in JSON; `OUTAGES_FACILITATOR` and `OUTAGES_NODE` are where its
facilitator and its node answer. `OUTAGES_HURRY`, a JSON object, sets constants of the product that
only say how long somebody waits.
"""

import importlib
import json
import os

from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.app import create_app
from x402jobs.domain.networks import Network
from x402jobs.settings import Settings
from x402jobs.wiring import build_services, money_over

for name, value in json.loads(os.environ["OUTAGES_HURRY"]).items():
    module, _, constant = name.rpartition(".")
    assert hasattr(importlib.import_module(module), constant), name
    setattr(importlib.import_module(module), constant, value)

settings = Settings.from_env()
network = Network(**json.loads(os.environ["OUTAGES_NETWORK"]))
remote = RemoteFacilitator(os.environ["OUTAGES_FACILITATOR"])
money = money_over(
    X402Facilitator(remote, [network]),
    RpcChain({network.id: os.environ["OUTAGES_NODE"]}, 0),
    [network],
    remote,
)
app = create_app(settings, build_services(settings, money))
