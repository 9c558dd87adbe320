"""Ship a model: make what each runtime needs, and check it against what was trained."""

from harness.ship.shipment import RUNTIMES, Runtime, ShipJob, Shipment, read_shipment
from harness.ship.shipping import ship

__all__ = ["RUNTIMES", "Runtime", "ShipJob", "Shipment", "read_shipment", "ship"]
