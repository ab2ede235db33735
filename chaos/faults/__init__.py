"""The faults, one small class each."""

from chaos.faults.agent import Agent
from chaos.faults.cut import Cut
from chaos.faults.deploy import Deploy
from chaos.faults.down import Down
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.pause import Pause
from chaos.faults.provider import Provider
from chaos.faults.stop import Stop

AnyFault = Agent | Cut | Deploy | Down | Kill | Latency | Pause | Provider | Stop
