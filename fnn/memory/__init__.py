"""What a network keeps for its backward: counted, chosen, and stored in fewer bits."""

from fnn.memory.accounting import Memory as Memory
from fnn.memory.accounting import report as report
from fnn.memory.bits import Bits as Bits
from fnn.memory.chains import Plan as Plan
from fnn.memory.codecs import Codec as Codec
from fnn.memory.codecs import Offloaded as Offloaded
from fnn.memory.codecs import Rounded as Rounded
from fnn.memory.collectives import PerDevice as PerDevice
from fnn.memory.hlo import Collective as Collective
from fnn.memory.planner import fit as fit
from fnn.memory.planner import plans as plans
from fnn.memory.storing import Stored as Stored
from fnn.memory.storing import stored as stored
